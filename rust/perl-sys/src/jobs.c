/* The pieces of Perl code that are run protected: what may run code of the
 * program's, or die. */
#include "boundary.h"
#include <poll.h>

/* Calls job->code. Leaves the values on the stack, and says how many there are. */
static I32
plx_call_code(pTHX_ plx_job *job, I32 flags)
{
    dSP;
    size_t i;
    I32 count;

    PUSHMARK(SP);
    EXTEND(SP, (SSize_t)job->argc);
    for (i = 0; i < job->argc; i++)
        PUSHs(job->args[i]);
    PUTBACK;
    errno = 0;
    count = call_sv(job->code, flags);
    job->error = errno;
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

/* Calls it in scalar context, and reads its value, which stays until the job ends. */
static SV *
plx_call_scalar(pTHX_ plx_job *job)
{
    dSP;
    SV *sv;
    plx_call_code(aTHX_ job, G_SCALAR);
    SPAGAIN;
    sv = POPs;
    PUTBACK;
    SvGETMAGIC(sv);
    return sv;
}

static void
plx_run_call(pTHX_ plx_job *job)
{
    SV *const sv = plx_call_scalar(aTHX_ job);
    job->defined = SvOK(sv);
    job->iv[0] = SvIV_nomg(sv);
}

/* A copy of the value, for C code that converts it, so that this runs no code. */
void
plx_run_call_value(pTHX_ plx_job *job)
{
    SV *const sv = plx_call_scalar(aTHX_ job);
    job->value = SvROK(sv) ? newSViv(SvIV_nomg(sv)) : newSVsv_nomg(sv);
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
    TAINT_NOT; /* the copy is nobody's data; whoever has to refuse tainted data has done so */
    job->defined = SvOK(sv);
    if (!job->defined)
        return;
    copy = sv_newmortal();
    if (SvPOK(sv))
        sv_setsv_nomg(copy, sv);
    else
        sv_copypv_nomg(copy, sv);
    if (SvUTF8(copy) && !sv_utf8_downgrade(copy, TRUE))
        croak("Wide character in %s", job->what);
    job->value = SvREFCNT_inc_simple_NN(copy);
}

/* The scalar stays tainted, and keeps its pos, as under C bindings, which write to it
 * and do not assign. */
static void
plx_assign(pTHX_ SV *sv, SV *value)
{
    const int tainted = SvTAINTED(sv);
    MAGIC *mg = SvMAGICAL(sv) ? mg_find(sv, PERL_MAGIC_regex_global) : NULL;
    const SSize_t pos = mg ? mg->mg_len : 0;
    sv_setsv(sv, value);
    SvSETMAGIC(sv);
    if (tainted)
        SvTAINTED_on(sv);
    mg = mg ? mg_find(sv, PERL_MAGIC_regex_global) : NULL;
    if (mg)
        mg->mg_len = pos;
}

static void
plx_run_assign(pTHX_ plx_job *job)
{
    SV *const sv = job->sv;
    if (SvTYPE(sv) > SVt_PVLV || (isGV_with_GP(sv) && !SvFAKE(sv)))
        croak("Can't store data in a %s, only in a scalar", sv_reftype(sv, 0));
    plx_assign(aTHX_ sv, job->value);
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

/* Waits until the descriptor job->iv[0] is readable, for job->iv[1] milliseconds at most
 * where that is not negative: job->count. A signal that has a handler ends the wait. */
static void
plx_run_wait(pTHX_ plx_job *job)
{
    struct pollfd ready;
    sigset_t all, program;
    ready.fd = (int)job->iv[0];
    ready.events = POLLIN;
    /* A signal that comes between the look and the wait must end the wait, too. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &program);
    job->count = 0;
    if (!PL_sig_pending) {
#ifdef __APPLE__ /* knows no ppoll; untried */
        const int most = 50;
        const int time = job->iv[1] < 0 || job->iv[1] > most ? most : (int)job->iv[1];
        pthread_sigmask(SIG_SETMASK, &program, NULL);
        job->count = poll(&ready, 1, time) == 1;
#else
        struct timespec time;
        time.tv_sec = (time_t)(job->iv[1] / 1000);
        time.tv_nsec = (long)(job->iv[1] % 1000) * 1000000;
        job->count = ppoll(&ready, 1, job->iv[1] < 0 ? NULL : &time, &program) == 1;
#endif
    }
    pthread_sigmask(SIG_SETMASK, &program, NULL);
}

PLX_JOB(call)
PLX_JOB(call_discard)
PLX_JOB(call_pair)
PLX_JOB(uv)
PLX_JOB(iv)
PLX_JOB(integer)
PLX_JOB(get)
PLX_JOB(bytes)
PLX_JOB(assign)
PLX_JOB(release)
PLX_JOB(signals)
PLX_JOB(wait)
PLX_JOB(nv)
PLX_JOB(truth)
PLX_JOB(code)
