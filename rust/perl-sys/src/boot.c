/* What the loader calls. */
#include "boundary.h"

/* Installs what the table contains, in a perl that the library was built for: for
 * another, the handshake dies. The package's .pm calls it, and not Rust's boot
 * function, which perl must not jump over. */
XS(plx_install)
{
    dVAR;
    const plx_table *const table = plx_the_table;
    /* XSUB.h's dXSBOOTARGSXSAPIVERCHK, which takes the version only as a literal. */
    const U32 key = HS_KEY(TRUE, TRUE, "v" PERL_API_VERSION_STRING, "") | (U32)strlen(table->version) << 8;
    const I32 ax = Perl_xs_handshake(key, HS_CXT, __FILE__, "v" PERL_API_VERSION_STRING, table->version);
    HV *const stash = gv_stashpv(table->package, GV_ADD);
    size_t i;

    plx_interpreter_init(aTHX_PERL);
    plx_see_returns(aTHX);
    plx_new_xsub(aTHX_ "CLONE", plx_clone);
    for (i = 0; i < table->nmethods; i++) {
        const plx_method *const method = &table->methods[i];
        CV *const xsub = newXS_flags(method->name, plx_dispatch, __FILE__, method->proto, 0);
        XSANY_OF(xsub) = (void *)method;
    }
    for (i = 0; i < table->nconstants; i++)
        newCONSTSUB(stash, table->constants[i].name, newSViv((IV)table->constants[i].value));
    plx_tied_boot(aTHX);
    Perl_xs_boot_epilog(aTHX_ ax);
}

/* The work of Rust's boot function. It looks at nothing in the interpreter, which
 * may be one that the library was not built for, and newXS does not die. */
void
plx_hand_over(void *perl, const plx_table *table)
{
    dTHXa(perl);
    plx_the_table = table;
    newXS(table->install, plx_install, __FILE__);
}
