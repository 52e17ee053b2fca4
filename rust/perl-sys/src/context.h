/* What the boundary knows of an interpreter. */
#ifndef PLX_CONTEXT_H
#define PLX_CONTEXT_H

#include "boundary.h"

typedef struct {
    plx_frame *holder; /* see boundary.h */
    I32 turns;         /* relays on the stack */
    HV *running;       /* XSUBs that run once at a time: see around.c */
    AV *kept;          /* exceptions that wait: see contain.c */
    int exits;         /* and an exit */
    int returns;       /* an XSUB of ours returns to call_sv: see signals.c */
    CV *runner;        /* contain.c's own, made when it is needed first */
    struct plx_errand *errand;
} plx_context;

plx_context *plx_context_of(pTHX);

#endif
