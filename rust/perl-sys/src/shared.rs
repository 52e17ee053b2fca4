//! What C and Rust share: boundary.h declares the same, and has the documentation.
//! build.rs reads this file, too, and has the C compiler compare the two.

use std::ffi::c_void;
use std::os::raw::{c_char, c_int, c_longlong, c_ulonglong};

/// A scalar; only ever behind a pointer.
#[repr(C)]
pub struct Sv {
    _opaque: [u8; 0],
}

/// A method's frame; only C looks into it.
#[repr(C)]
pub struct Frame {
    _opaque: [u8; 0],
}

/// One piece of Perl code: `plx_job`.
#[repr(C)]
pub struct Job {
    pub code: *mut Sv,
    pub what: *const c_char,
    pub args: *const *mut Sv,
    pub argc: usize,
    pub sv: *mut Sv,
    pub value: *mut Sv,
    pub uv: c_ulonglong,
    pub iv: [c_longlong; 2],
    pub nv: f64,
    pub count: c_int,
    pub defined: c_int,
    pub error: c_int,
}

/// What C does once the method has returned: `plx_verdict`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Empty,
    Pass,
    Int,
    Sv,
    Decline,
    Croak,
}

/// `plx_answer`.
#[repr(C)]
pub struct Answer {
    pub verdict: Verdict,
    pub iv: c_longlong,
    pub sv: *mut Sv,
}

/// `plx_ready`: bytes that a plain call takes by itself.
#[repr(C)]
pub struct Ready {
    pub next: *const c_char,
    pub left: usize,
}

/// `plx_attached`: the head of what Rust hangs on an object.
#[repr(C)]
pub struct Attached {
    pub drop: unsafe extern "C" fn(*mut Attached),
    pub ready: *mut Ready,
    pub slot: c_longlong,
}

/// Whether and how a method can be called plainly: `plx_shape`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    None,
    Fills,
    Reads,
}

/// A plain call's arguments: `plx_plain`.
#[repr(C)]
pub struct Plain {
    pub attached: *mut Attached,
    pub start: *mut c_char,
    pub len: usize,
    pub flags: c_ulonglong,
}

/// `plx_plain_entry`.
pub type PlainEntry = unsafe extern "C" fn(*mut c_void, *const Plain, *mut Answer) -> c_longlong;

/// `plx_method`: one XSUB. `E` is the function type that the table's `enter` expects.
#[repr(C)]
pub struct Method<E = fn()> {
    pub name: *const c_char,
    pub proto: *const c_char,
    pub usage: *const c_char,
    pub min: c_int,
    pub max: c_int,
    pub entry: E,
    pub plain: Option<PlainEntry>,
    pub shape: Shape,
    pub most: usize,
}

/// `plx_constant`.
#[repr(C)]
pub struct Constant {
    pub name: *const c_char,
    pub value: c_longlong,
}

/// `plx_table.enter`, for methods with the function type `E`.
pub type Enter<E> = unsafe extern "C" fn(
    *mut c_void,
    *mut Frame,
    *const Method<E>,
    *const *mut Sv,
    usize,
    *mut Answer,
);

/// `plx_table`: what the package contains.
#[repr(C)]
pub struct Table<E = fn()> {
    pub enter: Enter<E>,
    pub methods: *const Method<E>,
    pub nmethods: usize,
    pub constants: *const Constant,
    pub nconstants: usize,
    pub reentrant: *const std::sync::atomic::AtomicBool,
}
