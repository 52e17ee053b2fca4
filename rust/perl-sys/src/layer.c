/* A PerlIO layer that Rust stands behind. What it receives is in a buffer of PerlIO's own
 * kind, which perl and XS code read from directly; what is written waits in another.
 *
 * Perl code may run while Rust is asked (a signal's handler, an event loop). It may use the
 * handle, close it or drop it: so no buffer is lent out, and nothing of the layer is looked
 * at afterwards unless it is still there. */
#include "layer.h"

#define PLX_LAYER(f) PerlIOSelf(f, plx_layer)
#define PLX_LOCKS(f) (PerlIOBase(f)->head->flags) /* PerlIO_pop frees nothing meanwhile */

/* Lets go of a layer that was closed while it was in use. */
static void
plx_layer_free(PerlIO *f)
{
    PerlIOl *const top = *f;
    if (PLX_LOCKS(f))
        return;
    *f = top->next;
    Safefree(top);
}

/* Whether an operator of perl's is asking. It is told of a failure by errno. XS code may not
 * look at errno, so it gets the exception. */
static int
plx_layer_under_operator(pTHX)
{
    return PL_op && PL_op->op_type != OP_ENTERSUB && PL_op->op_type != OP_GOTO;
}

/* Asks Rust. PLX_FAILED with errno set; exceptions are raised. */
long long
plx_layer_ask(pTHX_ plx_layer *layer, plx_layer_call call, char *start, size_t len)
{
    PerlIO *const f = layer->f;
    plx_frame frame, *holder;
    plx_answer answer;
    long long done;
    int gone;

    if (!layer->object) {
        if (call == PLX_DRAIN)
            Safefree(start);
        errno = EBADF;
        return PLX_FAILED;
    }
    plx_keep_alive(aTHX_ layer->object);
    plx_keep_alive(aTHX_ (SV *)layer->io);
    if (PL_rs)
        plx_keep_alive(aTHX_ PL_rs); /* sv_gets goes on with it, whatever $/ becomes */
    answer.verdict = PLX_EMPTY;
    answer.sv = NULL;
    frame.items = 0;
    plx_frame_begin(aTHX_ &frame);
    holder = plx_hold(aTHX_PERL, PLX_HELD);
    PLX_LOCKS(f)++;
    done = layer->entry(aTHX_PERL, &frame, layer, layer->object, call, start, len, &answer);
    PLX_LOCKS(f)--;
    plx_hold(aTHX_PERL, holder);
    if (answer.sv)
        sv_2mortal(answer.sv);
    gone = (layer->in.base.flags & PERLIO_F_CLEARED) != 0;
    if (call == PLX_DRAIN) {
        if (layer->out || gone)
            Safefree(start);
        else
            layer->out = start;
    }
    if (gone)
        plx_layer_free(f);
    else if (done < 0 && (answer.sv || call == PLX_FILL))
        layer->in.base.flags |= PERLIO_F_ERROR;
    plx_frame_end(aTHX_ &frame);
    if (done >= 0 && !gone)
        return done;
    if (done == PLX_NO_COUNT)
        plx_answer_with(aTHX_ &answer);
    errno = answer.sv ? EIO : EBADF;
    if (answer.sv && call == PLX_FILL && !plx_layer_under_operator(aTHX))
        croak_sv(answer.sv);
    return PLX_FAILED;
}

/* --- reading --- */

/* Puts what there is to read `front` bytes behind the buffer's beginning, with room for
 * `back` more after it. */
static void
plx_layer_room(PerlIOBuf *in, Size_t front, Size_t back)
{
    const Size_t left = in->end - in->ptr;
    const Size_t need = front + left + back;
    STDCHAR *buffer = in->buf;
    if (need > (Size_t)in->bufsiz) {
        Newx(buffer, need, STDCHAR);
        in->bufsiz = need;
    }
    Move(in->ptr, buffer + front, left, STDCHAR);
    if (buffer != in->buf)
        Safefree(in->buf);
    in->buf = buffer;
    in->ptr = buffer + front;
    in->end = in->ptr + left;
}

