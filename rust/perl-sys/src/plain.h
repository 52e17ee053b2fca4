/* Scalars that are what they look like: looked at, and written to, without
 * running any code. In a header, since a plain call cannot afford the calls. */
#ifndef PLX_PLAIN_H
#define PLX_PLAIN_H

#include "boundary.h"

/* What a big allocation must leave possible: Perl ends the process where its own fails. */
#define PLX_TRIAL (1 << 20)

/* Whether so many bytes can be had. */
PERL_STATIC_INLINE int
plx_there_is(STRLEN need)
{
    void *trial;
    if (need <= PLX_TRIAL)
        return 1;
    trial = malloc(need);
    free(trial);
    return trial != NULL;
}

PERL_STATIC_INLINE int
plx_plain_number(SV *sv, UV *uv)
{
    if ((SvFLAGS(sv) & (SVf_IOK | SVs_GMG)) != SVf_IOK)
        return 0;
    *uv = (UV)SvIVX(sv); /* the same bits, whether IV or UV */
    return 1;
}

PERL_STATIC_INLINE const char *
plx_plain_string(SV *sv, STRLEN *len)
{
    if ((SvFLAGS(sv) & (SVf_POK | SVs_GMG | SVf_ROK | SVf_UTF8)) != SVf_POK)
        return NULL;
    *len = SvCUR(sv);
    return SvPVX_const(sv);
}

/* The attached data of the object that `ref` refers to, if nobody has meddled
 * with its slot. */
PERL_STATIC_INLINE plx_attached *
plx_plain_attached(SV *ref)
{
    MAGIC *mg;
    plx_attached *data;
    if ((SvFLAGS(ref) & (SVf_ROK | SVs_GMG)) != SVf_ROK)
        return NULL;
    ref = SvRV(ref);
    if ((SvFLAGS(ref) & (SVs_OBJECT | SVf_IOK | SVTYPEMASK)) != (SVs_OBJECT | SVf_IOK | SVt_PVMG))
        return NULL;
    mg = SvMAGIC(ref);
    if (!mg || mg->mg_virtual != &plx_attached_vtbl)
        return NULL;
    data = (plx_attached *)mg->mg_ptr;
    return data && data->slot == (long long)SvIVX(ref) ? data : NULL;
}

#define PLX_NOT_PLAIN \
    (SVf_READONLY | SVf_PROTECT | SVs_GMG | SVs_SMG | SVs_RMG | SVs_OBJECT | SVf_ROK | SVf_FAKE | SVf_OOK)

PERL_STATIC_INLINE int
plx_is_plain(SV *sv)
{
    const svtype type = SvTYPE(sv);
    return !(SvFLAGS(sv) & PLX_NOT_PLAIN) && type <= SVt_PVMG && type != SVt_INVLIST;
}

/* Makes a shared string buffer the scalar's own again, if nobody else shares it now. */
PERL_STATIC_INLINE int
plx_unshare(SV *sv)
{
    if (!SvIsCOW(sv))
        return 1;
#ifdef PERL_COPY_ON_WRITE
    if (SvLEN(sv) && CowREFCNT(sv) == 0) {
        SvIsCOW_off(sv);
        return 1;
    }
#endif
    return 0;
}

/* Room for `need` bytes, or NULL where memory is out. */
PERL_STATIC_INLINE char *
plx_grow(pTHX_ SV *sv, STRLEN need)
{
    if (SvTYPE(sv) < SVt_PV)
        sv_upgrade(sv, SVt_PV);
    if (SvLEN(sv) < need) {
        if (!need || !plx_there_is(need)) /* 0: one more than the most that there can be */
            return NULL;
        sv_grow(sv, need);
    }
    return SvPVX(sv);
}

PERL_STATIC_INLINE char *
plx_plain_room(pTHX_ SV *sv, STRLEN len)
{
    if (!plx_is_plain(sv) || !plx_unshare(sv))
        return NULL;
    if (SvTYPE(sv) >= SVt_PV && SvLEN(sv) > len)
        return SvPVX(sv);
    return plx_grow(aTHX_ sv, len + 1);
}

/* The first `len` bytes of the buffer are the scalar's value now. A buffer much
 * larger than that is given back. */
PERL_STATIC_INLINE void
plx_plain_filled(pTHX_ SV *sv, STRLEN len)
{
    SvCUR_set(sv, len);
    *SvEND(sv) = '\0';
    (void)SvPOK_only(sv);
    SvTAINT(sv);
    if (SvLEN(sv) / 2 > len + 256)
        SvPV_renew(sv, len + 10); /* as sv_setpvn allocates: room for a shared buffer's count */
}

#endif
