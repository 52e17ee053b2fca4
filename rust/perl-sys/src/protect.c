/* Running Perl code so that its death comes back as a value, and raising it
 * again once nothing of Rust is left on the C stack. */
#include "boundary.h"

#define MY_CXT_KEY "plx::interpreter" XS_VERSION

/* The arguments of the method that runs: Perl's stack holds no counts of them. */
typedef struct plx_frame {
    SV **args;
    I32 items;
    int pinned;
    struct plx_frame *outer;
} plx_frame;

typedef struct {
    CV *runner;          /* an XSUB that runs `job`: what call_sv can wrap in an eval */
    plx_job *job;
    plx_frame *frame;    /* the innermost method's */
    const char *watched; /* a package variable's name */
    GV *watched_gv;
} my_cxt_t;
START_MY_CXT

XS(plx_run_job);
XS(plx_run_job)
{
    dXSARGS;
    dMY_CXT;
    plx_job *job = MY_CXT.job;
    OP *const op = PL_op;
    PERL_UNUSED_VAR(items);
    ENTER;
    PL_op = job->op; /* warnings name what the program did */
    job->run(aTHX_ job);
    LEAVE; /* before the op is ours again: call_sv has left it on the savestack */
    PL_op = op;
    job->finished = 1;
    XSRETURN_EMPTY;
}

static void
plx_context_fill(pTHX_ my_cxt_t *context)
{
    context->runner = newXS(NULL, plx_run_job, __FILE__);
    context->job = NULL;
    context->frame = NULL;
    context->watched_gv =
        context->watched ? gv_fetchpv(context->watched, GV_ADDMULTI, SVt_PV) : NULL;
}

void
plx_interpreter_init(void *perl, const char *watched)
{
    dTHXa(perl);
    MY_CXT_INIT;
    MY_CXT.watched = watched;
    plx_context_fill(aTHX_ &MY_CXT);
}

/* The package's CLONE: a new thread begins with a copy of its parent's pointers. */
XS(plx_clone)
{
    dXSARGS;
    PERL_UNUSED_VAR(items);
    {
        MY_CXT_CLONE;
        plx_context_fill(aTHX_ &MY_CXT);
    }
    XSRETURN_EMPTY;
}

/* Perl code may free what the arguments are taken from: from the first piece
 * that runs they are held until the caller's next statement. */
static void
plx_frame_pin(pTHX_ plx_frame *frame)
{
    I32 i;
    if (!frame || frame->pinned)
        return;
    frame->pinned = 1;
    for (i = 0; i < frame->items; i++)
        sv_2mortal(SvREFCNT_inc_simple_NN(frame->args[i]));
}

static int
plx_is_watched(const my_cxt_t *context)
{
    SV *const sv = context->watched_gv ? GvSV(context->watched_gv) : NULL;
    return sv && SvOK(sv);
}

/* Whether the package variable that the table names is defined. */
int
plx_watched(void *perl)
{
    dTHXa(perl);
    dMY_CXT;
    return plx_is_watched(&MY_CXT);
}

/* A value of %SIG that is code, or the name of some. */
static int
plx_is_handler(SV *sv)
{
    if (SvROK(sv) || isGV_with_GP(sv))
        return 1;
    return SvPOK(sv) && SvCUR(sv) && strNE(SvPVX(sv), "IGNORE") && strNE(SvPVX(sv), "DEFAULT");
}

int
plx_has_signal_handlers(void *perl)
{
    dTHXa(perl);
    SV **const values = PL_psig_ptr;
    UV any = 0;
    int i;
    if (!values)
        return 0;
    /* In most programs all are NULL: one instruction for each is all it costs. */
#if defined(__GNUC__) && !defined(__clang__)
#  pragma GCC unroll 128
#endif
    for (i = 1; i < SIG_SIZE; i++)
        any |= PTR2UV(values[i]);
    if (!any)
        return 0;
    for (i = 1; i < SIG_SIZE; i++)
        if (values[i] && plx_is_handler(values[i]))
            return 1;
    return 0;
}

/* Whether no Perl code runs unless it is called from here: neither of the two above. */
int
plx_quiet(void *perl)
{
    dTHXa(perl);
    dMY_CXT;
    return !plx_is_watched(&MY_CXT) && !plx_has_signal_handlers(aTHX_PERL);
}

/* Runs `job` in an eval of its own, on a stack of its own.
 *
 * The own stack makes last, next and goto to a place outside ordinary
 * exceptions. PL_mainstack is where exit stops unwinding: pointed at the own
 * stack, the frames of whoever called us stay whole until they have returned,
 * and the exit goes on from plx_answer_with. */
