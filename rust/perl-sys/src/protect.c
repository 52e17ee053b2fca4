/* Running Perl code under frames of Rust's and of the library's, which perl must not
 * jump over.
 *
 * An exception unwinds Perl's stacks to the program's own eval and then jumps there; an
 * exit unwinds all. Here the jump is caught, kept in the method's frame, and goes on from
 * plx_frame_end, when all C frames in between have returned. No eval is in the way, so
 * the program sees what it sees under any XS code.
 *
 * An XSUB of another module's may be in between, which uses Perl's stacks when it goes on.
 * They must stay as they are, so code under it is contained: it runs in an eval, on stacks of
 * its own. What it throws is raised when the frame ends. If there is no frame, or if the frame
 * has something to raise already, it waits for the next turn of the event loop. */
#include "boundary.h"

#define MY_CXT_KEY "plx::interpreter" XS_VERSION

typedef struct {
    plx_frame *holder; /* see boundary.h */
    I32 turns;       /* relays on the stack */
    HV *running;     /* XSUBs that run once at a time: see around.c */
    AV *kept;        /* exceptions that wait */
    int exits;       /* and an exit */
    int returns;     /* an XSUB of ours returns to call_sv: see plx_returns */
    CV *runner;      /* an XSUB: what call_sv can wrap in an eval */
    struct plx_errand *errand;
} my_cxt_t;
START_MY_CXT

/* --- exceptions and exits that have no frame --- */

static void
plx_keep(pTHX_ SV *exception)
{
    dMY_CXT;
    av_push(MY_CXT.kept, exception);
}

SSize_t
plx_kept(pTHX)
{
    dMY_CXT;
    return av_len(MY_CXT.kept) + 1;
}

/* Forgets all kept exceptions but the first `mark`. */
void
plx_forget_kept(pTHX_ SSize_t mark)
{
    dMY_CXT;
    while (av_len(MY_CXT.kept) >= mark)
        SvREFCNT_dec(av_pop(MY_CXT.kept));
}

/* Raises an exception for which $SIG{__DIE__} has been called already. */
static void
plx_raise_again(pTHX_ SV *exception)
{
    SAVESPTR(PL_diehook);
    PL_diehook = NULL;
    croak_sv(exception);
}

/* Raises the oldest kept exception after the first `mark`. */
void
plx_raise_kept(pTHX_ SSize_t mark)
{
    dMY_CXT;
    if (av_len(MY_CXT.kept) >= mark) {
        SV *const exception = sv_2mortal(newSVsv(*av_fetch(MY_CXT.kept, mark, 0)));
        SSize_t i;
        for (i = mark; i < av_len(MY_CXT.kept); i++)
            av_store(MY_CXT.kept, i, SvREFCNT_inc(*av_fetch(MY_CXT.kept, i + 1, 0)));
        SvREFCNT_dec(av_pop(MY_CXT.kept));
        plx_raise_again(aTHX_ exception);
    }
}

/* Since 5.38 call_sv runs an XSUB by runops, which calls signal handlers when it has
 * returned: one that died there would jump over whoever called. They wait for the next
 * op. (PL_op is NULL only at the end of runops.) */
static despatch_signals_proc_t plx_despatch_before; /* PL_signalhook as it was */

static void
plx_despatch(pTHX)
{
    dMY_CXT;
    const int returns = MY_CXT.returns;
    MY_CXT.returns = 0;
    if (!returns || PL_op)
        plx_despatch_before(aTHX);
}

void
plx_returns(pTHX)
{
    dMY_CXT;
    MY_CXT.returns = 1;
}

/* --- code in an eval of its own --- */

typedef struct plx_errand {
    plx_run run;
    plx_job *job;
    OP *op;      /* the program's */
    U8 in_eval;
    SV *err;     /* $@ as the program had it, and then as the code has left it */
    int finished;
} plx_errand;

/* The code sees the op, the $@ and the $^S that it would see without the eval. */
XS(plx_run_errand);
XS(plx_run_errand)
{
    dXSARGS;
    dMY_CXT;
    plx_errand *const errand = MY_CXT.errand;
    OP *const op = PL_op;
    const U8 in_eval = PL_in_eval;
    PERL_UNUSED_VAR(items);
#ifdef CXp_TRY
    cxstack[cxstack_ix].cx_type |= CXp_TRY; /* the eval, which caller does not tell of then */
#endif
    sv_setsv(ERRSV, errand->err);
    PL_in_eval = errand->in_eval;
    ENTER;
    PL_op = errand->op;
    errand->run(aTHX_ errand->job);
    LEAVE; /* before the op is ours again: call_sv has left it on the savestack */
    PL_op = op;
    PL_in_eval = in_eval;
    sv_setsv(errand->err, ERRSV);
    errand->finished = 1;
    plx_returns(aTHX);
    XSRETURN_EMPTY;
}

