//! The C boundary, seen from Rust: plain functions out of Perl's macros.
//!
//! Everything here is raw. Two kinds of function: those that return a [`Status`] run
//! Perl code, whose exceptions and exits C keeps until the method has returned; all
//! others run none, and `longjmp` only where memory is out, at which perl ends the program.
//! Each takes the interpreter that the scalars belong to, and must be called on the thread that
//! runs it.

#![warn(missing_docs)]

mod shared;

pub use shared::*;
use std::ffi::c_void;
use std::os::raw::{c_char, c_int, c_longlong, c_ulonglong};

/// How a piece of Perl code ended: `plx_status`.
pub type Status = c_int;
/// It has returned.
pub const DONE: Status = 0;

/// What a plain call returns where the answer says more: `PLX_NO_COUNT`.
pub const NO_COUNT: c_longlong = c_longlong::MIN;

// SAFETY: tables are statics of pointers to statics. Nobody writes to them but to `reentrant`,
// which is atomic.
unsafe impl<E: Sync> Sync for Method<E> {}
// SAFETY: as above.
unsafe impl Sync for Constant {}
// SAFETY: as above.
unsafe impl<E: Sync> Sync for Table<E> {}

/// How a job is run: `plx_do_NAME`.
pub type Do = unsafe extern "C" fn(*mut c_void, *mut Frame, *mut Job) -> Status;

/// The layer of a filehandle: `plx_layer`; only ever behind a pointer.
#[repr(C)]
pub struct Layer {
    _opaque: [u8; 0],
}

/// What Rust is asked for: `plx_layer_call`. More bytes, by [`plx_layer_put`].
pub const FILL: c_int = 0;
/// Bytes are to be sent.
pub const DRAIN: c_int = 1;
/// All has been sent.
pub const FINISH: c_int = 2;
/// The handle goes, finished or not.
pub const ABANDON: c_int = 3;
/// Whether bytes that are printed may wait for more.
pub const KEEPS: c_int = 4;

/// The layer's answer where it cannot: `PLX_FAILED`.
pub const FAILED: c_longlong = -1;

/// What answers for a layer: `plx_layer_entry`.
pub type LayerEntry = unsafe extern "C" fn(
    perl: *mut c_void,
    frame: *mut Frame,
    layer: *mut Layer,
    object: *mut Sv,
    call: c_int,
    start: *mut c_char,
    len: usize,
    answer: *mut Answer,
) -> c_longlong;

