//! The C boundary, seen from Rust: plain functions out of Perl's macros.
//!
//! Everything here is raw. Two kinds of function: those that return a [`Status`] run
//! Perl code, whose exceptions and exits C keeps until the method has returned; all
//! others run none and never `longjmp`. Each takes the interpreter that the scalars
//! belong to, and must be called on the thread that runs it.

mod shared;

pub use shared::*;
use std::ffi::c_void;
use std::os::raw::{c_char, c_int, c_longlong, c_ulonglong};

/// How a piece of Perl code ended: `plx_status`.
pub type Status = c_int;
pub const DONE: Status = 0;

/// What a plain call returns where the answer says more: `PLX_NO_COUNT`.
pub const NO_COUNT: c_longlong = c_longlong::MIN;

// SAFETY: tables are statics of pointers to statics. Nobody writes to them but to `reentrant`,
// which is atomic.
unsafe impl<E> Sync for Method<E> {}
// SAFETY: as above.
unsafe impl Sync for Constant {}
// SAFETY: as above.
unsafe impl<E> Sync for Table<E> {}

/// How a job is run: `plx_do_NAME`.
pub type Do = unsafe extern "C" fn(*mut c_void, *mut Frame, *mut Job) -> Status;

/// The layer of a filehandle: `plx_layer`; only ever behind a pointer.
#[repr(C)]
pub struct Layer {
    _opaque: [u8; 0],
}

/// What Rust is asked for: `plx_layer_call`.
pub const FILL: c_int = 0;
pub const DRAIN: c_int = 1;
pub const FINISH: c_int = 2;
pub const ABANDON: c_int = 3;
pub const KEEPS: c_int = 4;

/// `PLX_FAILED`.
pub const FAILED: c_longlong = -1;

/// `plx_layer_entry`.
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
    // boot.c; its second argument is a table, which carries the type of its methods
    pub fn plx_hand_over(perl: *mut c_void, table: *const c_void);

    // protect.c
    pub fn plx_interpreter_init(perl: *mut c_void);
    pub fn plx_hold(perl: *mut c_void, holder: *mut Frame) -> *mut Frame;
    pub fn plx_fails(frame: *mut Frame);
    pub fn plx_frame_has_left(frame: *const Frame) -> c_int;
    pub fn plx_thrown(perl: *mut c_void, frame: *const Frame) -> *mut Sv;
    pub fn plx_call_back(
        perl: *mut c_void,
        holder: *mut *mut Frame,
        frame: *mut *mut Frame,
    ) -> c_int;

    // jobs.c
    pub fn plx_do_call(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    pub fn plx_do_call_discard(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    pub fn plx_do_call_pair(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    pub fn plx_do_uv(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    pub fn plx_do_iv(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    pub fn plx_do_integer(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    pub fn plx_do_nv(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    pub fn plx_do_truth(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    pub fn plx_do_code(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    pub fn plx_do_get(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    pub fn plx_do_bytes(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    pub fn plx_do_assign(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    pub fn plx_do_release(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    pub fn plx_do_signals(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    pub fn plx_do_wait(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;

    // handle.c
    pub fn plx_do_file(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    pub fn plx_do_unread(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;
    pub fn plx_do_reposition(perl: *mut c_void, frame: *mut Frame, job: *mut Job) -> Status;

    // around.c
    pub fn plx_guard_sub(perl: *mut c_void, name: *const c_char);
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
    pub fn plx_layer_open(
        perl: *mut c_void,
        handle: *mut Sv,
        object: *mut Sv,
        entry: LayerEntry,
    ) -> c_int;
    pub fn plx_layer_put(layer: *mut Layer, bytes: *const c_char, len: usize);

    // data.c
    pub fn plx_inc(sv: *mut Sv) -> *mut Sv;
    pub fn plx_dec(perl: *mut c_void, sv: *mut Sv);
    pub fn plx_new_integer(perl: *mut c_void, value: c_longlong) -> *mut Sv;
    pub fn plx_new_number(perl: *mut c_void, value: f64) -> *mut Sv;
    pub fn plx_new_undef(perl: *mut c_void) -> *mut Sv;
    pub fn plx_new_bytes(perl: *mut c_void, bytes: *const c_char, len: usize) -> *mut Sv;
    pub fn plx_new_copy(perl: *mut c_void, sv: *mut Sv) -> *mut Sv;
    pub fn plx_new_ref(perl: *mut c_void, object: *mut Sv) -> *mut Sv;
    pub fn plx_new_hash(perl: *mut c_void, class: *const c_char) -> *mut Sv;
    pub fn plx_hash_set(
        perl: *mut c_void,
        hash: *mut Sv,
        key: *const c_char,
        len: usize,
        value: *mut Sv,
    );
    pub fn plx_plain_uv(sv: *mut Sv, uv: *mut c_ulonglong) -> c_int;
    pub fn plx_plain_bytes(sv: *mut Sv, len: *mut usize) -> *const c_char;
    pub fn plx_magical(sv: *mut Sv) -> c_int;
    pub fn plx_readonly(sv: *mut Sv) -> c_int;
    pub fn plx_new_scratch(perl: *mut c_void) -> *mut Sv;
    pub fn plx_scratch_room(perl: *mut c_void, sv: *mut Sv, cap: usize) -> *mut c_char;
    pub fn plx_scratch_filled(sv: *mut Sv, len: usize);
    pub fn plx_scratch_pristine(sv: *mut Sv) -> c_int;
    pub fn plx_scratch_buffer(sv: *mut Sv) -> *const c_char;
    pub fn plx_scratch_drop(perl: *mut c_void, sv: *mut Sv);
    pub fn plx_settle_heap();
    pub fn plx_scratch_share(perl: *mut c_void, sv: *mut Sv, from: *mut Sv);
    pub fn plx_scratch_set(perl: *mut c_void, sv: *mut Sv, bytes: *const c_char, len: usize);
    pub fn plx_object(reference: *mut Sv) -> *mut Sv;
    pub fn plx_holds_text(object: *mut Sv) -> c_int;
    pub fn plx_slot(object: *mut Sv) -> c_longlong;
    pub fn plx_get_attached(object: *mut Sv) -> *mut Attached;
    pub fn plx_attach(perl: *mut c_void, object: *mut Sv, data: *mut Attached);
    pub fn plx_detach(object: *mut Sv) -> *mut Attached;
    pub fn plx_new_object(perl: *mut c_void, class: *const c_char, slot: c_longlong) -> *mut Sv;
    pub fn plx_clear_slot(object: *mut Sv);
    pub fn plx_has_signal_handlers(perl: *mut c_void) -> c_int;
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
