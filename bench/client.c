/* One stream operation through libvirt's own calls: the measure the others
 * are held against.  Usage: client URI OP PATH BYTES
 * Prints the bytes of data moved and the calls (or handler calls) it took. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTION 1048576LL /* sparse volumes: one section of data, one of hole */

struct state {
    unsigned long long bytes, calls;
    long long pos, total; /* in the file, holes included */
    char *prepared;
    int fd; /* of the local file */
};

static void fail(const char *what)
{
    const char *why = virGetLastErrorMessage();
    fprintf(stderr, "client: %s: %s\n", what, why ? why : "no reason given");
    exit(1);
}

static int sink(virStreamPtr st, const char *data, size_t n, void *opaque)
{
    struct state *s = opaque;
    (void)st;
    (void)data;
    s->bytes += n;
    s->calls++;
    return (int)n;
}

static int sink_hole(virStreamPtr st, long long length, void *opaque)
{
    struct state *s = opaque;
    (void)st;
    s->pos += length;
    return 0;
}

static int source(virStreamPtr st, char *data, size_t n, void *opaque)
{
    struct state *s = opaque;
    (void)st;
    if ((long long)n > s->total - s->pos)
        n = (size_t)(s->total - s->pos);
    if (n)
        memcpy(data, s->prepared, n);
    s->pos += (long long)n;
    s->bytes += n;
    s->calls++;
    return (int)n;
}

static int source_hole(virStreamPtr st, int *in_data, long long *length, void *opaque)
{
    struct state *s = opaque;
    (void)st;
    if (s->pos >= s->total) {
        *in_data = 0;
        *length = 0;
        return 0;
    }
    *in_data = (s->pos / SECTION) % 2 == 0;
    *length = SECTION - s->pos % SECTION;
    return 0;
}

static int source_skip(virStreamPtr st, long long length, void *opaque)
{
    struct state *s = opaque;
    (void)st;
    s->pos += length;
    return 0;
}

static int file_sink(virStreamPtr st, const char *data, size_t n, void *opaque)
{
    struct state *s = opaque;
    ssize_t written = write(s->fd, data, n);
    (void)st;
    if (written > 0)
        s->bytes += (size_t)written;
    s->calls++;
    return (int)written;
}

static int file_sink_hole(virStreamPtr st, long long length, void *opaque)
{
    struct state *s = opaque;
    off_t at = lseek(s->fd, length, SEEK_CUR);
    (void)st;
    return at < 0 ? -1 : ftruncate(s->fd, at);
}

static int file_source(virStreamPtr st, char *data, size_t n, void *opaque)
{
    struct state *s = opaque;
    ssize_t got;
    (void)st;
    if ((long long)n > s->total - s->pos)
        n = (size_t)(s->total - s->pos);
    got = read(s->fd, data, n);
    if (got > 0) {
        s->pos += got;
        s->bytes += (size_t)got;
    }
    s->calls++;
    return (int)got;
}

static int file_source_hole(virStreamPtr st, int *in_data, long long *length, void *opaque)
{
    struct state *s = opaque;
    off_t data, until;
    (void)st;
    if (s->pos >= s->total) {
        *in_data = 0;
        *length = 0;
        return 0;
    }
    data = lseek(s->fd, s->pos, SEEK_DATA);
    *in_data = data == s->pos;
    until = *in_data ? lseek(s->fd, s->pos, SEEK_HOLE) : data;
    if (until < 0 || until > s->total)
        until = s->total;
    *length = until - s->pos;
    return lseek(s->fd, s->pos, SEEK_SET) < 0 ? -1 : 0;
}

static int file_source_skip(virStreamPtr st, long long length, void *opaque)
{
    struct state *s = opaque;
    (void)st;
    s->pos += length;
    return lseek(s->fd, length, SEEK_CUR) < 0 ? -1 : 0;
}

/* The file that is written lies beside the volume that is read; the one that is
 * read is the volume that others download. */
static int local_file(const char *path, int up)
{
    char name[4096];
    const char *slash = strrchr(path, '/');
    int fd;
    if (up)
        snprintf(name, sizeof name, "%.*s/down", (int)(slash - path), path);
    else
        snprintf(name, sizeof name, "%s.file", path);
    fd = up ? open(name, O_RDONLY) : open(name, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0)
        perror(name);
    return fd;
}

/* The pool is made here so that a run needs no virsh. */
static void make_pool(virConnectPtr conn, const char *dir)
{
    char xml[4096];
    virStoragePoolPtr pool;
    snprintf(xml, sizeof xml,
             "<pool type='dir'><name>bench</name><target><path>%s</path></target></pool>", dir);
    if (!(pool = virStoragePoolCreateXML(conn, xml, 0)))
        fail("pool");
    virStoragePoolFree(pool);
}