extern "C" {
    // table.c
    /// The package that the table names. The text lives as long as the program.
    pub fn plx_package() -> *const c_char;
    /// Takes the table over, which lives as long as the program, and makes the XSUB `_install`.
    /// It looks at nothing else in the interpreter, and does not die.
    pub fn plx_hand_over(perl: *mut c_void, table: *const c_void);

    // context.c and frames.c
    /// Makes room for what the boundary knows of an interpreter. `_install` does it, too.
    pub fn plx_interpreter_init(perl: *mut c_void);
    /// Has the interpreter change hands. Returns whose it was, to be given back by the same call.
    pub fn plx_hold(perl: *mut c_void, holder: *mut Frame) -> *mut Frame;
    /// Rust has an error, which is raised before whatever Perl code throws from now on.
    pub fn plx_fails(frame: *mut Frame);
    /// Whether Perl code has left: 0 where it has not, or where there is no frame.
    pub fn plx_frame_has_left(frame: *const Frame) -> c_int;
    /// What Perl code has died with, in a scalar whose count is the caller's; null where it has not.
    pub fn plx_thrown(perl: *mut c_void, frame: *const Frame) -> *mut Sv;
    /// Takes the interpreter for code that a library calls back. `holder` is to be given back by
    /// [`plx_hold`], `frame` keeps what the code throws. Returns 0 where Rust has the interpreter.
    pub fn plx_call_back(
        perl: *mut c_void,
        holder: *mut *mut Frame,
        frame: *mut *mut Frame,
    ) -> c_int;

    // jobs.c
    /// Calls `code` with `args` in scalar context: `defined`, `iv[0]`, and `errno` in `error`.
    pub fn plx_do_call(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    /// Calls `code` with `args` in scalar context, and looks at nothing that it returns.
    pub fn plx_do_call_discard(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    /// Calls `code` with `args` in list context: `count`, and the two integers in `iv`.
    pub fn plx_do_call_pair(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    /// The value of `sv` as an unsigned integer: `uv`.
    pub fn plx_do_uv(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    /// The value of `sv` as an integer: `iv[0]`.
    pub fn plx_do_iv(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    /// The same with 64 bits, also where Perl's own integers are shorter.
    pub fn plx_do_integer(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    /// The value of `sv` as a number: `nv`; `count` says whether it is a number, `defined` whether
    /// there is a value.
    pub fn plx_do_nv(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    /// Whether `sv` is true: `count`.
    pub fn plx_do_truth(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    /// Whether `sv` can be called: `count`; `defined` says whether there is a value.
    pub fn plx_do_code(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    /// Reads `sv`, if that is tied or otherwise magical.
    pub fn plx_do_get(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    /// A copy of the bytes of `sv`: `value`, whose count is the caller's, where `defined` says so.
    pub fn plx_do_bytes(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    /// Assigns `value` to `sv`.
    pub fn plx_do_assign(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    /// Gives up a count of `sv` now, and runs what that runs.
    pub fn plx_do_release(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    /// Runs the handlers of signals that have arrived.
    pub fn plx_do_signals(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    /// Waits until the descriptor `iv[0]` is readable, for `iv[1]` ms unless that is negative: `count`.
    pub fn plx_do_wait(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;

    // handle.c
    /// What `sv` is as a file, to write to where `count` says so: see handle.c. The count of `value`
    /// is the caller's.
    pub fn plx_do_file(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    /// Takes what Perl has read from the handle `sv` ahead: `value`, whose count is the caller's.
    pub fn plx_do_unread(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    /// Sets the position of the handle `sv` to that of its descriptor.
    pub fn plx_do_reposition(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;

    // around.c
    /// Puts a guard in the place of the sub `name`, which a library calls.
    pub fn plx_guard_sub(perl: *mut c_void, name: *const c_char);
    /// Puts a relay in the place of the XSUB `name`. The methods live as long as the program.
    pub fn plx_relay_around(
        perl: *mut c_void,
        name: *const c_char,
        before: *const c_void,
        after: *const c_void,
        runs_callbacks: c_int,
        once: c_int,
        guards: c_int,
    );

    // layer.c
    /// Makes the glob behind `handle` a filehandle that asks `entry`, and keeps a count of `object`;
    /// 0 where there is no glob.
    pub fn plx_layer_open(
        perl: *mut c_void,
        handle: *mut Sv,
        object: *mut Sv,
        entry: LayerEntry,
    ) -> c_int;
    /// The answer to [`FILL`]; the bytes are copied.
    pub fn plx_layer_put(layer: *mut Layer, bytes: *const c_char, len: usize);

    // data.c
    /// One more count of a scalar, which is the caller's.
    pub fn plx_inc(sv: *mut Sv) -> *mut Sv;
    /// Gives up a count. What may run code when it goes does so at the program's next statement.
    pub fn plx_dec(perl: *mut c_void, sv: *mut Sv);
    /// A new integer. Of this and each other new scalar the caller has the one count.
    pub fn plx_new_integer(perl: *mut c_void, value: c_longlong) -> *mut Sv;
    /// A new number.
    pub fn plx_new_number(perl: *mut c_void, value: f64) -> *mut Sv;
    /// A new undefined value.
    pub fn plx_new_undef(perl: *mut c_void) -> *mut Sv;
    /// A new string; the bytes are copied. Null where memory is out.
    pub fn plx_new_bytes(perl: *mut c_void, bytes: *const c_char, len: usize) -> *mut Sv;
    /// A new scalar with the value of `sv`, whose magic is not asked.
    pub fn plx_new_copy(perl: *mut c_void, sv: *mut Sv) -> *mut Sv;
    /// A new reference, with a count of `object`.
    pub fn plx_new_ref(perl: *mut c_void, object: *mut Sv) -> *mut Sv;
    /// A reference to a new hash, blessed unless `class` is null.
    pub fn plx_new_hash(perl: *mut c_void, class: *const c_char) -> *mut Sv;
    /// Stores `value`, whose count it takes over.
    pub fn plx_hash_set(
        perl: *mut c_void,
        hash: *mut Sv,
        key: *const c_char,
        len: usize,
        value: *mut Sv,
    );
    /// Whether the value is a plain unsigned integer, which is then in `uv`.
    pub fn plx_plain_uv(sv: *mut Sv, uv: *mut c_ulonglong) -> c_int;
    /// The scalar's own bytes, or null where Perl code would have to run for them. They stay until
    /// Perl code runs.
    pub fn plx_plain_bytes(sv: *mut Sv, len: *mut usize) -> *const c_char;
    /// Whether reading the scalar may run Perl code.
    pub fn plx_magical(sv: *mut Sv) -> c_int;
    /// Whether the scalar may not be written to.
    pub fn plx_readonly(sv: *mut Sv) -> c_int;
    /// A new empty string, for a handler.
    pub fn plx_new_scratch(perl: *mut c_void) -> *mut Sv;
    /// A buffer of `cap` bytes that nobody shares, or null where memory is out. It is the scalar's.
    pub fn plx_scratch_room(perl: *mut c_void, sv: *mut Sv, cap: usize) -> *mut c_char;
    /// The first `len` bytes of the buffer are the scalar's value.
    pub fn plx_scratch_filled(sv: *mut Sv, len: usize);
    /// Whether nobody else has the scalar, and it is still an ordinary one.
    pub fn plx_scratch_pristine(sv: *mut Sv) -> c_int;
    /// Where the scalar's buffer is; null where it has none.
    pub fn plx_scratch_buffer(sv: *mut Sv) -> *const c_char;
    /// Gives the scalar's buffer back.
    pub fn plx_scratch_drop(perl: *mut c_void, sv: *mut Sv);
    /// Has the C library keep freed blocks of the size of a transfer's.
    pub fn plx_settle_heap();
    /// `sv` has the value of `from`, whose buffer it shares where that is worth it.
    pub fn plx_scratch_share(perl: *mut c_void, sv: *mut Sv, from: *mut Sv);
    /// `sv` has a copy of the bytes.
    pub fn plx_scratch_set(perl: *mut c_void, sv: *mut Sv, bytes: *const c_char, len: usize);

    // objects.c
    /// The blessed scalar that `reference` refers to, or null. Its count stays as it is.
    pub fn plx_object(reference: *mut Sv) -> *mut Sv;
    /// Whether the object holds text, which may say a number.
    pub fn plx_holds_text(object: *mut Sv) -> c_int;
    /// The integer that the object holds, or 0.
    pub fn plx_slot(object: *mut Sv) -> c_longlong;
    /// What hangs on the object, or null. It is still the object's.
    pub fn plx_get_attached(object: *mut Sv) -> *mut Attached;
    /// Hangs `data` on the object, which frees it by its `drop`. What hung there must be off already.
    pub fn plx_attach(perl: *mut c_void, object: *mut Sv, data: *mut Attached);
    /// Takes what hangs on the object off: it is the caller's.
    pub fn plx_detach(object: *mut Sv) -> *mut Attached;
    /// A reference to a new scalar that holds `slot`, blessed into `class`.
    pub fn plx_new_object(perl: *mut c_void, class: *const c_char, slot: c_longlong) -> *mut Sv;
    /// Sets the integer that the object holds to 0.
    pub fn plx_clear_slot(object: *mut Sv);

    // signals.c
    /// Whether the program has set a handler in %SIG.
    pub fn plx_has_signal_handlers(perl: *mut c_void) -> c_int;
    /// Whether a signal has arrived whose handler has not run.
    pub fn plx_signal_pending(perl: *mut c_void) -> c_int;
}

/// Defines the boot function, which the loader looks for by its name.
///
/// What it calls may not die: perl must not jump over its frame.
#[cfg(multiplicity)]
#[macro_export]
macro_rules! boot {
    ($name:ident, $table:expr) => {
        /// # Safety
        /// Called by perl's loader only, with the running interpreter.
        #[no_mangle]
        pub unsafe extern "C" fn $name(perl: *mut std::ffi::c_void, _cv: *mut std::ffi::c_void) {
            // SAFETY: as the loader promises; the table lives as long as the program.
            unsafe { $crate::plx_hand_over(perl, std::ptr::addr_of!($table).cast()) }
        }
    };
}

/// The same for a perl without threads, which hands no interpreter around.
#[cfg(not(multiplicity))]
#[macro_export]
macro_rules! boot {
    ($name:ident, $table:expr) => {
        /// # Safety
        /// Called by perl's loader only.
        #[no_mangle]
        pub unsafe extern "C" fn $name(_cv: *mut std::ffi::c_void) {
            // SAFETY: as the loader promises; the table lives as long as the program.
            unsafe {
                $crate::plx_hand_over(std::ptr::null_mut(), std::ptr::addr_of!($table).cast())
            }
        }
    };
}
