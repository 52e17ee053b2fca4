/* The table of the package, which Rust hands over. */
#include "boundary.h"

const plx_table *plx_the_table;

/* What the package is called; an extension under test may have no table. */
const char *plx_package(void) { return plx_the_table ? plx_the_table->package : "this extension"; }

/* A new XSUB of the package. */
CV *
plx_new_xsub(pTHX_ const char *name, XSUBADDR_t xsub)
{
    SV *const full = sv_2mortal(newSVpvf("%s::%s", plx_the_table->package, name));
    return newXS(SvPVX(full), xsub, __FILE__);
}
