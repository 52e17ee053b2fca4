/* A layer and the object that Rust has hung something on: each knows of the other until one of
 * them goes, and what is lost then. */
#include "layer.h"

static MGVTBL plx_layer_vtbl;

static MAGIC *
plx_layer_magic(SV *object)
{
    return mg_findext(object, PERL_MAGIC_ext, &plx_layer_vtbl);
}

/* The layer that the object stands behind; NULL when it has gone. */
plx_layer *
plx_layer_of(SV *object)
{
    MAGIC *const mg = SvTYPE(object) >= SVt_PVMG ? plx_layer_magic(object) : NULL;
    return mg ? (plx_layer *)mg->mg_ptr : NULL;
}

/* Layer and object know nothing of each other any more. */
void
plx_layer_part(plx_layer *layer)
{
    if (layer->object)
        plx_layer_magic(layer->object)->mg_ptr = NULL;
    layer->object = NULL;
}

/* Layer and object know of each other from now on. */
void
plx_layer_join(pTHX_ plx_layer *layer, SV *object)
{
    MAGIC *const mg = sv_magicext(object, NULL, PERL_MAGIC_ext, &plx_layer_vtbl, (char *)layer, 0);
    mg->mg_flags |= MGf_DUP;
    layer->object = object;
}

/* Whether bytes to be sent may wait. */
int
plx_layer_keeps(pTHX_ plx_layer *layer)
{
    plx_frame frame; /* for its mask */
    int keeps;
    if (!layer->object)
        return 0;
    plx_mask(aTHX_ &frame);
    keeps = layer->entry(aTHX_PERL, NULL, layer, layer->object, PLX_KEEPS, NULL, 0, NULL) > 0;
    plx_unmask(&frame);
    return keeps;
}

/* A handle that is dropped aborts its stream. Whether data is lost that was written to it. */
int
plx_layer_loses(pTHX_ plx_layer *layer)
{
    const int loses = layer->written && plx_layer_keeps(aTHX_ layer);
    layer->used = 0;
    layer->written = 0;
    return loses;
}

static void
plx_run_warn_of_loss(pTHX_ plx_job *job)
{
    PERL_UNUSED_ARG(job);
    warn("A stream's handle was written to and not closed: the stream is aborted");
}

/* Warns of that, when the stream has been aborted: $SIG{__WARN__} may close the handle. As in a
 * destructor, nothing is thrown, even where the program has made warnings fatal. At the very end
 * of an interpreter no code runs any more, and there is no $@. */
void
plx_layer_warn_of_loss(pTHX)
{
    const SSize_t kept = plx_kept(aTHX);
    plx_job job;
    dSAVE_ERRNO;
    if (!ckWARN_d(WARN_IO))
        return;
    Zero(&job, 1, plx_job);
    if (PL_errgv)
        plx_contain(aTHX_ NULL, plx_run_warn_of_loss, &job);
    else
        plx_run_warn_of_loss(aTHX_ &job);
    plx_forget_kept(aTHX_ kept);
    RESTORE_ERRNO;
}

static int
plx_layer_object_free(pTHX_ SV *object, MAGIC *mg)
{
    plx_layer *const layer = (plx_layer *)mg->mg_ptr;
    if (layer) {
        const int loses = plx_layer_loses(aTHX_ layer);
        plx_layer_part(layer);
        plx_free_attached(aTHX_ object);
        if (loses)
            plx_layer_warn_of_loss(aTHX);
    }
    return 0;
}

static MGVTBL plx_layer_vtbl = {
    NULL, NULL, NULL, NULL, plx_layer_object_free, NULL, plx_dup_without, NULL
};
