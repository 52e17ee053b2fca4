/* The layer of a filehandle that Rust stands behind: layer.c has what PerlIO calls of it,
 * tied.c what Perl's own operators call, layer_object.c what ties it to Rust's object. */
#ifndef PLX_LAYER_H
#define PLX_LAYER_H

#include "boundary.h"
#include "perliol.h"

/* What Rust is asked for. */
typedef enum {
    PLX_FILL,    /* receive: the bytes come by plx_layer_put, none at the end */
    PLX_DRAIN,   /* send the bytes */
    PLX_FINISH,  /* close, when all is sent */
    PLX_ABANDON, /* abort */
    PLX_KEEPS    /* 1 where bytes to be sent may wait in a buffer */
} plx_layer_call;

typedef struct plx_layer plx_layer;

/* What is received at a time, and what is written before it is sent. */
#define PLX_LAYER_SIZE (64 << 10)

/* Rust's; it never unwinds, and never jumps. PLX_FAILED: what it stands for has failed
 * with answer->sv, or, where that is NULL, is closed; PLX_NO_COUNT: raise the answer. For
 * PLX_KEEPS there is neither frame nor answer. */
typedef long long (*plx_layer_entry)(void *perl, plx_frame *frame, plx_layer *layer, SV *object,
                                     int call, char *start, size_t len, plx_answer *answer);
#define PLX_FAILED (-1)

struct plx_layer {
    PerlIOBuf in;  /* perl's own: what was received and nobody has read */
    char *out;     /* what was written and is not sent yet */
    size_t used;
    int waits;     /* may it wait */
    int written;   /* has there been any */
    PerlIO *f;     /* the slot that holds this */
    IO *io;        /* the handle's, which closes this before it goes */
    SV *object;    /* Rust's; NULL when it has gone */
    plx_layer_entry entry;
};

/* layer.c */
long long plx_layer_ask(pTHX_ plx_layer *layer, plx_layer_call call, char *start, size_t len);
void plx_layer_leave(pTHX_ plx_layer *layer);

/* layer_object.c */
void plx_layer_join(pTHX_ plx_layer *layer, SV *object);
void plx_layer_part(plx_layer *layer);
plx_layer *plx_layer_of(SV *object);
int plx_layer_keeps(pTHX_ plx_layer *layer);
int plx_layer_loses(pTHX_ plx_layer *layer);
void plx_layer_warn_of_loss(pTHX);

#endif