/* Rust's answer to PLX_FILL. */
void
plx_layer_put(plx_layer *layer, const char *bytes, size_t len)
{
    PerlIOBuf *const in = &layer->in;
    if (in->base.flags & PERLIO_F_CLEARED)
        return;
    plx_layer_room(in, 0, len);
    Copy(bytes, in->end, len, STDCHAR);
    in->end += len;
}

static IV
plx_layer_fill(pTHX_ PerlIO *f)
{
    plx_layer *const layer = PLX_LAYER(f);
    if (PerlIO_flush(f) != 0)
        return -1;
    switch (plx_layer_ask(aTHX_ layer, PLX_FILL, NULL, PLX_LAYER_SIZE)) {
    case PLX_FAILED:
        return -1;
    case 0:
        layer->in.base.flags |= PERLIO_F_EOF;
        return -1;
    default:
        return 0;
    }
}

static SSize_t
plx_layer_unread(pTHX_ PerlIO *f, const void *bytes, Size_t count)
{
    PerlIOBuf *const in = &PLX_LAYER(f)->in;
    if ((Size_t)(in->ptr - in->buf) < count)
        plx_layer_room(in, count, 0);
    in->ptr -= count;
    Copy(bytes, in->ptr, count, STDCHAR);
    in->base.flags &= ~PERLIO_F_EOF;
    return (SSize_t)count;
}

/* --- writing --- */

/* What Perl code writes while this is sent has a buffer of its own. It may also change what
 * the bytes come from: so of less than PLX_LAYER_SIZE nothing is left when it is sent. */
static IV
plx_layer_flush(pTHX_ PerlIO *f)
{
    plx_layer *const layer = PLX_LAYER(f);
    char *const out = layer->out;
    const size_t len = layer->used;
    if (!len)
        return 0;
    layer->out = NULL;
    layer->used = 0;
    return plx_layer_ask(aTHX_ layer, PLX_DRAIN, out, len) < 0 ? -1 : 0;
}

static SSize_t
plx_layer_write(pTHX_ PerlIO *f, const void *bytes, Size_t count)
{
    const char *from = (const char *)bytes;
    Size_t left = count;
    for (;;) {
        plx_layer *const layer = PLX_LAYER(f);
        const Size_t take = left < PLX_LAYER_SIZE ? left : PLX_LAYER_SIZE;
        if (!layer->out)
            Newx(layer->out, 2 * PLX_LAYER_SIZE, char);
        if (!layer->used)
            layer->waits = plx_layer_keeps(aTHX_ layer);
        Copy(from, layer->out + layer->used, take, char);
        layer->used += take;
        layer->written = 1;
        from += take;
        left -= take;
        if ((layer->used >= PLX_LAYER_SIZE || (!left && !layer->waits))
            && PerlIO_flush(f) != 0)
            return -1;
        if (!left)
            return (SSize_t)count;
    }
}

/* --- the end --- */

/* Only the tie's close ends a stream well. */
static IV
plx_layer_close(pTHX_ PerlIO *f)
{
    plx_layer *const layer = PLX_LAYER(f);
    SV *const object = layer->object;
    const int loses = plx_layer_loses(aTHX_ layer);
    PerlIOBase_close(aTHX_ f);
    if (loses) {
        plx_layer_part(layer);
        plx_free_attached(aTHX_ object);
        PLX_LOCKS(f)++;
        plx_layer_warn_of_loss(aTHX);
        PLX_LOCKS(f)--;
        if (layer->in.base.flags & PERLIO_F_CLEARED)
            plx_layer_free(f);
    }
    errno = EBADF;
    return -1;
}

static IV
plx_layer_popped(pTHX_ PerlIO *f)
{
    plx_layer *const layer = PLX_LAYER(f);
    plx_layer_part(layer);
    Safefree(layer->out);
    layer->out = NULL;
    return PerlIOBuf_popped(aTHX_ f);
}

/* In a new thread the handle has a layer without an object, and is as good as closed. A perl
 * with -DDEBUGGING asserts that each handle has a copy, and would end the program without a layer. */
