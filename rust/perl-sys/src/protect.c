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
#include "context.h"

/* The code has an argument stack of its own: last, next and goto to a place outside are
 * exceptions then. */
static plx_status
plx_catch(pTHX_ plx_frame *frame, plx_run run, plx_job *job)
{
    plx_context *const context = plx_context_of(aTHX);
    dJMPENV;
    int left;
    OP *const op = PL_op;
    UNOP named;
    plx_frame *const holder = context->holder;

    /* Warnings name the program's op. Its private flags are not for what runs here: perl
     * would look for the sub around it on a stack that has none. */
    if (op)
        named = *(UNOP *)op;
    else
        Zero(&named, 1, UNOP);
    named.op_private = 0;
    context->holder = NULL;
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
    context->holder = holder;
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
