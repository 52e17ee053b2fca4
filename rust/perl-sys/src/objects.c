/* Objects: blessed scalars with an integer slot, and what Rust hangs on them. What Rust calls
 * here runs no code of the program's. plx_attached_free may run some, since perl calls it with
 * no frame of Rust's above. */
#include "boundary.h"

static int
plx_attached_free(pTHX_ SV *sv, MAGIC *mg)
{
    plx_attached *const self = (plx_attached *)mg->mg_ptr;
    PERL_UNUSED_ARG(sv);
    mg->mg_ptr = NULL;
    if (self) {
        /* As for a DESTROY: what dies under it ends nothing that the program does. */
        const U8 in_eval = PL_in_eval;
        const SSize_t kept = plx_kept(aTHX);
        plx_frame frame; /* for its mask */
        plx_mask(aTHX_ &frame);
        PL_in_eval |= EVAL_INEVAL;
        self->drop(self);
        PL_in_eval = in_eval;
        plx_forget_kept(aTHX_ kept);
        plx_unmask(&frame); /* last, since a handler that waits runs here, and may die */
    }
    return 0;
}

/* What hangs on a scalar belongs to the thread that made it. For the magic's table. */
int
plx_dup_without(pTHX_ MAGIC *mg, CLONE_PARAMS *param)
{
    PERL_UNUSED_ARG(param);
    mg->mg_ptr = NULL;
    return 0;
}

MGVTBL plx_attached_vtbl = {
    NULL, NULL, NULL, NULL, plx_attached_free, NULL, plx_dup_without, NULL
};

static MAGIC *
plx_attached_magic(SV *sv)
{
    MAGIC *mg;
    for (mg = SvMAGIC(sv); mg; mg = mg->mg_moremagic)
        if (mg->mg_virtual == &plx_attached_vtbl)
            return mg;
    return NULL;
}

/* Frees what hangs on an object before the object goes. */
void
plx_free_attached(pTHX_ SV *object)
{
    MAGIC *const mg = plx_attached_magic(object);
    if (mg)
        plx_attached_free(aTHX_ object, mg);
}

/* The blessed scalar that `ref` refers to, or NULL. */
SV *
plx_object(SV *ref)
{
    return SvROK(ref) && SvOBJECT(SvRV(ref)) && SvTYPE(SvRV(ref)) == SVt_PVMG ? SvRV(ref) : NULL;
}

/* Whether an object holds text, which may say a number. */
int plx_holds_text(SV *object) { return !SvIOK(object) && SvPOK(object); }

/* The integer slot of an object: 0 where it holds no integer. */
long long plx_slot(SV *object) { return SvIOK(object) ? SvIVX(object) : 0; }

plx_attached *
plx_get_attached(SV *object)
{
    MAGIC *const mg = plx_attached_magic(object);
    return mg ? (plx_attached *)mg->mg_ptr : NULL;
}

void
plx_attach(void *perl, SV *object, plx_attached *data)
{
    dTHXa(perl);
    MAGIC *mg = plx_attached_magic(object);
    if (!mg) {
        mg = sv_magicext(object, NULL, PERL_MAGIC_ext, &plx_attached_vtbl, NULL, 0);
        mg->mg_flags |= MGf_DUP;
    }
    mg->mg_ptr = (char *)data;
}

/* Takes the attached data off: the caller owns it. */
plx_attached *
plx_detach(SV *object)
{
    MAGIC *const mg = plx_attached_magic(object);
    plx_attached *const data = mg ? (plx_attached *)mg->mg_ptr : NULL;
    if (mg)
        mg->mg_ptr = NULL;
    return data;
}

/* A reference to a new object: a scalar with `slot`, blessed into `class_name`. */
SV *
plx_new_object(void *perl, const char *class_name, long long slot)
{
    dTHXa(perl);
    SV *const ref = newSV(0);
    sv_setref_iv(ref, class_name, (IV)slot);
    return ref;
}

/* Sets the slot and nothing else, unless the program made the scalar something else. */
void
plx_clear_slot(SV *object)
{
    if (SvIOK(object))
        SvIV_set(object, 0);
}
