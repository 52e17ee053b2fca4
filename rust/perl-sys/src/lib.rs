//! The C boundary, seen from Rust: plain functions out of Perl's macros.
//!
//! Everything here is raw. Two kinds of function: those that return a
//! [`Status`] run Perl code and bring its death back as a value; all others
//! run none and never `longjmp`. Each takes the interpreter that the scalars
//! belong to, and must be called on the thread that runs it.

use std::ffi::c_void;
use std::os::raw::{c_char, c_int, c_longlong};

/// Perl's integer, as wide as this perl was built with.
#[cfg(iv64)]
pub type Iv = i64;
#[cfg(not(iv64))]
pub type Iv = i32;
/// Perl's unsigned integer.
#[cfg(iv64)]
pub type Uv = u64;
#[cfg(not(iv64))]
pub type Uv = u32;

/// A scalar; only ever behind a pointer.
#[repr(C)]
pub struct Sv {
    _opaque: [u8; 0],
}

/// How protected Perl code ended: `plx_status`.
pub type Status = c_int;
pub const DONE: Status = 0;
pub const DIED: Status = 1;
pub const EXIT: Status = 2;

/// One piece of Perl code to run protected: `plx_job`.
#[repr(C)]
pub struct Job {
    pub run: *const c_void,
    pub code: *mut Sv,
    pub args: *const *mut Sv,
    pub argc: usize,
    pub sv: *mut Sv,
    pub value: *mut Sv,
    pub uv: Uv,
    pub iv: [c_longlong; 2],
    pub nv: f64,
    pub count: c_int,
    pub defined: c_int,
    pub error: c_int,
    pub finished: c_int,
    pub op: *mut c_void,
    pub err: *mut Sv,
    pub in_eval: c_int,
    pub exception: *mut Sv,
}

/// What C does once the method has returned: `plx_verdict`.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum Verdict {
    Empty,
    Pass,
    Int,
    Sv,
    Decline,
    Croak,
    Rethrow,
    Leave,
}

/// `plx_answer`.
#[repr(C)]
pub struct Answer {
    pub verdict: Verdict,
    pub iv: Iv,
    pub sv: *mut Sv,
}

/// `plx_method`: one XSUB. `E` is the function type that `plx_enter` expects, `P`
/// is `plx_plain_entry`.
#[repr(C)]
pub struct Method<E = fn(), P = fn()> {
    pub name: *const c_char,
    pub proto: *const c_char,
    pub usage: *const c_char,
    pub min: i32,
    pub max: i32,
    pub entry: E,
    pub shape: Shape,
    pub most: usize,
    pub plain: Option<P>,
}

/// Whether and how a method can be called plainly: `plx_shape`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    None,
    Fills,
    Reads,
}

/// What a plain call returns where the answer says more: `PLX_NO_COUNT`.
pub const NO_COUNT: Iv = Iv::MIN;

/// `plx_constant`.
#[repr(C)]
pub struct Constant {
    pub name: *const c_char,
    pub value: Iv,
}

/// `plx_table`: what the package contains.
#[repr(C)]
pub struct Table {
    /// `plx_enter_fn`; only the layer that defines it knows its type.
    pub enter: *const c_void,
    pub methods: *const c_void,
    pub nmethods: usize,
    pub constants: *const Constant,
    pub nconstants: usize,
    pub watched: *const c_char,
}

// SAFETY: tables are statics of pointers to statics, and nobody writes to them.
unsafe impl<E, P> Sync for Method<E, P> {}
// SAFETY: as above.
unsafe impl Sync for Constant {}
// SAFETY: as above.
unsafe impl Sync for Table {}

/// `plx_attached`: the head of what Rust hangs on an object.
#[repr(C)]
pub struct Attached {
    pub drop: unsafe extern "C" fn(*mut Attached),
    pub slot: Iv,
}

extern "C" {
    // boot.c
    pub fn plx_hand_over(perl: *mut c_void, table: *const Table);

    // protect.c
    pub fn plx_interpreter_init(perl: *mut c_void, watched: *const c_char);
    pub fn plx_quiet(perl: *mut c_void) -> c_int;
    pub fn plx_watched(perl: *mut c_void) -> c_int;
    pub fn plx_do_call(perl: *mut c_void, job: *mut Job) -> Status;
    pub fn plx_do_call_discard(perl: *mut c_void, job: *mut Job) -> Status;
    pub fn plx_do_call_pair(perl: *mut c_void, job: *mut Job) -> Status;
    pub fn plx_do_uv(perl: *mut c_void, job: *mut Job) -> Status;
    pub fn plx_do_iv(perl: *mut c_void, job: *mut Job) -> Status;
    pub fn plx_do_integer(perl: *mut c_void, job: *mut Job) -> Status;
    pub fn plx_do_get(perl: *mut c_void, job: *mut Job) -> Status;
    pub fn plx_do_bytes(perl: *mut c_void, job: *mut Job) -> Status;
    pub fn plx_do_assign(perl: *mut c_void, job: *mut Job) -> Status;
    pub fn plx_do_release(perl: *mut c_void, job: *mut Job) -> Status;
    pub fn plx_do_signals(perl: *mut c_void, job: *mut Job) -> Status;

    pub fn plx_do_nv(perl: *mut c_void, job: *mut Job) -> Status;
    pub fn plx_do_truth(perl: *mut c_void, job: *mut Job) -> Status;
    pub fn plx_do_code(perl: *mut c_void, job: *mut Job) -> Status;

    // handle.c
    pub fn plx_do_file(perl: *mut c_void, job: *mut Job) -> Status;
    pub fn plx_do_unread(perl: *mut c_void, job: *mut Job) -> Status;
    pub fn plx_do_reposition(perl: *mut c_void, job: *mut Job) -> Status;

    // data.c
    pub fn plx_inc(sv: *mut Sv) -> *mut Sv;
    pub fn plx_dec(perl: *mut c_void, sv: *mut Sv);
    pub fn plx_shared(sv: *mut Sv) -> c_int;
    pub fn plx_new_iv(perl: *mut c_void, iv: Iv) -> *mut Sv;
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
    pub fn plx_plain_uv(sv: *mut Sv, uv: *mut Uv) -> c_int;
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
    pub fn plx_slot(object: *mut Sv) -> Iv;
    pub fn plx_get_attached(object: *mut Sv) -> *mut Attached;
    pub fn plx_attach(perl: *mut c_void, object: *mut Sv, data: *mut Attached);
    pub fn plx_detach(object: *mut Sv) -> *mut Attached;
    pub fn plx_new_object(perl: *mut c_void, class: *const c_char, slot: Iv) -> *mut Sv;
    pub fn plx_clear_slot(object: *mut Sv);
    pub fn plx_has_signal_handlers(perl: *mut c_void) -> c_int;
    pub fn plx_signal_pending(perl: *mut c_void) -> c_int;
    pub fn plx_under_sysread(perl: *mut c_void) -> c_int;

    pub fn plx_new_bound(perl: *mut c_void, code: *mut Sv, method: *const c_void) -> *mut Sv;
    pub fn plx_new_relay(perl: *mut c_void, code: *mut Sv, method: *const c_void) -> *mut Sv;
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
            unsafe { $crate::plx_hand_over(perl, &$table) }
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
            unsafe { $crate::plx_hand_over(std::ptr::null_mut(), &$table) }
        }
    };
}
