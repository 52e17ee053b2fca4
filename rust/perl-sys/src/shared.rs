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
    /// What is called.
    pub code: *mut Sv,
    /// Whose argument it is, for messages.
    pub what: *const c_char,
    /// The call's arguments.
    pub args: *const *mut Sv,
    /// How many there are.
    pub argc: usize,
    /// The scalar to work on.
    pub sv: *mut Sv,
    /// A scalar to work with, or one made for the caller, who has its count.
    pub value: *mut Sv,
    /// An unsigned integer.
    pub uv: c_ulonglong,
    /// Integers.
    pub iv: [c_longlong; 2],
    /// A number.
    pub nv: f64,
    /// How many values were returned, or what else the job says.
    pub count: c_int,
    /// Whether there is a value.
    pub defined: c_int,
    /// `errno` as the code has left it.
    pub error: c_int,
}

/// What C does once the method has returned: `plx_verdict`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Returns the empty list.
    Empty,
    /// It was no plain call after all: the ordinary one is made.
    Pass,
    /// Returns the integer.
    Int,
    /// Returns the scalar.
    Sv,
    /// Warns of the scalar, and returns undef.
    Decline,
    /// Dies with the scalar.
    Croak,
}

/// `plx_answer`.
#[repr(C)]
pub struct Answer {
    /// What C does.
    pub verdict: Verdict,
    /// The integer that is returned.
    pub iv: c_longlong,
    /// The scalar to return or to die with; C takes its count over.
    pub sv: *mut Sv,
}

/// `plx_ready`: bytes that a plain call takes by itself.
#[repr(C)]
pub struct Ready {
    /// The first of them.
    pub next: *const c_char,
    /// How many there are.
    pub left: usize,
}

/// `plx_attached`: the head of what Rust hangs on an object.
#[repr(C)]
pub struct Attached {
    /// Frees all of it.
    pub drop: unsafe extern "C" fn(*mut Attached),
    /// What plain calls take by themselves; null where there is never any.
    pub ready: *mut Ready,
    /// What the object held when this was attached.
    pub slot: c_longlong,
}

/// Whether and how a method can be called plainly: `plx_shape`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// It has no code for plain calls.
    None,
    /// It fills its data.
    Fills,
    /// It reads its data.
    Reads,
}

/// A plain call's arguments: `plx_plain`.
#[repr(C)]
pub struct Plain {
    /// What hangs on the object.
    pub attached: *mut Attached,
    /// The bytes, or the room for them.
    pub start: *mut c_char,
    /// How many.
    pub len: usize,
    /// The last argument.
    pub flags: c_ulonglong,
}

/// `plx_plain_entry`.
pub type PlainEntry = unsafe extern "C" fn(*mut c_void, *const Plain, *mut Answer) -> c_longlong;

/// `plx_method`: one XSUB. `E` is the function type that the table's `enter` expects.
#[repr(C)]
pub struct Method<E = fn()> {
    /// The name, with its package.
    pub name: *const c_char,
    /// Perl's prototype.
    pub proto: *const c_char,
    /// What the usage text says of the arguments.
    pub usage: *const c_char,
    /// The fewest arguments.
    pub min: c_int,
    /// The most.
    pub max: c_int,
    /// Its code.
    pub entry: E,
    /// Its code for plain calls.
    pub plain: Option<PlainEntry>,
    /// Whether it has any.
    pub shape: Shape,
    /// The most that a plain call fills.
    pub most: usize,
}

/// `plx_constant`.
#[repr(C)]
pub struct Constant {
    /// The name within the package.
    pub name: *const c_char,
    /// The value.
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
    /// The name of the package.
    pub package: *const c_char,
    /// The version that its .pm has, too.
    pub version: *const c_char,
    /// The name of the XSUB that installs all of it.
    pub install: *const c_char,
    /// Runs a method.
    pub enter: Enter<E>,
    /// The methods.
    pub methods: *const Method<E>,
    /// How many there are.
    pub nmethods: usize,
    /// The constants.
    pub constants: *const Constant,
    /// How many there are.
    pub nconstants: usize,
    /// True while code of the program's may run under a call of a library's.
    pub reentrant: *const std::sync::atomic::AtomicBool,
}
