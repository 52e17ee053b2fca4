/* What perl's own operators call of a handle that has a layer of layer.c. It is tied, since
 * sysread and syswrite want a descriptor of any other; each method does what the operator
 * does to a handle that is not tied. No frame of Rust is ever above one that may die. */
#include "layer.h"

#define PLX_TIED "Handle::Tied::"

static int
plx_tied_saved(pTHX_ I32 at, UV type)
{
    return at < PL_savestack_ix && (PL_savestack[at].any_uv & SAVE_MASK) == type;
}

/* The operator that calls a tied handle's method: what perl's call_sv has put on the savestack,
 * first in the block around the call, or after the $\ that say saves. A profiler may have put
 * more behind that. */
static OP *
plx_tied_operator(pTHX)
{
    I32 at = PL_scopestack_ix > 1 ? PL_scopestack[PL_scopestack_ix - 2] : PL_savestack_ix;
    if (plx_tied_saved(aTHX_ at + 2, SAVEt_GENERIC_SVREF) && plx_tied_saved(aTHX_ at + 4, SAVEt_OP))
        at += 3;
    if (plx_tied_saved(aTHX_ at + 1, SAVEt_OP) && PL_savestack[at].any_ptr)
        return (OP *)PL_savestack[at].any_ptr;
    return PL_op;
}

/* A method's beginning: the operator is what warnings and messages name, and what the layer
 * asks for. */
#define PLX_TIED_BEGIN                                                                      \
    dXSARGS;                                                                                \
    OP *const call = PL_op;                                                                 \
    plx_layer *const layer = items > 0 && SvROK(ST(0)) ? plx_layer_of(SvRV(ST(0))) : NULL;  \
    PerlIO *const f = layer ? layer->f : NULL;                                              \
    IO *const io = layer ? layer->io : NULL;                                                \
    PERL_UNUSED_VAR(f);                                                                     \
    PERL_UNUSED_VAR(io);                                                                    \
    if (!layer) {                                                                           \
        errno = EBADF;                                                                      \
        XSRETURN_UNDEF;                                                                     \
    }                                                                                       \
    PL_op = plx_tied_operator(aTHX)

/* Its end: perl goes on from the call. */
#define PLX_TIED_RETURN(sv)           \
    STMT_START {                      \
        SV *const plx_result = (sv);  \
        PL_op = call;                 \
        ST(0) = plx_result;           \
        XSRETURN(1);                  \
    } STMT_END

/* --- reading --- */

/* Under -T, what comes from outside. */
static void
plx_tied_taint(pTHX_ SV *sv, IO *io)
{
    PERL_UNUSED_VAR(sv);
    if (!(IoFLAGS(io) & IOf_UNTAINT))
        SvTAINTED_on(sv);
}

/* A line as $/ says; NULL at the end, or where the stream fails first. */
static SV *
plx_tied_line(pTHX_ PerlIO *f, IO *io, int scalar)
{
    SV *const line = newSV(80);
    sv_2mortal(line);
    /* An empty file has one empty rest. */
    if ((!sv_gets(line, f, 0) && (!scalar || (IoFLAGS(io) & IOf_NOLINE) || !RsSNARF(PL_rs)))
        || PerlIO_error(f))
        return NULL;
    IoFLAGS(io) |= IOf_NOLINE;
    IoLINES(io)++;
    plx_tied_taint(aTHX_ line, io);
    return line;
}

XS_INTERNAL(plx_tied_readline)
{
    const U8 gimme = GIMME_V;
    PLX_TIED_BEGIN;
    SV *line;
    if (gimme != G_LIST) {
        line = plx_tied_line(aTHX_ f, io, 1);
        PLX_TIED_RETURN(line ? line : &PL_sv_undef);
    }
    SP -= items;
    PUTBACK;
    while ((line = plx_tied_line(aTHX_ f, io, 0))) {
        XPUSHs(line);
        PUTBACK;
    }
    PL_op = call;
}

XS_INTERNAL(plx_tied_getc)
{
    PLX_TIED_BEGIN;
    char byte;
    SV *got = &PL_sv_undef;
    if (PerlIO_read(f, &byte, 1) == 1) {
        got = newSVpvn_flags(&byte, 1, SVs_TEMP);
        plx_tied_taint(aTHX_ got, io);
    }
    PLX_TIED_RETURN(got);
}

XS_INTERNAL(plx_tied_eof)
{
    PLX_TIED_BEGIN;
    PLX_TIED_RETURN(boolSV(PerlIO_get_cnt(f) <= 0 && PerlIO_fill(f) != 0));
}

