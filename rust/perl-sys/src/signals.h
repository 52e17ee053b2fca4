/* Signals, as far as a plain call looks at them. */
#ifndef PLX_SIGNALS_H
#define PLX_SIGNALS_H

#include "boundary.h"

/* Whether a slot of Perl's table of handlers is in use. In most programs none is:
 * one instruction for each is all it costs. */
PERL_STATIC_INLINE int
plx_any_signal(pTHX)
{
    SV **const values = PL_psig_ptr;
    UV any = 0;
    int i;
    if (!values)
        return 0;
#if defined(__GNUC__) && !defined(__clang__)
#  pragma GCC unroll 128
#endif
    for (i = 1; i < SIG_SIZE; i++)
        any |= PTR2UV(values[i]);
    return any != 0;
}

int plx_any_handler(pTHX);

#endif