/* A savestack to begin with; Perl makes it larger. */
#define PLX_SAVES 60

/* Runs `run` in an eval, on an argument stack and a savestack of its own. An exit unwinds
 * the stacks down to PL_mainstack, and the whole savestack: both are pointed at our own,
 * so that the caller's stay as they are until it has returned. Profilers keep positions in
 * the savestack, so ours begins with a copy of the caller's, in an entry that unwinding
 * skips. */
plx_status
plx_contain(pTHX_ plx_frame *frame, plx_run run, plx_job *job)
{
    dSP;
    dMY_CXT;
    dJMPENV;
    int jump;
    plx_errand errand;
    OP *const op = PL_op;
    AV *const mainstack = PL_mainstack;
    ANY *const saves = PL_savestack;
    const I32 saves_ix = PL_savestack_ix;
    const I32 saves_max = PL_savestack_max;
    const SSize_t mark = PL_markstack_ptr - PL_markstack;
    const SSize_t floor = PL_tmps_floor;
    const I32 scope = PL_scopestack_ix;
    SV *const before = newSVsv(ERRSV);
    plx_frame *const holder = MY_CXT.holder;
    plx_status status = PLX_LEFT;

    errand.run = run;
    errand.job = job;
    errand.op = op;
    errand.in_eval = frame ? frame->in_eval : PL_in_eval; /* a jump has left the evals */
    errand.err = newSVsv(before);
    errand.finished = 0;
    MY_CXT.holder = NULL;
    PUSHSTACKi(PERLSI_UNKNOWN);
    Newx(PL_savestack, saves_ix + PLX_SAVES + SS_MAXPUSH, ANY);
    Copy(saves, PL_savestack, saves_ix, ANY);
    PL_savestack[saves_ix].any_uv = ((UV)saves_ix << SAVE_TIGHT_SHIFT) | SAVEt_ALLOC;
    PL_savestack_ix = saves_ix + 1;
    PL_savestack_max = saves_ix + PLX_SAVES;
    PL_tmps_floor = PL_tmps_ix; /* not saved: an exit would give it back too soon */

    JMPENV_PUSH(jump);
    if (jump == 0) {
        PL_mainstack = PL_curstack;
        MY_CXT.errand = &errand;
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
    PL_tmps_floor = floor;
    Safefree(PL_savestack);
    PL_savestack = saves;
    PL_savestack_ix = saves_ix;
    PL_savestack_max = saves_max;
    MY_CXT.holder = holder;
    if (jump != 0 && frame)
        frame->left = jump;
    else if (jump != 0)
        MY_CXT.exits = 1;
    else if (errand.finished)
        status = PLX_DONE;
    else if (frame && !plx_has_left(frame) && !frame->fails)
        frame->thrown = newSVsv(ERRSV);
    else
        plx_keep(aTHX_ newSVsv(ERRSV));
    sv_setsv(ERRSV, errand.finished ? errand.err : before);
    SvREFCNT_dec_NN(errand.err);
    SvREFCNT_dec_NN(before);
    SPAGAIN;
    POPSTACK;
    return status;
}

/* --- code whose jump goes on --- */

/* The code has an argument stack of its own: last, next and goto to a place outside are
 * exceptions then. */
static plx_status
plx_catch(pTHX_ plx_frame *frame, plx_run run, plx_job *job)
{
    dMY_CXT;
    dJMPENV;
    int left;
    OP *const op = PL_op;
    UNOP named;
    plx_frame *const holder = MY_CXT.holder;

    /* Warnings name the program's op. Its private flags are not for what runs here: perl
     * would look for the sub around it on a stack that has none. */
    if (op)
        named = *(UNOP *)op;
    else
        Zero(&named, 1, UNOP);
    named.op_private = 0;
    MY_CXT.holder = NULL;
    plx_unmask(frame);
    JMPENV_PUSH(left);
    if (left == 0) {
        dSP;
        PUSHSTACKi(PERLSI_UNKNOWN);
        ENTER;
        SAVETMPS;
        PL_op = (OP *)&named;
        run(aTHX_ job);
        FREETMPS;
        LEAVE;
        SPAGAIN;
        POPSTACK;
    }
    else {
        frame->left = left;
        frame->restartop = PL_restartop;
        frame->restartjmpenv = PL_restartjmpenv;
        frame->top = PL_stack_sp - PL_stack_base;
        frame->err = newSVsv(ERRSV);
    }
    JMPENV_POP;
    PL_op = op;
    MY_CXT.holder = holder;
    plx_mask(aTHX_ frame);
    return left == 0 ? PLX_DONE : PLX_LEFT;
}

/* Runs `run`. What it throws, and an exit, goes on when the frame ends. */
plx_status
plx_protect(pTHX_ plx_frame *frame, plx_run run, plx_job *job)
{
    return frame && !frame->left && !frame->fails ? plx_catch(aTHX_ frame, run, job)
                                 : plx_contain(aTHX_ frame, run, job);
}

/* --- frames --- */

void
plx_frame_begin(pTHX_ plx_frame *frame)
{
    I32 i;
    for (i = 0; i < frame->items; i++)
        SvREFCNT_inc_simple_void_NN(frame->args[i]);
    frame->left = 0;
    frame->fails = 0;
    frame->err = NULL;
    frame->thrown = NULL;
    frame->stack = PL_curstackinfo;
    frame->context = cxstack_ix;
    frame->in_eval = PL_in_eval;
    frame->masked = 0;
    plx_mask(aTHX_ frame);
}

/* Ends a frame, when no frame of Rust's is left above it: what Perl code has left with goes
 * on. */
void
plx_frame_end(pTHX_ plx_frame *frame)
{
    dMY_CXT;
    const int exits = frame->left ? frame->left != 3 : MY_CXT.exits;
    I32 i;
    for (i = 0; i < frame->items; i++)
        SvREFCNT_dec_NN(frame->args[i]);
    plx_unmask(frame);
    if (frame->err && !exits) {
        PL_stack_sp = PL_stack_base + frame->top; /* XSUBs have returned meanwhile */
        PL_restartop = frame->restartop;
        PL_restartjmpenv = frame->restartjmpenv;
        sv_setsv(ERRSV, frame->err);
        SvREFCNT_dec_NN(frame->err);
        JMPENV_JUMP(3);
    }
    SvREFCNT_dec(frame->err);
    if (frame->thrown)
        sv_2mortal(frame->thrown);
    if (exits) {
        MY_CXT.exits = 0;
        my_exit(STATUS_EXIT);
    }
    if (frame->thrown)
        plx_raise_again(aTHX_ frame->thrown);
}

/* Rust has an error that is raised before whatever Perl code throws from now on. */
void
plx_fails(plx_frame *frame)
{
    if (frame)
        frame->fails = 1;
}

/* Whether Perl code has left, so that the method has nothing more to do. */
int
plx_has_left(const plx_frame *frame)
{
    return frame && (frame->left != 0 || frame->thrown);
}

/* The exception that Perl code has left with, in a scalar of the caller's, or NULL. */
SV *
plx_thrown(void *perl, const plx_frame *frame)
{
    dTHXa(perl);
    return frame && frame->left == 3 && frame->err ? newSVsv(frame->err) : NULL;
}

plx_frame **
plx_holder(pTHX)
{
    dMY_CXT;
    return &MY_CXT.holder;
}

/* Has the interpreter change hands. Returns whose it was, to be given back. */
plx_frame *
plx_hold(void *perl, plx_frame *holder)
{
    dTHXa(perl);
    plx_frame **const place = plx_holder(aTHX);
    plx_frame *const before = *place;
    *place = holder;
    return before;
}

/* `holder` if it can keep a jump, else NULL. It can if no frame of Perl's is between it and
 * here, since the library would return into that; or if it keeps a jump already, which has
 * unwound them. */
plx_frame *
plx_usable(pTHX_ plx_frame *holder)
{
    if (!holder || holder == PLX_HELD)
        return NULL;
    return holder->left || (holder->stack == PL_curstackinfo && holder->context == cxstack_ix)
        ? holder : NULL;
}

/* Takes the interpreter for code that the library calls back. *`holder` becomes the frame
 * that is lent, and *`frame` the same if it can keep a jump. Returns 0 where Rust itself has
 * the interpreter. */
int
plx_call_back(void *perl, plx_frame **holder, plx_frame **frame)
{
    dTHXa(perl);
    plx_frame **const place = plx_holder(aTHX);
    if (*place == PLX_HELD)
        return 0;
    *holder = *place;
    *frame = plx_usable(aTHX_ *place);
    *place = PLX_HELD;
    return 1;
}

/* How many relays are on the stack. */
I32 *
plx_turns(pTHX)
{
    dMY_CXT;
    return &MY_CXT.turns;
}

HV *
plx_running(pTHX)
{
    dMY_CXT;
    return MY_CXT.running;
}

static void
plx_context_fill(pTHX_ my_cxt_t *context)
{
    context->holder = NULL;
    context->turns = 0;
    context->running = newHV();
    context->kept = newAV();
    context->exits = 0;
    context->returns = 0;
    if (PL_signalhook != plx_despatch) {
        plx_despatch_before = PL_signalhook;
        PL_signalhook = plx_despatch;
    }
    context->runner = newXS(NULL, plx_run_errand, __FILE__);
}

void
plx_interpreter_init(void *perl)
{
    dTHXa(perl);
    MY_CXT_INIT;
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
