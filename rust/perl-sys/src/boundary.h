/* The C boundary: what only C can say of Perl. It knows nothing of libvirt.
 *
 * `perl` is the interpreter; a perl without threads ignores it. Of the functions that
 * Rust calls, those that return a plx_status may run Perl code, and never jump: see
 * protect.c. The others run no code of the program's, and die only where memory is out.
 * Functions that C alone calls may jump, since no frame of Rust is left by then. */
#ifndef PLX_BOUNDARY_H
#define PLX_BOUNDARY_H

#define PERL_NO_GET_CONTEXT
#include "EXTERN.h"
#include "perl.h"
#include "XSUB.h"
#include <signal.h>

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

/* Share string buffers as perl's own assignments do: outside its core that has
 * to be asked for. */
#define PLX_SHARE (SV_NOSTEAL | SV_COW_SHARED_HASH_KEYS | SV_COW_OTHER_PVS)

/* --- what C and Rust share: declared in shared.rs, too, and build.rs has the compiler
 * compare the two --- */

/* How a piece of Perl code ended. */
typedef enum {
    PLX_DONE = 0,
    PLX_LEFT = 1 /* by an exception or an exit, with which C goes on later */
} plx_status;

/* One piece of Perl code: operands in, results out. */
typedef struct plx_job {
    SV *code;           /* what to call */
    const char *what;   /* whose argument it is, for messages */
    SV *const *args;    /* the call's arguments */
    size_t argc;
    SV *sv;             /* the scalar to work on */
    SV *value;          /* a scalar to work with, or one made here for the caller */
    unsigned long long uv;
    long long iv[2];
    double nv;
    int count;          /* values returned; what else the job says */
    int defined;
    int error;          /* errno as the code left it */
} plx_job;

/* What a method answered; Rust fills it in, C does it with no Rust frame left. */
typedef enum {
    PLX_EMPTY,   /* return; */
    PLX_PASS,    /* not a plain call after all: make the ordinary one */
    PLX_INT,     /* return iv */
    PLX_SV,      /* return sv */
    PLX_DECLINE, /* warn sv, return undef */
    PLX_CROAK    /* die with sv, "at FILE line N." appended where it is a string */
} plx_verdict;

typedef struct {
    plx_verdict verdict;
    long long iv;
    SV *sv; /* owned; given up to C */
} plx_answer;

/* Bytes that a plain call may take by itself. */
typedef struct {
    const char *next;
    size_t left;
} plx_ready;

/* Rust's part of an object, hung on the scalar that the object is. */
typedef struct plx_attached {
    void (*drop)(struct plx_attached *self);
    plx_ready *ready; /* NULL where the object never has any */
    long long slot;   /* what the scalar holds, as long as nobody has meddled with it */
} plx_attached;

/* method(object, data, nbytes, flags = 0), as it is nearly always called: an
 * object of ours, a plain string, plain numbers, and no Perl code that could
 * run meanwhile. One look at each argument is enough then. */
typedef enum { PLX_NO_SHAPE, PLX_FILLS, PLX_READS } plx_shape;

typedef struct {
    plx_attached *attached;
    char *start;
    size_t len;
    unsigned long long flags;
} plx_plain;

/* Rust's: runs a plain call. It never unwinds, and never jumps. What it returns
 * is the method's count, or PLX_NO_COUNT: then the answer says what to do. */
typedef long long (*plx_plain_entry)(void *perl, const plx_plain *call, plx_answer *answer);
#define PLX_NO_COUNT LLONG_MIN

typedef struct plx_method {
    const char *name;  /* fully qualified */
    const char *proto; /* NULL for none */
    const char *usage;
    int min, max;      /* how many arguments it takes */
    void (*entry)(void); /* a Rust function; only plx_table.enter knows its type */
    plx_plain_entry plain; /* NULL where there is no shape */
    plx_shape shape;
    size_t most;       /* the most that a plain call fills */
} plx_method;

typedef struct {
    const char *name; /* within the package */
    long long value;
} plx_constant;

typedef struct plx_frame plx_frame;

