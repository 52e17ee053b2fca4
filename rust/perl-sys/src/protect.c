/* Running Perl code so that its death comes back as a value, and raising it
 * again once nothing of Rust is left on the C stack. */
#include "plain.h"

#define MY_CXT_KEY "plx::interpreter" XS_VERSION

typedef struct {
    CV *runner;          /* an XSUB that runs `job`: what call_sv can wrap in an eval */
    plx_job *job;
    I32 turns;           /* relays on the stack */
    plx_frame *frame;    /* the innermost method's */
    const char *watched; /* a package variable's name */
    GV *watched_gv;
} my_cxt_t;
START_MY_CXT

static SV *
plx_errsv_copy(pTHX)
{
    SV *const err = ERRSV;
    return SvOK(err) && !(SvPOK(err) && !SvCUR(err)) ? newSVsv(err) : NULL;
}

/* Runs the job. It sees the $@ it would see without the eval around it, and what
 * it leaves there is for the caller. */
XS(plx_run_job);
XS(plx_run_job)
{
    dXSARGS;
    dMY_CXT;
    plx_job *job = MY_CXT.job;
    OP *const op = PL_op;
    UNOP named;
    PERL_UNUSED_VAR(items);
    if (job->err)
        sv_setsv(ERRSV, job->err);
    /* Warnings name the op that the program is in; its private flags are not for
     * what runs here. */
    if (job->op)
        named = *(UNOP *)job->op;
    else
        Zero(&named, 1, UNOP); /* outside of any op: perl is ending, or not yet running */
    named.op_private = 0;
    ENTER;
    PL_op = (OP *)&named;
    job->run(aTHX_ job);
    LEAVE; /* before the op is ours again: call_sv has left it on the savestack */
    PL_op = op;
    job->err = plx_errsv_copy(aTHX);
    job->finished = 1;
    XSRETURN_EMPTY;
}

