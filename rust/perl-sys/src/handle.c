/* The descriptors of Perl's filehandles. What is no filehandle is a path. */
#include "boundary.h"
#include "perliol.h"

/* The IO behind a scalar: that of a glob, of a reference to one, or of an object
 * that is one of these or can be used as one. `is_handle` says whether the scalar
 * is any of this; the IO of a handle that was never opened is NULL. */
static IO *
plx_io_of(pTHX_ SV *sv, int *is_handle)
{
    if (SvROK(sv) && SvAMAGIC(sv))
        sv = amagic_deref_call(sv, to_gv_amg);
    if (SvROK(sv))
        sv = SvRV(sv);
    *is_handle = SvTYPE(sv) == SVt_PVIO || isGV_with_GP(sv);
    if (SvTYPE(sv) == SVt_PVIO)
        return (IO *)sv;
    return *is_handle ? GvIOp((GV *)sv) : NULL;
}

/* Refuses a handle with a layer that changes bytes. */
static void
plx_refuse_layers(pTHX_ PerlIO *fp, const char *what)
{
    static const char *const plain[] = { "unix", "perlio", "stdio", "mmap", "pending" };
    AV *const layers = (AV *)sv_2mortal((SV *)PerlIO_get_layers(aTHX_ fp));
    SSize_t i;
    for (i = 0; i + 2 <= av_len(layers); i += 3) {
        SV **const name = av_fetch(layers, i, 0);
        SV **const flags = av_fetch(layers, i + 2, 0);
        const char *const text = name && SvOK(*name) ? SvPV_nolen(*name) : "";
        const IV set = flags ? SvIV(*flags) : 0;
        size_t known = 0;
        while (known < C_ARRAY_LENGTH(plain) && strNE(text, plain[known]))
            known++;
        if (known == C_ARRAY_LENGTH(plain))
            croak("%s: the filehandle has a layer :%s; bytes need one that is :raw", what, text);
        if (set & (PERLIO_F_UTF8 | PERLIO_F_CRLF))
            croak("%s: the filehandle has a layer :%s; bytes need one that is :raw", what,
                  set & PERLIO_F_UTF8 ? "utf8" : "crlf");
    }
}

/* job->sv as a file, for job->what, to write to (job->count) or to
 * read from. A handle: job->defined, its descriptor in job->iv[0], where flushing it
 * failed job->error, and its IO in job->value. Else a path: job->value has its bytes. */
static void
plx_run_file(pTHX_ plx_job *job)
{
    SV *const sv = job->sv;
    const char *const what = job->what;
    IO *io;
    PerlIO *fp;
    SvGETMAGIC(sv);
    if (!SvOK(sv))
        croak("%s: the file is undefined, where a path or a filehandle is expected", what);
    io = plx_io_of(aTHX_ sv, &job->defined);
    if (!job->defined) {
        SV *text = sv;
        STRLEN len;
        const char *path;
        if (SvROK(sv)) {
            text = SvAMAGIC(sv) ? AMG_CALLunary(sv, string_amg) : NULL;
            if (!text)
                croak("%s: the file is a reference, where a path or a filehandle is expected", what);
        }
        path = SvPV_nomg(text, len); /* the bytes that open would take */
        TAINT_set(SvTAINTED(sv)); /* and not what else the statement has */
        if (job->count)
            TAINT_PROPER("open");
        job->value = newSVpvn(path, len);
        return;
    }
    if (io && SvRMAGICAL((SV *)io) && mg_find((SV *)io, PERL_MAGIC_tiedscalar))
        croak("%s: the filehandle is tied, and has no file descriptor", what);
    fp = io ? job->count && IoOFP(io) ? IoOFP(io) : IoIFP(io) : NULL;
    if (!fp)
        croak("%s: the filehandle is not open", what);
    if (PerlIO_fileno(fp) < 0)
        croak("%s: the filehandle has no file descriptor", what);
    plx_refuse_layers(aTHX_ fp, what);
    errno = 0;
    job->error = PerlIO_flush(fp) ? errno : 0;
    job->iv[0] = PerlIO_fileno(fp);
    job->value = SvREFCNT_inc_simple_NN((SV *)io);
}

/* Takes from the handle what Perl has read and the program has not had, into job->value: for
 * files on which no seek could give it back. */
static void
plx_run_unread(pTHX_ plx_job *job)
{
    PerlIO *const fp = IoIFP((IO *)job->sv);
    const SSize_t count = fp && PerlIO_fast_gets(fp) ? PerlIO_get_cnt(fp) : 0;
    job->value = newSVpvs("");
    if (count > 0) {
        char *const to = SvGROW(job->value, (STRLEN)count + 1);
        const SSize_t got = PerlIO_read(fp, to, (Size_t)count);
        SvCUR_set(job->value, got > 0 ? got : 0);
    }
}

/* Sets the handle's position to that of its descriptor, which has been moved. */
static void
plx_run_reposition(pTHX_ plx_job *job)
{
    IO *const io = (IO *)job->sv;
    const int error = errno;
    if (IoIFP(io))
        PerlIO_seek(IoIFP(io), 0, SEEK_CUR);
    if (IoOFP(io) && IoOFP(io) != IoIFP(io))
        PerlIO_seek(IoOFP(io), 0, SEEK_CUR);
    errno = error;
}

PLX_JOB(file)
PLX_JOB(unread)
PLX_JOB(reposition)
