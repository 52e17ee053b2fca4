/* How methods end, XSUBs with a method behind them, and what the loader calls. */
#include "boundary.h"

/* The end of a method: nothing of Rust is on the stack any more, so Perl may jump. */
void
plx_answer_with(pTHX_ const plx_answer *answer)
{
    SV *const sv = answer->sv ? sv_2mortal(answer->sv) : NULL;
    switch (answer->verdict) {
    case PLX_CROAK:
        if (!SvROK(sv))
            croak("%" SVf, SVfARG(sv));
        croak_sv(sv);
    case PLX_RETHROW:
        SAVESPTR(PL_diehook); /* it has seen this one */
        PL_diehook = NULL;
        croak_sv(sv);
    case PLX_LEAVE:
        my_exit(STATUS_EXIT);
    case PLX_DECLINE:
        warn("%" SVf, SVfARG(sv));
    default:
        break;
    }
}

static MGVTBL plx_relay_vtbl;

/* Another XSUB with a method behind it: the method says what is to be raised,
 * when that XSUB and all it called have returned. */
XS(plx_relay)
{
    dXSARGS;
    const plx_method *const method = (const plx_method *)XSANY.any_ptr;
    MAGIC *const mg = mg_findext((SV *)cv, PERL_MAGIC_ext, &plx_relay_vtbl);
    CV *const original = (CV *)mg->mg_obj;
    plx_answer answer;

    PERL_UNUSED_VAR(items);
    PUSHMARK(MARK);
    CvXSUB(original)(aTHX_ original);
    answer.verdict = PLX_EMPTY;
    answer.sv = NULL;
    plx_enter(aTHX_PERL, method, NULL, 0, &answer);
    if (answer.verdict != PLX_EMPTY)
        plx_answer_with(aTHX_ &answer);
}

/* A code reference to `original` with `method` behind it; NULL where that is no XSUB. */
SV *
plx_new_relay(void *perl, SV *code, const plx_method *method)
{
    dTHXa(perl);
    CV *const original = SvROK(code) && SvTYPE(SvRV(code)) == SVt_PVCV ? (CV *)SvRV(code) : NULL;
    CV *relay;
    MAGIC *mg;
    if (!original || !CvISXSUB(original))
        return NULL;
    relay = newXS(NULL, plx_relay, __FILE__);
    XSANY_OF(relay) = (void *)method;
    if (SvPOK(original))
        sv_setpvn((SV *)relay, SvPVX(original), SvCUR(original)); /* the prototype */
    mg = sv_magicext((SV *)relay, (SV *)original, PERL_MAGIC_ext, &plx_relay_vtbl, NULL, 0);
    mg->mg_flags |= MGf_REFCOUNTED;
    return newRV_noinc((SV *)relay);
}

XS_EXTERNAL(PLX_BOOT);
XS_EXTERNAL(PLX_BOOT)
{
    dVAR;
    dXSBOOTARGSXSAPIVERCHK;
    const plx_table *const table = plx_table_of_module();
    HV *const stash = gv_stashpvs(PLX_PACKAGE, GV_ADD);
    size_t i;

    PERL_UNUSED_VAR(items);
    plx_interpreter_init(aTHX_PERL, table->watched);
    newXS(PLX_PACKAGE "::CLONE", plx_clone, __FILE__);
    for (i = 0; i < table->nmethods; i++) {
        const plx_method *const method = &table->methods[i];
        CV *const xsub = newXS_flags(method->name, plx_dispatch, __FILE__, method->proto, 0);
        XSANY_OF(xsub) = (void *)method;
    }
    for (i = 0; i < table->nconstants; i++)
        newCONSTSUB(stash, table->constants[i].name, newSViv(table->constants[i].value));
    Perl_xs_boot_epilog(aTHX_ ax);
}
