/* Signals: whether the program has handlers, and holding back those that Perl calls at
 * once. */
#include "context.h"
#include "signals.h"

/* Whether a slot of Perl's table has code, or the name of some. */
static int
plx_handles(SV *sv)
{
    if (!sv)
        return 0;
    if (SvROK(sv) || isGV_with_GP(sv))
        return 1;
    return SvPOK(sv) && SvCUR(sv) && strNE(SvPVX(sv), "IGNORE") && strNE(SvPVX(sv), "DEFAULT");
}

/* Whether a slot of Perl's table, which there is, has a handler. */
int
plx_any_handler(pTHX)
{
    int i;
    for (i = 1; i < SIG_SIZE; i++)
        if (plx_handles(PL_psig_ptr[i]))
            return 1;
    return 0;
}

/* Whether the program has set any handler in %SIG. */
int
plx_has_signal_handlers(void *perl)
{
    dTHXa(perl);
    return plx_any_signal(aTHX) && plx_any_handler(aTHX);
}

int plx_signal_pending(void *perl) { dTHXa(perl); return PL_sig_pending != 0; }

/* Whether Perl's handler of a signal is called at once, at whatever instruction. */
static int
plx_is_called_at_once(pTHX_ int signal)
{
    struct sigaction action;
    if (!PL_psig_ptr[signal])
        return 0;
    if (PL_signals & PERL_SIGNALS_UNSAFE_FLAG)
        return 1;
    /* POSIX::sigaction without SAFE sets one of these. */
    return sigaction(signal, NULL, &action) == 0
        && (action.sa_sigaction == PL_sighandler3p || action.sa_handler == PL_sighandler1p
            || (void (*)(void))action.sa_handler == (void (*)(void))PL_sighandlerp);
}

/* A handler that is called at once may die, and would jump over Rust. Its signal is held
 * back while Rust runs. No other signal is: the system would give it to another thread,
 * where Perl's function for it finds no interpreter. */
void
plx_mask(pTHX_ plx_frame *frame)
{
    sigset_t held;
    int i, any = 0;
    frame->masked = 0;
    if (!plx_has_signal_handlers(aTHX_PERL))
        return;
    sigemptyset(&held);
    for (i = 1; i < SIG_SIZE; i++)
        if (plx_is_called_at_once(aTHX_ i)) {
            sigaddset(&held, i);
            any = 1;
        }
    if (any)
        frame->masked = pthread_sigmask(SIG_BLOCK, &held, &frame->mask) == 0;
}

/* Threads that the library starts under an XSUB inherit this: no signal that has a handler
 * is for them. Perl would run that after the XSUB anyway; all other signals act at once. */
void
plx_mask_handled(pTHX_ plx_frame *frame)
{
    sigset_t held;
    int i;
    frame->masked = 0;
    if (!plx_has_signal_handlers(aTHX_PERL))
        return;
    sigemptyset(&held);
    for (i = 1; i < SIG_SIZE; i++)
        if (plx_handles(PL_psig_ptr[i]))
            sigaddset(&held, i);
    frame->masked = pthread_sigmask(SIG_BLOCK, &held, &frame->mask) == 0;
}

void
plx_unmask(plx_frame *frame)
{
    if (frame->masked) {
        frame->masked = 0;
        pthread_sigmask(SIG_SETMASK, &frame->mask, NULL);
    }
}

/* For the savestack: called where an exception of other code ends the frame. */
void
plx_unmask_frame(pTHX_ void *frame)
{
    PERL_UNUSED_CONTEXT;
    plx_unmask((plx_frame *)frame);
}

/* Since 5.38 call_sv runs an XSUB by runops, which calls signal handlers when it has
 * returned: one that died there would jump over whoever called. They wait for the next
 * op. (PL_op is NULL only at the end of runops.) */
static despatch_signals_proc_t plx_despatch_before; /* PL_signalhook as it was */

static void
plx_despatch(pTHX)
{
    plx_context *const context = plx_context_of(aTHX);
    const int returns = context->returns;
    context->returns = 0;
    if (!returns || PL_op)
        plx_despatch_before(aTHX);
}

void
plx_returns(pTHX)
{
    plx_context *const context = plx_context_of(aTHX);
    context->returns = 1;
}

/* Has plx_despatch called, and what was called before it. */
void
plx_see_returns(pTHX)
{
    if (PL_signalhook != plx_despatch) {
        plx_despatch_before = PL_signalhook;
        PL_signalhook = plx_despatch;
    }
}
