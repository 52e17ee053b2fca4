/* Running Perl code so that its death comes back as a value, and raising it
 * again once nothing of Rust is left on the C stack. */
#include "plain.h"

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
plx_status
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

/* A plain call, if it is one. */
static int
plx_take_plain(pTHX_ const my_cxt_t *context, const plx_method *method, SV **args, I32 items,
               plx_plain *call)
{
    UV len;
    if (method->shape == PLX_NO_SHAPE || plx_is_watched(context)
        || (PL_psig_ptr && plx_has_signal_handlers(aTHX_PERL)))
        return 0;
    call->attached = plx_plain_attached(args[0]);
    if (!call->attached || !plx_plain_number(args[2], &len))
        return 0;
    call->flags = 0;
    if (items > 3 && !plx_plain_number(args[3], &call->flags))
        return 0;
    call->len = len < method->most ? (size_t)len : method->most;
    if (method->shape == PLX_FILLS) {
        call->start = plx_plain_room(aTHX_ args[1], call->len);
    }
    else {
        STRLEN has = 0;
        call->start = (char *)plx_plain_string(args[1], &has);
        if (call->len > has)
            call->len = has;
    }
    return call->start != NULL;
}

XS(plx_dispatch)
{
    dXSARGS;
    dMY_CXT;
    const plx_method *const method = (const plx_method *)XSANY.any_ptr;
    SV **const args = &ST(0);
    plx_plain call;
    plx_frame frame;
    plx_answer answer;

    if (items < method->min || items > method->max)
        croak_xs_usage(cv, method->usage);
    answer.sv = NULL;
    answer.verdict = PLX_PASS;
    if (plx_take_plain(aTHX_ &MY_CXT, method, args, items, &call)) {
        plx_enter_plain(aTHX_PERL, method, &call, &answer);
        if (answer.verdict == PLX_INT && method->shape == PLX_FILLS && answer.iv > 0)
            plx_plain_filled(aTHX_ args[1], (STRLEN)answer.iv);
    }
    if (answer.verdict == PLX_PASS) {
        frame.args = args;
        frame.items = items;
        frame.pinned = 0;
        frame.outer = MY_CXT.frame;
        MY_CXT.frame = &frame;
        plx_enter(aTHX_PERL, method, args, (size_t)items, &answer);
        MY_CXT.frame = frame.outer;
    }
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
