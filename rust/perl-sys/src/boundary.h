/* The C boundary: what only C can say of Perl. It knows nothing of libvirt.
 *
 * `perl` is the interpreter; a perl without threads ignores it. Functions that
 * return a plx_status may run Perl code, and bring its death back as a value;
 * all others run none, and never die. */
#ifndef PLX_BOUNDARY_H
#define PLX_BOUNDARY_H

#define PERL_NO_GET_CONTEXT
#include "EXTERN.h"
#include "perl.h"
#include "XSUB.h"

#ifdef MULTIPLICITY
#  define aTHX_PERL aTHX
#else
#  define aTHX_PERL NULL
#endif
#ifndef G_LIST /* before Perl 5.34 */
#  define G_LIST G_ARRAY
#endif
#define PLX_MOST_ARGS 30 /* of any method; the table is checked for it */
#define XSANY_OF(cv) (CvXSUBANY(cv).any_ptr)

/* How protected Perl code ended. */
typedef enum {
    PLX_DONE = 0,
    PLX_DIED = 1, /* the exception is in the job, owned by the caller */
    PLX_EXIT = 2  /* exit was called; its status is in the interpreter */
} plx_status;

/* One piece of Perl code to run protected: operands in, results out. */
typedef struct plx_job {
    void (*run)(pTHX_ struct plx_job *job);
    SV *code;        /* what to call */
    SV *const *args; /* its arguments */
    size_t argc;
    SV *sv;          /* the scalar to work on */
    SV *value;       /* a scalar to work with, or one made here for the caller */
    UV uv;
    long long iv[2]; /* 64 bits wide, also where Perl's are not */
    double nv;
    int count;       /* values returned */
    int defined;
    int error;       /* errno as the handler left it */
    int finished;
    OP *op;          /* the caller's */
    SV *err;         /* $@ as the caller had it, and then as the job left it */
    int in_eval;     /* PL_in_eval of the caller */
    SV *exception;
} plx_job;

plx_status plx_protect(pTHX_ plx_job *job);

/* What Rust calls to run plx_run_NAME. */
#define PLX_JOB(name, how)                    \
    plx_status plx_do_##name(void *perl, plx_job *job) \
    {                                         \
        dTHXa(perl);                          \
        job->run = plx_run_##name;            \
        return how(aTHX_ job);                \
    }

/* What a method answered; Rust fills it in, C does it with no Rust frame left. */
typedef enum {
    PLX_EMPTY,    /* return; */
    PLX_PASS,     /* not a plain call after all: make the ordinary one */
    PLX_INT,      /* return iv */
    PLX_SV,       /* return sv */
    PLX_DECLINE,  /* warn sv, return undef */
    PLX_CROAK,    /* die with sv, "at FILE line N." appended where it is a string */
    PLX_RETHROW,  /* die with sv, which has been through $SIG{__DIE__} already */
    PLX_LEAVE     /* go on with the exit that was caught */
} plx_verdict;

typedef struct {
    plx_verdict verdict;
    IV iv;
    SV *sv; /* owned; given up to C */
} plx_answer;

/* Rust's part of an object, hung on the scalar that the object is. */
typedef struct plx_attached {
    void (*drop)(struct plx_attached *self);
    IV slot; /* what the scalar holds, as long as nobody has meddled with it */
} plx_attached;

/* method(object, data, nbytes, flags = 0), as it is nearly always called: an
 * object of ours, a plain string, plain numbers, and no Perl code that could
 * run meanwhile. One look at each argument is enough then. */
typedef enum { PLX_NO_SHAPE, PLX_FILLS, PLX_READS } plx_shape;

/* Rust's: runs a plain call. It never unwinds, and never jumps. What it returns
 * is the method's count, or PLX_NO_COUNT: then the answer says what to do. */
typedef IV (*plx_plain_entry)(void *perl, plx_attached *attached, char *start, size_t len,
                              UV flags, plx_answer *answer);
#define PLX_NO_COUNT IV_MIN

typedef struct plx_method {
    const char *name;  /* fully qualified */
    const char *proto; /* NULL for none */
    const char *usage;
    I32 min, max;
    void (*entry)(void); /* a Rust function; only plx_table.enter knows its type */
    plx_shape shape;
    size_t most;         /* the most that a plain call fills */
    plx_plain_entry plain; /* NULL where there is no shape */
} plx_method;

/* Rust's: runs a method. It never unwinds, and never jumps. */
typedef void (*plx_enter_fn)(void *perl, const plx_method *method, SV **args, size_t argc,
                             plx_answer *answer);

/* The arguments of the method that runs: Perl's stack holds no counts of them. */
typedef struct plx_frame {
    SV *args[PLX_MOST_ARGS]; /* a copy: Perl code may move Perl's stack, too */
    I32 items;
    int pinned;
    struct plx_frame *outer;
} plx_frame;

/* Runs a method on frame->args. */
void plx_run_method(pTHX_ const plx_method *method, plx_frame *frame, plx_answer *answer);
I32 *plx_turns(pTHX);

typedef struct {
    const char *name; /* within the package */
    IV value;
} plx_constant;

typedef struct {
    plx_enter_fn enter;
    const plx_method *methods;
    size_t nmethods;
    const plx_constant *constants;
    size_t nconstants;
    const char *watched; /* a package variable that plx_watched reads cheaply */
} plx_table;

/* What Rust's boot function has handed over: all that C calls of Rust. */
extern const plx_table *plx_the_table;

void plx_interpreter_init(void *perl, const char *watched);
int plx_has_signal_handlers(void *perl);
XS(plx_clone);
void plx_answer_with(pTHX_ const plx_answer *answer);
XS(plx_dispatch);

/* data.c; only there is it known what hangs on an object. */
extern MGVTBL plx_attached_vtbl;

#endif