/* Makes the value a string, and returns its length in characters. */
static STRLEN
plx_tied_length(pTHX_ SV *sv)
{
    STRLEN len;
    const U8 *const text = (const U8 *)SvPV_force_nomg(sv, len);
    return SvUTF8(sv) ? utf8_length(text, text + len) : len;
}

/* READ(this, buffer, length, offset = 0): all that is asked for; under sysread, what there is. */
XS_INTERNAL(plx_tied_read)
{
    PLX_TIED_BEGIN;
    SV *const buffer = items > 1 ? ST(1) : sv_newmortal();
    const IV length = items > 2 ? SvIV(ST(2)) : 0;
    IV offset = items > 3 ? SvIV(ST(3)) : 0;
    SV *data;
    SSize_t want = (SSize_t)length, got;

    if (length < 0)
        croak("Negative length");
    SvGETMAGIC(buffer);
    if (!SvOK(buffer))
        sv_setpvs(buffer, "");
    (void)plx_tied_length(aTHX_ buffer); /* dies now, where it is read-only */
    if (offset < 0)
        offset += (IV)plx_tied_length(aTHX_ buffer);
    if (offset < 0)
        croak("Offset outside string");
    if (PL_op->op_type == OP_SYSREAD && want > 0) {
        if (PerlIO_get_cnt(f) > 0 || PerlIO_fill(f) == 0)
            want = PerlIO_get_cnt(f) < want ? PerlIO_get_cnt(f) : want;
        else
            want = 0;
    }
    data = sv_2mortal(newSV(want + 1));
    got = want > 0 ? PerlIO_read(f, SvPVX(data), (Size_t)want) : 0;
    if (got < 0 || PerlIO_error(f))
        PLX_TIED_RETURN(&PL_sv_undef);
    SvPOK_only(data);
    SvCUR_set(data, got);
    *SvEND(data) = '\0';
    if (offset == 0) {
        sv_setsv(buffer, data);
    }
    else {
        const STRLEN has = plx_tied_length(aTHX_ buffer);
        if ((STRLEN)offset > has) {
            const STRLEN gap = offset - has, end = SvCUR(buffer);
            Zero(SvGROW(buffer, end + gap + 1) + end, gap + 1, char);
            SvCUR_set(buffer, end + gap);
        }
        else {
            SvCUR_set(buffer, SvUTF8(buffer) ? sv_pos_u2b_flags(buffer, offset, NULL, 0)
                                             : (STRLEN)offset);
        }
        sv_catsv_nomg(buffer, data);
    }
    SvSETMAGIC(buffer);
    plx_tied_taint(aTHX_ buffer, io);
    PLX_TIED_RETURN(sv_2mortal(newSViv(got)));
}

/* --- writing --- */

/* Whether code of the program's makes the value. */
#define plx_tied_runs(sv) (SvGMAGICAL(sv) || SvROK(sv))

/* Whether there is one, as far as is known. */
#define plx_tied_has_value(sv) (SvGMAGICAL(sv) || SvOK(sv))

/* The bytes of a value. They stay where they are while they are written, unless code of the
 * program's runs before. */
static const char *
plx_tied_bytes(pTHX_ SV *sv, STRLEN *len)
{
    if (SvROK(sv) || SvGMAGICAL(sv)) {
        SV *const text = sv_newmortal();
        sv_copypv(text, sv);
        sv = text;
    }
    if (SvUTF8(sv)) {
        sv = sv_mortalcopy(sv);
        if (!sv_utf8_downgrade(sv, TRUE))
            croak("Wide character in %s", OP_DESC(PL_op));
    }
    else if (SvPOK(sv) && SvCUR(sv) > PLX_LAYER_SIZE) {
        SV *const text = sv_newmortal();
        sv_setsv_flags(text, sv, PLX_SHARE);
        sv = text;
    }
    return SvPV_const(sv, *len);
}

static SV *
plx_tied_write(pTHX_ PerlIO *f, IO *io, SV *sv)
{
    STRLEN len;
    const char *const bytes = plx_tied_bytes(aTHX_ sv, &len);
    if (PerlIO_write(f, bytes, len) < 0 || ((IoFLAGS(io) & IOf_FLUSH) && PerlIO_flush(f) != 0))
        return &PL_sv_undef;
    return &PL_sv_yes;
}