typedef struct {
    const char *package;
    const char *version; /* which its .pm has too */
    const char *install; /* the name of plx_install in that package */
    /* Rust's: runs a method. It never unwinds, and never jumps. */
    void (*enter)(void *perl, plx_frame *frame, const plx_method *method, SV *const *args,
                  size_t argc, plx_answer *answer);
    const plx_method *methods;
    size_t nmethods;
    const plx_constant *constants;
    size_t nconstants;
    const char *reentrant; /* not 0: code of the program's may run under a call of the library's */
} plx_table;

/* --- C's own --- */

/* What Rust's boot function has handed over. Whatever else C calls of Rust hangs on an object,
 * or was given with a layer. */
extern const plx_table *plx_the_table;
#define PLX_REENTRANT() (*(const volatile char *)plx_the_table->reentrant)

/* What belongs to a method, or a relay, that runs. */
struct plx_frame {
    SV *args[PLX_MOST_ARGS]; /* counted: Perl's stack holds no counts of them */
    I32 items;
    int fails;               /* Rust has an error already, which goes first */
    int left;                /* 0, or how Perl code has left: JMPENV's number */
    OP *restartop;           /* with what goes on then */
    JMPENV *restartjmpenv;
    SSize_t top;
    SV *err;
    SV *thrown;              /* or what contained code has thrown */
    PERL_SI *stack;          /* where the caller stood: see frames.c */
    I32 context;
    U8 in_eval;
    int masked;              /* signals are held back while Rust runs */
    sigset_t mask;           /* what the program's own mask is then */
};

/* Whether Perl code has left, so that the method has nothing more to do. */
PERL_STATIC_INLINE int
plx_has_left(const plx_frame *frame)
{
    return frame && (frame->left != 0 || frame->thrown);
}

typedef void (*plx_run)(pTHX_ plx_job *job);
plx_status plx_protect(pTHX_ plx_frame *frame, plx_run run, plx_job *job);
plx_status plx_contain(pTHX_ plx_frame *frame, plx_run run, plx_job *job);
void plx_raise_again(pTHX_ SV *exception);

/* What Rust calls to run plx_run_NAME. */
#define PLX_JOB(name)                                                     \
    plx_status plx_do_##name(void *perl, plx_frame *frame, plx_job *job)  \
    {                                                                     \
        dTHXa(perl);                                                      \
        return plx_protect(aTHX_ frame, plx_run_##name, job);             \
    }
void plx_run_call_value(pTHX_ plx_job *job);

void plx_frame_begin(pTHX_ plx_frame *frame);
void plx_frame_end(pTHX_ plx_frame *frame);
void plx_mask(pTHX_ plx_frame *frame);
void plx_unmask(plx_frame *frame);
void plx_unmask_frame(pTHX_ void *frame);
void plx_mask_handled(pTHX_ plx_frame *frame);
void plx_run_method(pTHX_ const plx_method *method, plx_frame *frame, plx_answer *answer);
void plx_answer_with(pTHX_ const plx_answer *answer);

/* Who has the interpreter. NULL: Perl code. PLX_HELD: Rust. Otherwise the library has it,
 * and this is the frame of the method that has called the library: code that the library
 * calls back leaves its exceptions there. */
plx_frame *plx_hold(void *perl, plx_frame *holder);
#define PLX_HELD ((plx_frame *)&plx_the_table)

void plx_keep_alive(pTHX_ SV *sv);
void plx_returns(pTHX);
void plx_raise_kept(pTHX_ SSize_t mark);
SSize_t plx_kept(pTHX);
void plx_forget_kept(pTHX_ SSize_t mark);

void plx_interpreter_init(void *perl);
int plx_has_signal_handlers(void *perl);
void plx_see_returns(pTHX);
XS(plx_clone);
XS(plx_dispatch);
CV *plx_new_xsub(pTHX_ const char *name, XSUBADDR_t xsub);
void plx_tied_boot(pTHX);

/* objects.c; only there is it known what hangs on an object. */
extern MGVTBL plx_attached_vtbl;
void plx_free_attached(pTHX_ SV *object);
int plx_dup_without(pTHX_ MAGIC *mg, CLONE_PARAMS *param);

#endif
