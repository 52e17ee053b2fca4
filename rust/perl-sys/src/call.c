/* The way in for all methods, and how they end. */
#include "plain.h"
#include "signals.h"

/* Takes bytes that are ready, which needs no call of the library's. */
PERL_STATIC_INLINE long long
plx_take_ready(pTHX_ plx_ready *ready, SV *data, UV want)
{
    const size_t len = want < ready->left ? (size_t)want : ready->left;
    char *const start = plx_plain_room(aTHX_ data, len);
    if (!start)
        return PLX_NO_COUNT;
    Copy(ready->next, start, len, char);
    ready->next += len;
    ready->left -= len;
    plx_plain_filled(aTHX_ data, len);
    return (long long)len;
}

/* Makes a plain call, if it is one. */
PERL_STATIC_INLINE long long
plx_call_plain(pTHX_ const plx_method *method, SV **args, I32 items, plx_answer *answer)
{
    plx_plain call;
    UV want, flags = 0;
    STRLEN len;
    long long done;
    plx_frame *holder;
    if (method->shape == PLX_NO_SHAPE)
        return PLX_NO_COUNT;
    call.attached = plx_plain_attached(args[0]);
    if (!call.attached || !plx_plain_number(args[2], &want)
        || (items > 3 && !plx_plain_number(args[3], &flags)))
        return PLX_NO_COUNT;
    if (method->shape == PLX_FILLS) {
        plx_ready *const ready = call.attached->ready;
        if (ready && ready->left && want)
            return plx_take_ready(aTHX_ ready, args[1], want);
    }
    if (PLX_REENTRANT() || (plx_any_signal(aTHX) && plx_any_handler(aTHX)))
        return PLX_NO_COUNT;
    if (method->shape == PLX_FILLS) {
        len = want < method->most ? (STRLEN)want : method->most;
        call.start = plx_plain_room(aTHX_ args[1], len);
    }
    else {
        call.start = (char *)plx_plain_string(args[1], &len);
    }
    if (!call.start)
        return PLX_NO_COUNT;
    call.len = len < want ? len : (STRLEN)want;
    call.flags = flags;
    holder = plx_hold(aTHX_PERL, PLX_HELD);
    done = method->plain(aTHX_PERL, &call, answer);
    plx_hold(aTHX_PERL, holder);
    if (method->shape == PLX_FILLS && done > 0)
        plx_plain_filled(aTHX_ args[1], (STRLEN)done);
    return done;
}

/* Runs a method on frame->args. */
void
plx_run_method(pTHX_ const plx_method *method, plx_frame *frame, plx_answer *answer)
{
    plx_frame *holder;
    plx_frame_begin(aTHX_ frame);
    answer->sv = NULL;
    holder = plx_hold(aTHX_PERL, PLX_HELD);
    plx_the_table->enter(aTHX_PERL, frame, method, frame->args, (size_t)frame->items, answer);
    plx_hold(aTHX_PERL, holder);
    if (answer->sv)
        sv_2mortal(answer->sv);
    plx_frame_end(aTHX_ frame);
}

/* Raises what the answer says, or warns. An exception object is in $@ already when
 * $SIG{__DIE__} runs, as C bindings have it. */
void
plx_answer_with(pTHX_ const plx_answer *answer)
{
    SV *const sv = answer->sv;
    if (answer->verdict == PLX_DECLINE)
        warn("%" SVf, SVfARG(sv));
    if (answer->verdict != PLX_CROAK)
        return;
    if (!SvROK(sv))
        croak("%" SVf, SVfARG(sv));
    sv_setsv(ERRSV, sv);
    croak(NULL);
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
    else if (answer->sv) {
        sv_2mortal(answer->sv);
    }
    if (answer->verdict == PLX_EMPTY)
        XSRETURN_EMPTY;
    if (answer->verdict != PLX_INT)
        plx_answer_with(aTHX_ answer);
    XSprePUSH;
    EXTEND(SP, 1);
    if (answer->verdict == PLX_INT) {
        dXSTARG;
        PUSHi((IV)answer->iv);
    }
    else {
        PUSHs(answer->verdict == PLX_SV ? answer->sv : &PL_sv_undef);
    }
    PUTBACK;
}

XS(plx_dispatch)
{
    dXSARGS;
    const plx_method *const method = (const plx_method *)XSANY.any_ptr;
    SV **const args = &ST(0);
    plx_answer answer;
    long long done;

    if (UNLIKELY(items < method->min || items > method->max))
        croak_xs_usage(cv, method->usage);
    answer.verdict = PLX_PASS;
    answer.sv = NULL;
    done = plx_call_plain(aTHX_ method, args, items, &answer);
    if (LIKELY(done != PLX_NO_COUNT)) {
        dXSTARG;
        TARGi((IV)done, 1);
        args[0] = TARG; /* no Perl code has run: the stack is where it was */
        PL_stack_sp = args;
        return;
    }
    plx_make_call(aTHX_ ax, items, method, &answer);
}
