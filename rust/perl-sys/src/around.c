/* XSUBs that stand around other code: between the library and code of the program's, or
 * around an XSUB of another module's that runs such code. */
#include "context.h"

/* Marks the code that an XSUB made here stands around. */
static MGVTBL plx_code_vtbl;

static const MAGIC *
plx_code_of(CV *cv)
{
    return mg_findext((SV *)cv, PERL_MAGIC_ext, &plx_code_vtbl);
}

/* `how`, if there is any, is copied. */
static CV *
plx_new_code(pTHX_ const char *name, XSUBADDR_t xsub, SV *code, const void *how, size_t len)
{
    CV *const made = newXS(name, xsub, __FILE__);
    sv_magicext((SV *)made, code, PERL_MAGIC_ext, &plx_code_vtbl, (const char *)how, (I32)len);
    return made;
}

/* Code of the program's as the library may call it, by an XSUB that takes no exceptions:
 * what the code throws goes on from the relay, or the method, under which the library
 * runs. The answer is then -1. */
XS(plx_guarded)
{
    dXSARGS;
    SV *args[PLX_MOST_ARGS];
    plx_job job;
    I32 i;
    const U8 in_eval = PL_in_eval;
    plx_frame *holder;
    plx_status status;

    Zero(&job, 1, plx_job);
    if (items > PLX_MOST_ARGS)
        items = PLX_MOST_ARGS;
    for (i = 0; i < items; i++)
        args[i] = SvREFCNT_inc_simple_NN(ST(i));
    job.code = SvREFCNT_inc_simple_NN(plx_code_of(cv)->mg_obj);
    job.args = args;
    job.argc = (size_t)items;
    /* The caller has scopes on Perl's stacks that it will leave. Frames of Perl's between the
     * library and here, as a debugger's, change nothing: nothing jumps over them. */
    holder = plx_context_of(aTHX)->holder;
    if (holder == PLX_HELD)
        holder = NULL;
    /* At the end of a program a loop in Perl may be gone before the streams. What comes of that
     * is for nobody: not for the destructor, and not for a warning in place of that. */
    if (PL_dirty) {
        holder = NULL;
        PL_in_eval &= ~EVAL_KEEPERR;
    }
    status = plx_contain(aTHX_ holder, plx_run_call_value, &job);
    PL_in_eval = in_eval;
    SvREFCNT_dec_NN(job.code);
    for (i = 0; i < items; i++)
        SvREFCNT_dec_NN(args[i]);
    SP = PL_stack_base + ax - 1;
    EXTEND(SP, 1);
    PUSHs(sv_2mortal(status == PLX_DONE ? job.value : newSViv(-1)));
    PUTBACK;
    plx_returns(aTHX);
}

/* A guard around `code`: it calls what `code` is by then. */
static SV *
plx_new_guard(pTHX_ SV *code)
{
    return sv_2mortal(newRV_noinc((SV *)plx_new_code(aTHX_ NULL, plx_guarded, code, NULL, 0)));
}

/* The sub `name`, with the glob that has it; NULL where there is none, where `around` stands
 * in its place already, or where it has to be an XSUB and is none. The glob gives it up, so
 * that nothing is redefined and perl -W has nothing to warn of. */
static CV *
plx_take_sub(pTHX_ const char *name, XSUBADDR_t around, int xsub_only)
{
    GV *const gv = gv_fetchpv(name, 0, SVt_PVCV);
    CV *const cv = gv && isGV_with_GP(gv) ? GvCV(gv) : NULL;
    if (!cv || (CvISXSUB(cv) ? CvXSUB(cv) == around : xsub_only))
        return NULL;
    GvCV_set(gv, NULL);
    return cv;
}

/* Puts a guard in the place of the sub `name`. */
void
plx_guard_sub(void *perl, const char *name)
{
    dTHXa(perl);
    CV *const original = plx_take_sub(aTHX_ name, plx_guarded, 0);
    if (original) {
        plx_new_code(aTHX_ name, plx_guarded, (SV *)original, NULL, 0);
        SvREFCNT_dec_NN((SV *)original); /* the guard has one of its own */
    }
}

/* An XSUB of another module's, with a method before it and one after it, both of which get
 * its arguments. */
typedef struct {
    const plx_method *before, *after; /* either may be NULL */
    int runs_callbacks; /* of the program's, as an event loop does */
    int once;           /* not again for the same first argument before it has returned */
    int guards;         /* which argument is code that the library calls back, or -1 */
} plx_around;

static void
plx_ask(pTHX_ const plx_method *method, SV **args, I32 items, plx_answer *answer)
{
    plx_frame frame;
    Copy(args, frame.args, items, SV *);
    frame.items = items;
    plx_run_method(aTHX_ method, &frame, answer);
    plx_answer_with(aTHX_ answer);
}