static PerlIO *
plx_layer_dup(pTHX_ PerlIO *to, PerlIO *from, CLONE_PARAMS *param, int flags)
{
    char mode[8];
    PERL_UNUSED_ARG(param);
    if (flags & PERLIO_DUP_CLONE)
        return PerlIO_push(aTHX_ to, PerlIOBase(from)->tab, PerlIO_modestr(from, mode), NULL);
    errno = EBADF;
    return NULL;
}

/* --- what the handle lacks --- */

static IV
plx_layer_fileno(pTHX_ PerlIO *f)
{
    PERL_UNUSED_ARG(f);
    return -1;
}

static IV
plx_layer_seek(pTHX_ PerlIO *f, Off_t offset, int whence)
{
    PERL_UNUSED_ARG(f);
    PERL_UNUSED_ARG(offset);
    PERL_UNUSED_ARG(whence);
    errno = ESPIPE;
    return -1;
}

static Off_t
plx_layer_tell(pTHX_ PerlIO *f)
{
    PERL_UNUSED_ARG(f);
    errno = ESPIPE;
    return -1;
}

static PERLIO_FUNCS_DECL(plx_layer_funcs) = {
    sizeof(PerlIO_funcs),
    "stream",
    sizeof(plx_layer),
    PERLIO_K_BUFFERED | PERLIO_K_RAW | PERLIO_K_FASTGETS,
    PerlIOBase_pushed,
    plx_layer_popped,
    NULL, /* Open: plx_layer_open */
    PerlIOBase_binmode,
    NULL, /* Getarg */
    plx_layer_fileno,
    plx_layer_dup,
    PerlIOBuf_read,
    plx_layer_unread,
    plx_layer_write,
    plx_layer_seek,
    plx_layer_tell,
    plx_layer_close,
    plx_layer_flush,
    plx_layer_fill,
    PerlIOBase_eof,
    PerlIOBase_error,
    PerlIOBase_clearerr,
    PerlIOBase_setlinebuf,
    PerlIOBuf_get_base,
    PerlIOBuf_bufsiz,
    PerlIOBuf_get_ptr,
    PerlIOBuf_get_cnt,
    PerlIOBuf_set_ptrcnt,
};

/* Makes the glob behind `handle` a handle that reads and writes by `entry`, and is tied to
 * `object`, a reference to what `entry` is given; 0 where that can't be. */
int
plx_layer_open(void *perl, SV *handle, SV *object, plx_layer_entry entry)
{
    dTHXa(perl);
    GV *const gv = SvROK(handle) && isGV_with_GP(SvRV(handle)) ? (GV *)SvRV(handle) : NULL;
    IO *io;
    PerlIO *f;
    plx_layer *layer;
    if (!gv || !SvROK(object))
        return 0;
    io = GvIOn(gv);
    f = PerlIO_push(aTHX_ PerlIO_allocate(aTHX), PERLIO_FUNCS_CAST(&plx_layer_funcs), "r+b", NULL);
    if (!f)
        return 0;
    layer = PLX_LAYER(f);
    layer->in.base.flags |= PERLIO_F_OPEN | PERLIO_F_RDBUF;
    layer->in.bufsiz = PLX_LAYER_SIZE;
    PerlIO_get_base(f);
    layer->f = f;
    layer->io = io;
    layer->entry = entry;
    plx_layer_join(aTHX_ layer, SvRV(object));
    IoIFP(io) = IoOFP(io) = f;
    IoTYPE(io) = IoTYPE_RDONLY; /* of others perl says when they go in error */
    sv_magic((SV *)io, object, PERL_MAGIC_tiedscalar, NULL, 0);
    sv_setsv(GvSVn(gv), object);
    return 1;
}

/* Makes it a handle like any that has been closed. */
void
plx_layer_leave(pTHX_ plx_layer *layer)
{
    IO *const io = layer->io;
    PerlIO *const f = layer->f;
    layer->used = 0;
    sv_unmagic((SV *)io, PERL_MAGIC_tiedscalar);
    IoIFP(io) = IoOFP(io) = NULL;
    PerlIO_close(f);
    IoTYPE(io) = IoTYPE_CLOSED;
    IoLINES(io) = 0;
}