XS_INTERNAL(plx_tied_print)
{
    PLX_TIED_BEGIN;
    SV *const separator = GvSV(PL_ofsgv);
    SV *all = items == 2 ? ST(1) : NULL;
    if (!all || PL_ors_sv) {
        I32 i;
        all = newSVpvs_flags("", SVs_TEMP);
        for (i = 1; i < items; i++) {
            if (i > 1 && separator && (SvGMAGICAL(separator) || SvOK(separator)))
                sv_catsv(all, separator);
            sv_catsv(all, ST(i));
        }
        if (PL_ors_sv)
            sv_catsv(all, PL_ors_sv);
    }
    PLX_TIED_RETURN(plx_tied_write(aTHX_ f, io, all));
}

XS_INTERNAL(plx_tied_printf)
{
    PLX_TIED_BEGIN;
    SV *const all = sv_newmortal();
    if (items > 1)
        do_sprintf(all, items - 1, &ST(1));
    PLX_TIED_RETURN(items > 1 ? plx_tied_write(aTHX_ f, io, all) : &PL_sv_yes);
}

/* WRITE(this, data, length = all, offset = 0), which is syswrite: sent at once. */
XS_INTERNAL(plx_tied_syswrite)
{
    PLX_TIED_BEGIN;
    const int flushed = PerlIO_flush(f) == 0;
    SV *const data = items > 1 && plx_tied_has_value(ST(1)) ? ST(1) : &PL_sv_no; /* perl has warned */
    STRLEN has;
    const char *bytes = plx_tied_bytes(aTHX_ data, &has);
    IV length, offset, count;

    if ((items > 2 && plx_tied_runs(ST(2))) || (items > 3 && plx_tied_runs(ST(3))))
        bytes = SvPVX(newSVpvn_flags(bytes, has, SVs_TEMP)); /* that code may free them */
    length = items > 2 && plx_tied_has_value(ST(2)) ? SvIV(ST(2)) : (IV)has;
    offset = items > 3 ? SvIV(ST(3)) : 0;

    if (length < 0)
        croak("Negative length");
    if (offset < 0)
        offset += (IV)has;
    if (offset < 0 || offset > (IV)has)
        croak("Offset outside string");
    count = (IV)has - offset < length ? (IV)has - offset : length;
    if (!flushed || PerlIO_write(f, bytes + offset, count) < 0 || PerlIO_flush(f) != 0)
        PLX_TIED_RETURN(&PL_sv_undef);
    PLX_TIED_RETURN(sv_2mortal(newSViv(count)));
}

/* --- the end --- */

XS_INTERNAL(plx_tied_close)
{
    PLX_TIED_BEGIN;
    SV *const object = SvRV(ST(0));
    long long done;
    int error;
    plx_keep_alive(aTHX_ object);
    plx_keep_alive(aTHX_ (SV *)io);
    done = PerlIO_flush(f) == 0 ? plx_layer_ask(aTHX_ layer, PLX_FINISH, NULL, 0) : -1;
    error = errno;
    if (plx_layer_of(object) == layer)
        plx_layer_leave(aTHX_ layer);
    errno = error;
    PLX_TIED_RETURN(boolSV(done >= 0));
}

/* Drops what was open before the handle is opened as another: returns its IO. */
XS_INTERNAL(plx_tied_let_go)
{
    PLX_TIED_BEGIN;
    SV *const object = SvRV(ST(0));
    SV *const ref = sv_2mortal(newRV_inc((SV *)io));
    const int loses = plx_layer_loses(aTHX_ layer);
    plx_keep_alive(aTHX_ object);
    plx_layer_ask(aTHX_ layer, PLX_ABANDON, NULL, 0);
    if (plx_layer_of(object) == layer)
        plx_layer_leave(aTHX_ layer);
    if (loses)
        plx_layer_warn_of_loss(aTHX);
    PLX_TIED_RETURN(ref);
}

void
plx_tied_boot(pTHX)
{
    static const struct { const char *name; XSUBADDR_t xsub; } methods[] = {
        { PLX_TIED "READLINE", plx_tied_readline }, { PLX_TIED "READ", plx_tied_read },
        { PLX_TIED "GETC", plx_tied_getc },         { PLX_TIED "EOF", plx_tied_eof },
        { PLX_TIED "PRINT", plx_tied_print },       { PLX_TIED "PRINTF", plx_tied_printf },
        { PLX_TIED "WRITE", plx_tied_syswrite },    { PLX_TIED "CLOSE", plx_tied_close },
        { PLX_TIED "_let_go", plx_tied_let_go },
    };
    size_t i;
    /* The debugger's own sub around them would hide which operator calls. */
    for (i = 0; i < C_ARRAY_LENGTH(methods); i++)
        CvNODEBUG_on(plx_new_xsub(aTHX_ methods[i].name, methods[i].xsub));
}