static plx_status
plx_protect(pTHX_ plx_job *job)
{
    dSP;
    dMY_CXT;
    dJMPENV;
    int jump;
    OP *const op = PL_op;
    AV *const mainstack = PL_mainstack;
    const SSize_t mark = PL_markstack_ptr - PL_markstack;
    plx_job *const outer = MY_CXT.job;
    I32 scope;
    plx_status status;

    plx_frame_pin(aTHX_ MY_CXT.frame);
    job->op = op;
    job->finished = 0;
    job->exception = NULL;
    PUSHSTACKi(PERLSI_UNKNOWN);
    ENTER;
    SAVETMPS;
    scope = PL_scopestack_ix;

    JMPENV_PUSH(jump);
    if (jump == 0) {
        PL_mainstack = PL_curstack;
        MY_CXT.job = job;
        PUSHMARK(PL_stack_sp);
        call_sv((SV *)MY_CXT.runner, G_EVAL | G_VOID | G_DISCARD | G_NOARGS | G_NODEBUG);
    }
    JMPENV_POP;

    PL_mainstack = mainstack;
    MY_CXT.job = outer;
    if (jump == 0 && job->finished) {
        status = PLX_DONE;
    }
    else if (jump == 0) {
        status = PLX_DIED;
        job->exception = newSVsv(ERRSV);
        CLEAR_ERRSV();
    }
    else {
        status = PLX_EXIT;
        while (PL_scopestack_ix > scope)
            LEAVE;
        PL_markstack_ptr = PL_markstack + mark;
        PL_op = op;
    }
    FREETMPS;
    LEAVE;
    SPAGAIN;
    POPSTACK;
    return status;
}

static SV *
plx_errsv_copy(pTHX)
{
    SV *const err = ERRSV;
    return SvOK(err) && (SvROK(err) || SvCUR(err)) ? newSVsv(err) : NULL;
}

static void
plx_errsv_restore(pTHX_ SV *saved)
{
    if (saved) {
        sv_setsv(ERRSV, saved);
        SvREFCNT_dec(saved);
    }
}

/* Like plx_protect, for code that the program wrote: it sees the $@ and $^S it
 * would see without the eval around it, and what it leaves in $@ stays. */
static plx_status
plx_protect_callback(pTHX_ plx_job *job)
{
    plx_status status;
    SV *err = plx_errsv_copy(aTHX);
    job->value = err;
    job->iv[1] = PL_in_eval;
    status = plx_protect(aTHX_ job);
    if (status == PLX_DONE) {
        err = job->value;
    }
    plx_errsv_restore(aTHX_ err);
    job->value = NULL;
    return status;
}

/* Calls job->code. Leaves the values on the stack, and says how many there are. */
static I32
plx_call_code(pTHX_ plx_job *job, I32 flags)
{
    dSP;
    size_t i;
    I32 count;
    SV *const err = job->value;
    const U8 in_eval = PL_in_eval;

    if (err)
        sv_setsv(ERRSV, err);
    PL_in_eval = (U8)job->iv[1];
    PUSHMARK(SP);
    EXTEND(SP, (SSize_t)job->argc);
    for (i = 0; i < job->argc; i++)
        PUSHs(job->args[i]);
    PUTBACK;
    errno = 0;
    count = call_sv(job->code, flags);
    job->error = errno;
    PL_in_eval = in_eval;
    job->value = plx_errsv_copy(aTHX);
    SvREFCNT_dec(err);
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
plx_run_signals(pTHX_ plx_job *job)
{
    PERL_UNUSED_ARG(job);
    PERL_ASYNC_CHECK();
}

#define PLX_JOB(name, how)                    \
    plx_status plx_do_##name(void *perl, plx_job *job) \
    {                                         \
        dTHXa(perl);                          \
        job->run = plx_run_##name;            \
        return how(aTHX_ job);                \
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
PLX_JOB(signals, plx_protect)

XS(plx_dispatch)
{
    dXSARGS;
    dMY_CXT;
    const plx_method *const method = (const plx_method *)XSANY.any_ptr;
    plx_frame frame;
    plx_answer answer;

    if (items < method->min || items > method->max)
        croak_xs_usage(cv, method->usage);
    frame.args = &ST(0);
    frame.items = items;
    frame.pinned = 0;
    frame.outer = MY_CXT.frame;
    MY_CXT.frame = &frame;
    answer.verdict = PLX_EMPTY;
    answer.sv = NULL;
    plx_enter(aTHX_PERL, method, frame.args, (size_t)items, &answer);
    MY_CXT.frame = frame.outer;
    if (answer.verdict == PLX_INT) {
        dXSTARG;
        XSprePUSH;
        EXTEND(SP, 1);
        PUSHi(answer.iv);
        PUTBACK;
        return;
    }
    if (answer.verdict == PLX_EMPTY)
        XSRETURN_EMPTY;
    plx_answer_with(aTHX_ &answer);
    XSprePUSH;
    EXTEND(SP, 1);
    PUSHs(answer.verdict == PLX_SV ? answer.sv : &PL_sv_undef);
    PUTBACK;
}
