/* Stands before libvirt and the allocator (LD_PRELOAD), and makes the Nth call that the
 * module's own library makes fail. What is to fail is said in a file that the program
 * writes and this library has mapped. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct control {
    int fail_at;  /* which call fails, from 1 on; 0: none */
    int how;      /* 1: with libvirt's error, 2: without one, 3: an allocation */
    int count;    /* calls so far */
    int streams;  /* references that the library holds */
    char name[48]; /* of the one that failed */
};
static struct control none;
static struct control *control = &none;

__attribute__((constructor)) static void
map_control(void)
{
    const char *path = getenv("STREAM_TORTURE");
    int fd = path ? open(path, O_RDWR) : -1;
    void *at;
    if (fd < 0)
        return;
    at = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED)
        control = at;
    close(fd);
}

static const char *own_start, *own_end;

/* Whether an address lies in the module's library. */
static int
is_own(const void *address)
{
    static __thread int asking;
    const char *slash;
    Dl_info info;
    int own = 0;
    if (own_start && (const char *)address >= own_start && (const char *)address < own_end)
        return 1;
    if (asking)
        return 0;
    asking = 1;
    if (dladdr(address, &info) && info.dli_fname) {
        slash = strrchr(info.dli_fname, '/');
        own = slash && strncmp(slash, "/Stream.", 8) == 0;
        if (own && !own_start) {
            own_start = info.dli_fbase;
            own_end = address > (const void *)own_start ? (const char *)address : own_start;
        }
    }
    asking = 0;
    return own;
}

/* Perl loads libvirt for its modules alone: it is not in the order that RTLD_NEXT follows. */
static void *
real(const char *name)
{
    static void *libvirt;
    if (!libvirt)
        libvirt = dlopen("libvirt.so.0", RTLD_LAZY | RTLD_NOLOAD);
    return dlsym(libvirt, name);
}

/* Whether this call is the one that fails. */
static int
fails(const char *name)
{
    int now;
    if (control->how != 1 && control->how != 2)
        return 0;
    now = __sync_add_and_fetch(&control->count, 1);
    if (now != control->fail_at)
        return 0;
    strncpy(control->name, name, sizeof control->name - 1);
    if (control->how == 1)
        ((int (*)(void *))real("virStreamAbort"))(NULL);
    else
        ((void (*)(void))real("virResetLastError"))();
    return 1;
}

#define OWN is_own(__builtin_return_address(0))

#define CALL(result, name, declared, types, given, failed)   \
    result name declared;                                    \
    result name declared                                     \
    {                                                        \
        static result (*next) types;                         \
        if (!next)                                           \
            *(void **)&next = real(#name);                   \
        if (OWN && fails(#name))                             \
            return failed;                                   \
        return next given;                                   \
    }

CALL(int, virStreamRecv, (void *s, char *d, size_t n), (void *, char *, size_t), (s, d, n), -1)
CALL(int, virStreamRecvFlags, (void *s, char *d, size_t n, unsigned f),
     (void *, char *, size_t, unsigned), (s, d, n, f), -1)
CALL(int, virStreamSend, (void *s, const char *d, size_t n), (void *, const char *, size_t), (s, d, n), -1)
CALL(int, virStreamRecvHole, (void *s, long long *l, unsigned f), (void *, long long *, unsigned), (s, l, f), -1)
CALL(int, virStreamSendHole, (void *s, long long l, unsigned f), (void *, long long, unsigned), (s, l, f), -1)
CALL(int, virStreamFinish, (void *s), (void *), (s), -1)
CALL(int, virStreamAbort, (void *s), (void *), (s), -1)
CALL(int, virStreamEventAddCallback, (void *s, int e, void *c, void *o, void *f),
     (void *, int, void *, void *, void *), (s, e, c, o, f), -1)
CALL(int, virStreamEventUpdateCallback, (void *s, int e), (void *, int), (s, e), -1)
CALL(int, virStreamEventRemoveCallback, (void *s), (void *), (s), -1)
CALL(void *, virGetLastError, (void), (void), (), NULL)

void *virStreamNew(void *conn, unsigned flags);
void *
virStreamNew(void *conn, unsigned flags)
{
    const int own = OWN;
    void *stream;
    if (own && fails("virStreamNew"))
        return NULL;
    stream = ((void *(*)(void *, unsigned))real("virStreamNew"))(conn, flags);
    if (own && stream)
        __sync_add_and_fetch(&control->streams, 1);
    return stream;
}

int virStreamRef(void *stream);
int
virStreamRef(void *stream)
{
    if (OWN)
        __sync_add_and_fetch(&control->streams, 1);
    return ((int (*)(void *))real("virStreamRef"))(stream);
}

/* Does what it has to, and then says that it failed. */
int virStreamFree(void *stream);
int
virStreamFree(void *stream)
{
    const int own = OWN;
    const int rc = ((int (*)(void *))real("virStreamFree"))(stream);
    if (own)
        __sync_sub_and_fetch(&control->streams, 1);
    return own && fails("virStreamFree") ? -1 : rc;
}

/* --- big allocations of the module's own --- */

extern void *__libc_malloc(size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_calloc(size_t, size_t);

#define BIG 100000

static int
starved(size_t size, const void *caller, const char *name)
{
    if (control->how != 3 || size < BIG || !is_own(caller))
        return 0;
    if (__sync_add_and_fetch(&control->count, 1) != control->fail_at)
        return 0;
    strncpy(control->name, name, sizeof control->name - 1);
    errno = ENOMEM;
    return 1;
}

void *
malloc(size_t size)
{
    return starved(size, __builtin_return_address(0), "malloc") ? NULL : __libc_malloc(size);
}

void *
realloc(void *old, size_t size)
{
    return starved(size, __builtin_return_address(0), "realloc") ? NULL : __libc_realloc(old, size);
}

void *
calloc(size_t count, size_t size)
{
    return starved(count * size, __builtin_return_address(0), "calloc") ? NULL : __libc_calloc(count, size);
}