static void
plx_context_fill(pTHX_ my_cxt_t *context)
{
    context->runner = newXS(NULL, plx_run_job, __FILE__);
    context->job = NULL;
    context->turns = 0;
    context->frame = NULL;
    context->watched_gv =
        context->watched ? gv_fetchpv(context->watched, GV_ADDMULTI, SVt_PV) : NULL;
    SvREFCNT_inc(context->watched_gv); /* whatever becomes of its package */
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
plx_frames_pin(pTHX_ plx_frame *frame)
{
    I32 i;
    for (; frame && !frame->pinned; frame = frame->outer) {
        frame->pinned = 1;
        for (i = 0; i < frame->items; i++)
            sv_2mortal(SvREFCNT_inc_simple_NN(frame->args[i]));
    }
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

/* Whether no Perl code runs unless it is called from here: neither of the two above. */
int
plx_quiet(void *perl)
{
    dTHXa(perl);
    dMY_CXT;
    return !plx_is_watched(&MY_CXT) && !plx_has_signal_handlers(aTHX_PERL);
}

/* A savestack to begin with; Perl makes it larger. */
#define PLX_SAVES 60

/* Runs `job` in an eval of its own, on stacks of its own.
 *
 * The own argument stack makes last, next and goto to a place outside ordinary
 * exceptions. An exit unwinds down to PL_mainstack, and all of the savestack:
 * pointed at our own, the frames of whoever called us stay whole until they
 * have returned, and the exit goes on from plx_answer_with. */
plx_status
plx_protect(pTHX_ plx_job *job)
{
    dSP;
    dMY_CXT;
    dJMPENV;
    int jump;
    OP *const op = PL_op;
    AV *const mainstack = PL_mainstack;
    ANY *const saves = PL_savestack;
    const I32 saves_ix = PL_savestack_ix;
    const I32 saves_max = PL_savestack_max;
    const SSize_t mark = PL_markstack_ptr - PL_markstack;
    const SSize_t floor = PL_tmps_floor;
    const I32 scope = PL_scopestack_ix;
    plx_job *const outer = MY_CXT.job;
    SV *const before = plx_errsv_copy(aTHX);
    SV *err = before;
    plx_status status;

    plx_frames_pin(aTHX_ MY_CXT.frame);
    job->op = op;
    job->finished = 0;
    job->exception = NULL;
    job->err = before;
    PUSHSTACKi(PERLSI_UNKNOWN);
    Newx(PL_savestack, PLX_SAVES + SS_MAXPUSH, ANY);
    PL_savestack_ix = 0;
    PL_savestack_max = PLX_SAVES;
    PL_tmps_floor = PL_tmps_ix; /* not saved: an exit would give it back too soon */

    JMPENV_PUSH(jump);
    if (jump == 0) {
        PL_mainstack = PL_curstack;
        MY_CXT.job = job;
        PUSHMARK(PL_stack_sp);
        call_sv((SV *)MY_CXT.runner, G_EVAL | G_VOID | G_DISCARD | G_NOARGS | G_NODEBUG);
    }
    else {
        while (PL_scopestack_ix > scope)
            LEAVE;
        PL_markstack_ptr = PL_markstack + mark;
        PL_op = op;
    }
    JMPENV_POP;

    PL_mainstack = mainstack;
    MY_CXT.job = outer;
    PL_tmps_floor = floor;
    Safefree(PL_savestack);
    PL_savestack = saves;
    PL_savestack_ix = saves_ix;
    PL_savestack_max = saves_max;
    if (jump != 0) {
        status = PLX_EXIT;
    }
    else if (job->finished) {
        status = PLX_DONE;
        err = job->err; /* the runner's own copy by now */
        SvREFCNT_dec(before);
    }
    else {
        status = PLX_DIED;
        job->exception = newSVsv(ERRSV);
        CLEAR_ERRSV();
    }
    if (err) {
        sv_setsv(ERRSV, err);
        SvREFCNT_dec(err);
    }
    SPAGAIN;
    POPSTACK;
    return status;
}

/* Makes a plain call, if it is one. */
PERL_STATIC_INLINE IV
plx_call_plain(pTHX_ const plx_method *method, SV **args, I32 items, plx_answer *answer)
{
    dMY_CXT;
    plx_attached *attached;
    char *start;
    STRLEN len;
    UV want, flags = 0;
    IV done;
    if (method->shape == PLX_NO_SHAPE || plx_is_watched(&MY_CXT)
        || (plx_any_signal(aTHX) && plx_any_handler(aTHX)))
        return PLX_NO_COUNT;
    attached = plx_plain_attached(args[0]);
    if (!attached || !plx_plain_number(args[2], &want)
        || (items > 3 && !plx_plain_number(args[3], &flags)))
        return PLX_NO_COUNT;
    if (method->shape == PLX_FILLS) {
        len = want < method->most ? (STRLEN)want : method->most;
        start = plx_plain_room(aTHX_ args[1], len);
    }
    else {
        start = (char *)plx_plain_string(args[1], &len);
    }
    if (!start)
        return PLX_NO_COUNT;
    if (len > want)
        len = (STRLEN)want;
    done = method->plain(aTHX_PERL, attached, start, len, flags, answer);
    if (method->shape == PLX_FILLS && done > 0)
        plx_plain_filled(aTHX_ args[1], (STRLEN)done);
    return done;
}

void
plx_run_method(pTHX_ const plx_method *method, plx_frame *frame, plx_answer *answer)
{
    dMY_CXT;
    frame->pinned = 0;
    frame->outer = MY_CXT.frame;
    MY_CXT.frame = frame;
    plx_the_table->enter(aTHX_PERL, method, frame->args, (size_t)frame->items, answer);
    MY_CXT.frame = frame->outer;
}

/* Makes an ordinary call, unless `answer` is one already, and does what it says. */
__attribute__((noinline)) static void
plx_make_call(pTHX_ I32 ax, I32 items, const plx_method *method, plx_answer *answer)
{
    SV **sp;
    if (answer->verdict == PLX_PASS) {
        plx_frame frame;
        Copy(&ST(0), frame.args, items, SV *);
        frame.items = items;
        plx_run_method(aTHX_ method, &frame, answer);
    }
    if (answer->verdict == PLX_EMPTY)
        XSRETURN_EMPTY;
    if (answer->verdict != PLX_INT)
        plx_answer_with(aTHX_ answer);
    XSprePUSH;
    EXTEND(SP, 1);
    if (answer->verdict == PLX_INT) {
        dXSTARG;
        PUSHi(answer->iv);
    }
    else {
        PUSHs(answer->verdict == PLX_SV ? answer->sv : &PL_sv_undef);
    }
    PUTBACK;
}

/* How many relays are on the stack. */
I32 *
plx_turns(pTHX)
{
    dMY_CXT;
    return &MY_CXT.turns;
}

XS(plx_dispatch)
{
    dXSARGS;
    const plx_method *const method = (const plx_method *)XSANY.any_ptr;
    SV **const args = &ST(0);
    plx_answer answer;
    IV done;

    if (UNLIKELY(items < method->min || items > method->max))
        croak_xs_usage(cv, method->usage);
    answer.verdict = PLX_PASS;
    done = plx_call_plain(aTHX_ method, args, items, &answer);
    if (LIKELY(done != PLX_NO_COUNT)) {
        dXSTARG;
        TARGi(done, 1);
        args[0] = TARG; /* no Perl code has run: the stack is where it was */
        PL_stack_sp = args;
        return;
    }
    plx_make_call(aTHX_ ax, items, method, &answer);
}