static void per_call_recv(virStreamPtr st, size_t size, struct state *s)
{
    char *buf = malloc(size);
    int n;
    if (!buf)
        fail("buffer");
    while ((n = virStreamRecv(st, buf, size)) > 0) {
        s->bytes += (unsigned)n;
        s->calls++;
    }
    if (n < 0)
        fail("recv");
    free(buf);
}

static void per_call_send(virStreamPtr st, size_t size, struct state *s)
{
    char *buf = malloc(size);
    if (!buf)
        fail("buffer");
    memset(buf, 'x', size);
    while (s->pos < s->total) {
        int n = virStreamSend(st, buf, size);
        if (n < 0)
            fail("send");
        s->pos += n;
        s->calls++;
    }
    s->bytes = (unsigned long long)s->pos;
    free(buf);
}

int main(int argc, char **argv)
{
    virConnectPtr conn;
    virStorageVolPtr vol;
    virStreamPtr st;
    struct state s = {0};
    const char *op, *colon;
    int sparse, up, ret = 0;

    if (argc != 5) {
        fprintf(stderr, "usage: client URI OP PATH BYTES\n");
        return 2;
    }
    op = argv[2];
    if (!(conn = virConnectOpen(argv[1])))
        fail("open");
    if (!strcmp(op, "pool")) {
        make_pool(conn, argv[3]);
        virConnectClose(conn);
        return 0;
    }
    if (!strcmp(op, "start")) { /* what a client costs that moves nothing */
        printf("0 0\n");
        virConnectClose(conn);
        return 0;
    }
    sparse = !strncmp(op, "sparse_", 7);
    up = strstr(op, "send") != NULL;
    s.total = atoll(argv[4]) * (sparse ? 2 : 1);
    colon = strchr(op, ':');

    if (!(vol = virStorageVolLookupByPath(conn, argv[3])))
        fail("volume");
    if (!(st = virStreamNew(conn, 0)))
        fail("stream");
    if (up)
        ret = virStorageVolUpload(vol, st, 0, (unsigned long long)s.total,
                                  sparse ? VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM : 0);
    else
        ret = virStorageVolDownload(vol, st, 0, (unsigned long long)s.total,
                                    sparse ? VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM : 0);
    if (ret < 0)
        fail("volume stream");

    if (strstr(op, "_file") && (s.fd = local_file(argv[3], up)) < 0)
        return 1;
    if (up && !colon && !s.fd) {
        if (!(s.prepared = malloc(SECTION)))
            fail("buffer");
        memset(s.prepared, 'x', SECTION);
    }
    if (!strcmp(op, "recv_all") || !strcmp(op, "recv_all_named"))
        ret = virStreamRecvAll(st, sink, &s);
    else if (!strcmp(op, "send_all") || !strcmp(op, "send_all_assign"))
        ret = virStreamSendAll(st, source, &s);
    else if (!strcmp(op, "sparse_recv_all"))
        ret = virStreamSparseRecvAll(st, sink, sink_hole, &s);
    else if (!strcmp(op, "sparse_send_all"))
        ret = virStreamSparseSendAll(st, source, source_hole, source_skip, &s);
    else if (!strcmp(op, "recv_file"))
        ret = virStreamRecvAll(st, file_sink, &s);
    else if (!strcmp(op, "send_file"))
        ret = virStreamSendAll(st, file_source, &s);
    else if (!strcmp(op, "sparse_recv_file"))
        ret = virStreamSparseRecvAll(st, file_sink, file_sink_hole, &s);
    else if (!strcmp(op, "sparse_send_file"))
        ret = virStreamSparseSendAll(st, file_source, file_source_hole, file_source_skip, &s);
    else if (colon && !strncmp(op, "recv:", 5))
        per_call_recv(st, (size_t)atoll(colon + 1), &s);
    else if (colon && !strncmp(op, "send:", 5))
        per_call_send(st, (size_t)atoll(colon + 1), &s);
    else {
        fprintf(stderr, "client: no operation %s\n", op);
        return 2;
    }
    if (ret < 0)
        fail(op);
    if (virStreamFinish(st) < 0)
        fail("finish");
    if (s.fd && close(s.fd) < 0)
        perror("close");
    free(s.prepared);
    virStreamFree(st);
    virStorageVolFree(vol);
    virConnectClose(conn);
    printf("%llu %llu\n", s.bytes, s.calls);
    return 0;
}
