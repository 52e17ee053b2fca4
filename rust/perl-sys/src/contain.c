/* Code of the program's in an eval of its own, on stacks of its own, and what it throws
 * where no frame can keep that. */
#include "context.h"

static void
plx_keep(pTHX_ SV *exception)
{
    plx_context *const context = plx_context_of(aTHX);
    av_push(context->kept, exception);
}

SSize_t
plx_kept(pTHX)
{
    plx_context *const context = plx_context_of(aTHX);
    return av_len(context->kept) + 1;
}

/* Forgets all kept exceptions but the first `mark`. */
void
plx_forget_kept(pTHX_ SSize_t mark)
{
    plx_context *const context = plx_context_of(aTHX);
    while (av_len(context->kept) >= mark)
        SvREFCNT_dec(av_pop(context->kept));
}

/* Raises an exception for which $SIG{__DIE__} has been called already. */
void
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
    plx_context *const context = plx_context_of(aTHX);
    if (av_len(context->kept) >= mark) {
        SV *const exception = sv_2mortal(newSVsv(*av_fetch(context->kept, mark, 0)));
        SSize_t i;
        for (i = mark; i < av_len(context->kept); i++)
            av_store(context->kept, i, SvREFCNT_inc(*av_fetch(context->kept, i + 1, 0)));
        SvREFCNT_dec(av_pop(context->kept));
        plx_raise_again(aTHX_ exception);
    }
}

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
    plx_context *const context = plx_context_of(aTHX);
    plx_errand *const errand = context->errand;
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
    plx_context *const context = plx_context_of(aTHX);
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
    plx_frame *const holder = context->holder;
    plx_status status = PLX_LEFT;

    errand.run = run;
    errand.job = job;
    errand.op = op;
    errand.in_eval = frame ? frame->in_eval : PL_in_eval; /* a jump has left the evals */
    errand.err = newSVsv(before);
    errand.finished = 0;
    context->holder = NULL;
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
        if (!context->runner)
            context->runner = newXS(NULL, plx_run_errand, __FILE__);
        context->errand = &errand;
        PUSHMARK(PL_stack_sp);
        call_sv((SV *)context->runner, G_EVAL | G_VOID | G_DISCARD | G_NOARGS | G_NODEBUG);
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
    context->holder = holder;
    if (jump != 0 && frame)
        frame->left = jump;
    else if (jump != 0)
        context->exits = 1;
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
