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
