/* Code references around other code, which no name leads to. */
#include "boundary.h"

/* What a code reference made here is made around. */
static MGVTBL plx_code_vtbl;

static SV *
plx_code_of(CV *cv)
{
    return mg_findext((SV *)cv, PERL_MAGIC_ext, &plx_code_vtbl)->mg_obj;
}

static CV *
plx_new_code(pTHX_ XSUBADDR_t xsub, SV *code, const plx_method *method)
{
    CV *const made = newXS(NULL, xsub, __FILE__);
    XSANY_OF(made) = (void *)method;
    sv_magicext((SV *)made, code, PERL_MAGIC_ext, &plx_code_vtbl, NULL, 0);
    return made;
}

/* A method that is given the code before its arguments. As an XSUB it has no ops, at
 * which perl would run signal handlers outside of the method. */
XS(plx_bound)
{
    dXSARGS;
    const plx_method *const method = (const plx_method *)XSANY.any_ptr;
    plx_frame frame;
    plx_answer answer;

    if (items >= PLX_MOST_ARGS)
        items = PLX_MOST_ARGS - 1;
    frame.args[0] = plx_code_of(cv);
    Copy(&ST(0), frame.args + 1, items, SV *);
    frame.items = items + 1;
    answer.sv = NULL;
    plx_run_method(aTHX_ method, &frame, &answer);
    if (answer.verdict == PLX_INT)
        XSRETURN_IV(answer.iv);
    if (answer.verdict != PLX_EMPTY)
        plx_answer_with(aTHX_ &answer);
    XSRETURN_EMPTY;
}

SV *
plx_new_bound(void *perl, SV *code, const plx_method *method)
{
    dTHXa(perl);
    SV *const copy = newSVsv(code);
    CV *const bound = plx_new_code(aTHX_ plx_bound, copy, method);
    SvREFCNT_dec(copy);
    return newRV_noinc((SV *)bound);
}

/* Asks the method what is to be raised now, and raises it. */
static void
plx_relay_ask(pTHX_ const plx_method *method, SV **args, size_t argc, plx_answer *answer)
{
    answer->verdict = PLX_EMPTY;
    answer->sv = NULL;
    plx_the_table->enter(aTHX_PERL, method, args, argc, answer);
    if (answer->verdict != PLX_INT)
        plx_answer_with(aTHX_ answer);
}

/* Another XSUB with a method around it. That is asked twice what there is to
 * raise: before, given how many relays are on the stack already, and when the
 * XSUB and all it called have returned, given what it answered the first time;
 * each time it is given the XSUB's second argument, too, and the second time
 * one argument more. */
XS(plx_relay)
{
    dXSARGS;
    const plx_method *const method = (const plx_method *)XSANY.any_ptr;
    CV *const original = (CV *)plx_code_of(cv);
    I32 *const turns = plx_turns(aTHX);
    SV *asked[3];
    plx_answer answer;

    ENTER;
    SAVEI32(*turns); /* also if the XSUB dies */
    asked[0] = sv_2mortal(newSViv((*turns)++));
    asked[1] = SvREFCNT_inc_simple_NN(items > 1 ? ST(1) : &PL_sv_undef);
    SAVEFREESV(asked[1]); /* not a mortal: the XSUB may free those */
    plx_relay_ask(aTHX_ method, asked, 2, &answer);
    asked[0] = asked[2] = newSViv(answer.iv);
    SAVEFREESV(asked[0]);
    PUSHMARK(MARK);
    CvXSUB(original)(aTHX_ original);
    plx_relay_ask(aTHX_ method, asked, 3, &answer);
    LEAVE;
}

/* A code reference to `original` with `method` behind it; NULL where that is no XSUB. */
SV *
plx_new_relay(void *perl, SV *code, const plx_method *method)
{
    dTHXa(perl);
    CV *const original = SvROK(code) && SvTYPE(SvRV(code)) == SVt_PVCV ? (CV *)SvRV(code) : NULL;
    CV *relay;
    if (!original || !CvISXSUB(original))
        return NULL;
    relay = plx_new_code(aTHX_ plx_relay, (SV *)original, method);
    if (SvPOK(original))
        sv_setpvn((SV *)relay, SvPVX(original), SvCUR(original)); /* the prototype */
    return newRV_noinc((SV *)relay);
}
