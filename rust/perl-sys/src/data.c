/* Scalars. What Rust calls here runs no code of the program's: what would is put off. */
#include "plain.h"

SV *plx_inc(SV *sv) { return SvREFCNT_inc_simple_NN(sv); }

/* Gives up a count. What could run code when it goes (a destructor, a tie) goes
 * at the caller's next statement instead, when no frame of Rust is in the way. */
void
plx_dec(void *perl, SV *sv)
{
    dTHXa(perl);
    if (SvREFCNT(sv) > 1 || (SvTYPE(sv) < SVt_PVMG && !SvROK(sv)))
        SvREFCNT_dec_NN(sv);
    else
        sv_2mortal(sv);
}

/* Keeps a scalar until the caller's next statement. A reference to it is the mortal: perl may take
 * the string of a scalar that is mortal itself, and so may a new thread that has a copy. */
void
plx_keep_alive(pTHX_ SV *sv)
{
    sv_2mortal(newRV_inc(sv));
}

SV *
plx_new_integer(void *perl, long long value)
{
    dTHXa(perl);
    char digits[24];
    if ((IV)value == value)
        return newSViv((IV)value);
    /* Perl's own formats print no 64-bit integer there. */
    return newSVpvn(digits, (STRLEN)my_snprintf(digits, sizeof digits, "%lld", value));
}

SV *plx_new_number(void *perl, double value) { dTHXa(perl); return newSVnv(value); }

SV *plx_new_undef(void *perl) { dTHXa(perl); return newSV(0); }

/* NULL where memory is out. */
SV *
plx_new_bytes(void *perl, const char *bytes, size_t len)
{
    dTHXa(perl);
    return plx_there_is(len + 1) ? newSVpvn(bytes, len) : NULL;
}

/* A new scalar with the same value. Get magic has been called already. */
SV *
plx_new_copy(void *perl, SV *sv)
{
    dTHXa(perl);
    return newSVsv_flags(sv, PLX_SHARE);
}

/* A reference of its own to `object`. */
SV *plx_new_ref(void *perl, SV *object) { dTHXa(perl); return newRV_inc(object); }

/* A reference to a hash, blessed unless `class_name` is NULL; fields are added by
 * plx_hash_set, which takes the value over. */
SV *
plx_new_hash(void *perl, const char *class_name)
{
    dTHXa(perl);
    SV *const ref = newRV_noinc((SV *)newHV());
    return class_name ? sv_bless(ref, gv_stashpv(class_name, GV_ADD)) : ref;
}

void
plx_hash_set(void *perl, SV *hash, const char *key, size_t len, SV *value)
{
    dTHXa(perl);
    if (!hv_store((HV *)SvRV(hash), key, (I32)len, value, 0))
        SvREFCNT_dec_NN(value);
}

/* --- numbers and strings, where they can be had without running anything --- */

int
plx_plain_uv(SV *sv, unsigned long long *value)
{
    UV uv;
    const int plain = plx_plain_number(sv, &uv);
    *value = plain ? uv : 0;
    return plain;
}

const char *plx_plain_bytes(SV *sv, STRLEN *len) { return plx_plain_string(sv, len); }

int plx_magical(SV *sv) { return SvGMAGICAL(sv) != 0; }

int plx_readonly(SV *sv) { return SvREADONLY(sv) != 0; }

/* --- scalars that go to a handler, one for all calls as long as it keeps nothing --- */

SV *plx_new_scratch(void *perl) { dTHXa(perl); return newSVpvs(""); }

/* A private buffer of `cap` bytes, or NULL where memory is out. A buffer that is still
 * shared is left to the other scalars. */
char *
plx_scratch_room(void *perl, SV *sv, STRLEN cap)
{
    dTHXa(perl);
    if (!plx_unshare(sv))
        sv_setpvs(sv, "");
    return plx_grow(aTHX_ sv, cap + 16);
}

void
plx_scratch_filled(SV *sv, STRLEN len)
{
    SvCUR_set(sv, len);
    *SvEND(sv) = '\0';
    (void)SvPOK_only(sv);
}

/* Whether the scalar that a handler was given can be given again. */
int
plx_scratch_pristine(SV *sv)
{
    return SvREFCNT(sv) == 1 && SvTYPE(sv) >= SVt_PV && plx_is_plain(sv);
}

/* Where the scalar's buffer is: a handler that assigns to the scalar may put
 * another in its place. */
const char *plx_scratch_buffer(SV *sv) { return SvTYPE(sv) >= SVt_PV ? SvPVX_const(sv) : NULL; }

/* Gives the scalar's buffer back. */
void
plx_scratch_drop(void *perl, SV *sv)
{
    dTHXa(perl);
    if (plx_is_plain(sv) && SvTYPE(sv) >= SVt_PV) {
        sv_setpvs(sv, "");
        SvPV_free(sv);
        SvPV_set(sv, NULL);
        SvLEN_set(sv, 0);
        (void)SvOK_off(sv);
    }
}

/* Buffers of the size that transfers use come and go with every piece. glibc
 * would map and unmap memory for each, until a block as large has been freed
 * once (see mallopt(3)). */
void
plx_settle_heap(void)
{
    void *volatile block = malloc(1 << 20);
    free(block);
}

/* `sv` has the value of `from` (whose buffer it shares, where that is worth it). */
void
plx_scratch_share(void *perl, SV *sv, SV *from)
{
    dTHXa(perl);
    sv_setsv_flags(sv, from, PLX_SHARE);
}

void
plx_scratch_set(void *perl, SV *sv, const char *bytes, STRLEN len)
{
    dTHXa(perl);
    sv_setpvn(sv, bytes, len);
    SvUTF8_off(sv);
}
