/* What the boundary knows of an interpreter, one for each. */
#include "context.h"

#define MY_CXT_KEY "plx::interpreter"

typedef plx_context my_cxt_t;
START_MY_CXT

plx_context *
plx_context_of(pTHX)
{
    dMY_CXT;
    return &MY_CXT;
}

static void
plx_context_fill(pTHX_ plx_context *context)
{
    context->holder = NULL;
    context->turns = 0;
    context->running = newHV();
    context->kept = newAV();
    context->exits = 0;
    context->returns = 0;
    context->runner = NULL;
    context->errand = NULL;
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
