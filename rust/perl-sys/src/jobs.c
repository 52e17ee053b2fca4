/* The pieces of Perl code that are run protected: what may run code of the
 * program's, or die. */
#include "boundary.h"

/* Like plx_protect, for code that the program wrote: $^S is what it would be
 * without the eval around it, and so is a death that nobody catches. */
static plx_status
plx_protect_callback(pTHX_ plx_job *job)
{
    job->in_eval = PL_in_eval;
    return plx_protect(aTHX_ job);
}

/* Calls job->code. Leaves the values on the stack, and says how many there are. */
static I32
plx_call_code(pTHX_ plx_job *job, I32 flags)
{
    dSP;
    size_t i;
    I32 count;
    const U8 in_eval = PL_in_eval;

    PL_in_eval = (U8)job->in_eval;
    PUSHMARK(SP);
    EXTEND(SP, (SSize_t)job->argc);
    for (i = 0; i < job->argc; i++)
        PUSHs(job->args[i]);
    PUTBACK;
    errno = 0;
    count = call_sv(job->code, flags);
    job->error = errno;
    PL_in_eval = in_eval;
    return count;
}

static long long
plx_integer(pTHX_ SV *sv)
{
#ifdef USE_64_BIT_ALL
    return SvIV(sv);
#else
    return strtoll(SvPV_nolen(sv), NULL, 10);
#endif
}

static void
plx_run_call(pTHX_ plx_job *job)
{
    dSP;
    SV *sv;
    plx_call_code(aTHX_ job, G_SCALAR);
    SPAGAIN;
    sv = POPs;
    PUTBACK;
    SvGETMAGIC(sv);
    job->defined = SvOK(sv);
    job->iv[0] = SvIV_nomg(sv);
}

static void
plx_run_call_pair(pTHX_ plx_job *job)
{
    dSP;
    job->count = plx_call_code(aTHX_ job, G_LIST);
    SPAGAIN;
    if (job->count == 2) {
        SV *second = POPs;
        SV *first = POPs;
        job->defined = SvOK(first) && SvOK(second);
        job->iv[0] = plx_integer(aTHX_ first);
        job->iv[1] = plx_integer(aTHX_ second);
    }
    else {
        SP -= job->count;
    }
    PUTBACK;
}

static void
plx_run_call_discard(pTHX_ plx_job *job)
{
    plx_call_code(aTHX_ job, G_SCALAR | G_DISCARD);
}

static void
plx_run_uv(pTHX_ plx_job *job)
{
    job->uv = SvUV(job->sv);
}

static void
plx_run_iv(pTHX_ plx_job *job)
{
    job->iv[0] = SvIV(job->sv);
}

static void
plx_run_integer(pTHX_ plx_job *job)
{
    job->iv[0] = plx_integer(aTHX_ job->sv);
}

/* job->nv, and in job->count whether it was a number at all. */
static void
plx_run_nv(pTHX_ plx_job *job)
{
    SV *const sv = job->sv;
    SvGETMAGIC(sv);
    job->defined = SvOK(sv);
    job->count = SvROK(sv) ? SvAMAGIC(sv) != 0 : looks_like_number(sv) != 0;
    if (job->count)
        job->nv = (double)SvNV_nomg(sv);
}

static void
plx_run_truth(pTHX_ plx_job *job)
{
    job->count = SvTRUE(job->sv);
}

/* Whether it is code, or an object that can be called as such. */
static void
plx_run_code(pTHX_ plx_job *job)
{
    SV *sv = job->sv;
    SvGETMAGIC(sv);
    job->defined = SvOK(sv);
    if (SvROK(sv) && SvAMAGIC(sv))
        sv = amagic_deref_call(sv, to_cv_amg);
    job->count = SvROK(sv) && SvTYPE(SvRV(sv)) == SVt_PVCV;
}

static void
plx_run_get(pTHX_ plx_job *job)
{
    SvGETMAGIC(job->sv);
}

/* job->value becomes a scalar of the caller's own that holds job->sv's bytes. */
static void
plx_run_bytes(pTHX_ plx_job *job)
{
    SV *const sv = job->sv;
    SV *copy;
    SvGETMAGIC(sv);
    job->defined = SvOK(sv);
    if (!job->defined)
        return;
    copy = sv_newmortal();
    if (SvPOK(sv))
        sv_setsv_nomg(copy, sv);
    else
        sv_copypv_nomg(copy, sv);
    if (SvUTF8(copy) && !sv_utf8_downgrade(copy, TRUE))
        croak("Wide character in %s", (const char *)job->code);
    job->value = SvREFCNT_inc_simple_NN(copy);
}

static void
plx_run_assign(pTHX_ plx_job *job)
{
    SV *const sv = job->sv;
    if (SvTYPE(sv) > SVt_PVLV || (isGV_with_GP(sv) && !SvFAKE(sv)))
        croak("Can't store data in a %s, only in a scalar", sv_reftype(sv, 0));
    sv_setsv(sv, job->value);
    SvSETMAGIC(sv);
}

static void
plx_run_release(pTHX_ plx_job *job)
{
    SvREFCNT_dec_NN(job->sv);
}

static void
plx_run_signals(pTHX_ plx_job *job)
{
    PERL_UNUSED_ARG(job);
    PERL_ASYNC_CHECK();
}

PLX_JOB(call, plx_protect_callback)
PLX_JOB(call_discard, plx_protect_callback)
PLX_JOB(call_pair, plx_protect_callback)
PLX_JOB(uv, plx_protect)
PLX_JOB(iv, plx_protect)
PLX_JOB(integer, plx_protect)
PLX_JOB(get, plx_protect)
PLX_JOB(bytes, plx_protect)
PLX_JOB(assign, plx_protect)
PLX_JOB(release, plx_protect)
PLX_JOB(signals, plx_protect)
PLX_JOB(nv, plx_protect)
PLX_JOB(truth, plx_protect)
PLX_JOB(code, plx_protect)
