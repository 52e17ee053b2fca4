/* Frames: what a method, or a relay, has to raise when it ends; and who has the
 * interpreter. */
#include "context.h"

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
    plx_mask(aTHX_ frame);
}

/* Ends a frame, when no frame of Rust's is left above it: what Perl code has left with goes
 * on. */
void
plx_frame_end(pTHX_ plx_frame *frame)
{
    plx_context *const context = plx_context_of(aTHX);
    const int exits = frame->left ? frame->left != 3 : context->exits;
    I32 i;
    for (i = 0; i < frame->items; i++)
        SvREFCNT_dec_NN(frame->args[i]);
    plx_unmask(frame);
    if (frame->thrown)
        sv_2mortal(frame->thrown); /* a jump that came later goes before it */
    if (frame->err && !exits) {
        PL_stack_sp = PL_stack_base + frame->top; /* XSUBs have returned meanwhile */
        PL_restartop = frame->restartop;
        PL_restartjmpenv = frame->restartjmpenv;
        sv_setsv(ERRSV, frame->err);
        SvREFCNT_dec_NN(frame->err);
        JMPENV_JUMP(3);
    }
    SvREFCNT_dec(frame->err);
    if (exits) {
        context->exits = 0;
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

/* The exception that Perl code has left with, in a scalar of the caller's, or NULL. */
SV *
plx_thrown(void *perl, const plx_frame *frame)
{
    dTHXa(perl);
    return frame && frame->left == 3 && frame->err ? newSVsv(frame->err) : NULL;
}

/* Has the interpreter change hands. Returns whose it was, to be given back. */
plx_frame *
plx_hold(void *perl, plx_frame *holder)
{
    dTHXa(perl);
    plx_frame **const place = &plx_context_of(aTHX)->holder;
    plx_frame *const before = *place;
    *place = holder;
    return before;
}

/* `holder` if it can keep a jump, else NULL. It can if no frame of Perl's is between it and
 * here, since the library would return into that; or if it keeps a jump already, which has
 * unwound them. */
static plx_frame *
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
    plx_frame **const place = &plx_context_of(aTHX)->holder;
    if (*place == PLX_HELD)
        return 0;
    *holder = *place;
    *frame = plx_usable(aTHX_ *place);
    *place = PLX_HELD;
    return 1;
}

/* For Rust, which has no inline functions of C's. */
int plx_frame_has_left(const plx_frame *frame) { return plx_has_left(frame); }