/* Whether the XSUB runs already for the first argument; it counts as running then, until
 * the scope ends. */
static int
plx_runs_already(pTHX_ CV *original, SV *first)
{
    HV *const running = plx_context_of(aTHX)->running;
    SV *const key = sv_2mortal(newSVpvf("%p %" SVf, (void *)original, SVfARG(first)));
    STRLEN len;
    const char *const text = SvPV(key, len);
    if (hv_exists(running, text, (I32)len))
        return 1;
    (void)hv_store(running, text, (I32)len, newSV(0), 0);
    SAVEDELETE(running, savepvn(text, len), (I32)len);
    return 0;
}

/* Runs the XSUB, whose callbacks' exceptions go on when it has returned. */
static void
plx_turn(pTHX_ CV *original, const plx_around *around, SV *first)
{
    plx_context *const context = plx_context_of(aTHX);
    I32 *const turns = &context->turns;
    plx_frame **const holder = &context->holder;
    const I32 outer_turns = *turns;
    plx_frame *const outer_holder = *holder;
    plx_frame frame;

    if (*turns == 0)
        plx_raise_kept(aTHX_ 0); /* not in a nested turn: those of the outer one wait for it */
    frame.items = 0;
    plx_frame_begin(aTHX_ &frame);
    ENTER;
    SAVEI32(*turns); /* also if the XSUB dies */
    SAVEVPTR(*holder);
    SAVEDESTRUCTOR_X(plx_unmask_frame, &frame);
    ++*turns;
    *holder = &frame;
    if (!around->once || !plx_runs_already(aTHX_ original, first))
        CvXSUB(original)(aTHX_ original);
    if (!frame.left)
        LEAVE; /* otherwise that has been done, and what is on the savestack is not ours */
    *turns = outer_turns;
    *holder = outer_holder;
    plx_frame_end(aTHX_ &frame);
}

/* For the savestack. */
static void
plx_forget_since(pTHX_ void *mark)
{
    plx_forget_kept(aTHX_ PTR2IV(mark));
}

/* Calls an XSUB that usually runs no callbacks. What code of the program's throws under it
 * all the same is raised when it has returned, and forgotten if it dies itself. */
static void
plx_call_over(pTHX_ CV *original)
{
    const SSize_t mark = plx_kept(aTHX);
    plx_frame frame; /* for its mask */
    ENTER;
    plx_mask_handled(aTHX_ &frame);
    SAVEDESTRUCTOR_X(plx_unmask_frame, &frame);
    SAVEDESTRUCTOR_X(plx_forget_since, INT2PTR(void *, mark));
    CvXSUB(original)(aTHX_ original);
    plx_unmask_frame(aTHX_ &frame);
    plx_raise_kept(aTHX_ mark);
    LEAVE;
}

XS(plx_relay)
{
    dXSARGS;
    const MAGIC *const made = plx_code_of(cv);
    /* Code of the program's may free this sub, its original, and what it was given. */
    CV *const original = (CV *)made->mg_obj;
    const plx_around how = *(const plx_around *)made->mg_ptr;
    const plx_around *const around = &how;
    SV *args[PLX_MOST_ARGS];
    const I32 count = items < PLX_MOST_ARGS ? items : PLX_MOST_ARGS;
    plx_answer answer;
    I32 i;

    plx_keep_alive(aTHX_ (SV *)original);
    for (i = 0; i < count; i++)
        plx_keep_alive(aTHX_ args[i] = ST(i));
    answer.verdict = PLX_EMPTY;
    if (around->before)
        plx_ask(aTHX_ around->before, args, count, &answer);
    if (around->guards >= 0 && around->guards < items) {
        SV *const code = ST(around->guards);
        if (SvGMAGICAL(code) || SvOK(code))
            ST(around->guards) = plx_new_guard(aTHX_ code);
    }
    PUSHMARK(MARK);
    if (around->runs_callbacks)
        plx_turn(aTHX_ original, around, count > 0 ? args[0] : &PL_sv_undef);
    else
        plx_call_over(aTHX_ original);
    if (around->after)
        plx_ask(aTHX_ around->after, args, count, &answer);
}

/* Puts a relay in the place of the XSUB `name`. */
void
plx_relay_around(void *perl, const char *name, const plx_method *before, const plx_method *after,
                 int runs_callbacks, int once, int guards)
{
    dTHXa(perl);
    CV *const original = plx_take_sub(aTHX_ name, plx_relay, 1);
    const plx_around around = { before, after, runs_callbacks, once, guards };
    CV *relay;
    if (!original)
        return;
    relay = plx_new_code(aTHX_ name, plx_relay, (SV *)original, &around, sizeof around);
    if (SvPOK(original))
        sv_setpvn((SV *)relay, SvPVX(original), SvCUR(original)); /* the prototype */
    SvREFCNT_dec_NN((SV *)original); /* the relay has one of its own */
}
