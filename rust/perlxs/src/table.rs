//! How the table of a package's methods is written, and how C reaches them.

use crate::plain::PlainEntry;
use crate::{Arg, Error, Perl, Sv};
use perl_sys as sys;
use std::any::Any;
use std::ffi::c_void;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::{ptr, slice};

/// What a method returns.
pub enum Answer {
    /// The empty list.
    Empty,
    Int(i64),
    Sv(Sv),
}

/// The arguments of a call. C has checked how many there are.
#[derive(Clone, Copy)]
pub struct Args<'a>(&'a [*mut sys::Sv]);

impl<'a> Args<'a> {
    pub fn get(self, at: usize) -> Arg<'a> {
        // SAFETY: the boundary holds the arguments as long as the call lasts
        // (plx_frame), and 'a is no longer than that.
        unsafe { Arg::from_raw(self.0[at]) }
    }

    pub fn optional(self, at: usize) -> Option<Arg<'a>> {
        (at < self.0.len()).then(|| self.get(at))
    }

    /// The arguments from `at` on.
    pub fn rest(self, at: usize) -> Vec<Arg<'a>> {
        (at..self.0.len()).map(|i| self.get(i)).collect()
    }
}

/// A method's code.
pub type Entry = fn(&mut Perl, Args<'_>) -> Result<Answer, Error>;

/// One XSUB, as C reads it.
pub type Xsub = sys::Method<Entry, PlainEntry>;

/// Runs a method for C: neither a panic nor an exception leaves by unwinding.
///
/// # Safety
/// Called by plx_dispatch, plx_bound and plx_relay only: the running interpreter, a method
/// of the table, `argc` arguments that stay alive for the call (plx_frame), and
/// an answer to be filled in.
pub unsafe extern "C" fn enter(
    raw: *mut c_void,
    method: *const Xsub,
    args: *const *mut sys::Sv,
    argc: usize,
    out: *mut sys::Answer,
) {
    // SAFETY: as the caller promises; a relay has no arguments.
    let (mut perl, args, entry) = unsafe {
        let args = if argc == 0 {
            &[][..]
        } else {
            slice::from_raw_parts(args, argc)
        };
        (Perl::from_raw(raw), Args(args), (*method).entry)
    };
    let result = caught(|| entry(&mut perl, args));
    // SAFETY: `out` is the caller's, to be filled in.
    unsafe { *out = answer(&perl, result) };
}

/// A panic as an exception.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Error::Message(bug(&*panic))))
}

/// What C is told; it takes the scalar's count over.
pub(crate) fn answer(perl: &Perl, result: Result<Answer, Error>) -> sys::Answer {
    let (verdict, iv, sv) = match result {
        Ok(Answer::Empty) => (sys::Verdict::Empty, 0, None),
        Ok(Answer::Int(value)) => (sys::Verdict::Int, value, None),
        Ok(Answer::Sv(sv)) => (sys::Verdict::Sv, 0, Some(sv)),
        Err(error) => {
            let (verdict, sv) = error.into_verdict(perl);
            (verdict, 0, sv)
        }
    };
    let sv = sv.map_or(ptr::null_mut(), Sv::into_raw);
    sys::Answer {
        verdict,
        iv: iv as sys::Iv,
        sv,
    }
}

/// What a panic's exception says.
fn bug(panic: &(dyn Any + Send)) -> String {
    let what = panic
        .downcast_ref::<&str>()
        .map(|s| s.to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown panic".into());
    format!(
        "This is a bug in Sys::Virt::Stream, please report it: {}",
        what
    )
}

impl Perl {
    /// A code reference that runs `entry`, with `code` before the arguments, and
    /// nothing of Perl's outside of that.
    pub fn bound(&self, code: Arg<'_>, entry: &'static Xsub) -> Sv {
        // SAFETY: the running interpreter; the new reference's count becomes ours.
        unsafe {
            let method = entry as *const Xsub as *const c_void;
            Sv::owned(self, sys::plx_new_bound(self.raw(), code.raw(), method))
        }
    }

    /// A code reference that calls the XSUB `code`, and then `entry`, when no
    /// frame of `code` is left; None where `code` is no XSUB.
    pub fn relay(&self, code: Arg<'_>, entry: &'static Xsub) -> Option<Sv> {
        // SAFETY: the running interpreter; the new reference's count becomes ours.
        unsafe {
            let relay = sys::plx_new_relay(
                self.raw(),
                code.raw(),
                entry as *const Xsub as *const c_void,
            );
            (!relay.is_null()).then(|| Sv::owned(self, relay))
        }
    }
}

/// A C string that lives as long as the program.
#[doc(hidden)]
#[macro_export]
macro_rules! c_str {
    ($text:expr) => {
        concat!($text, "\0").as_ptr() as *const std::os::raw::c_char
    };
}

/// The contents of a package: its constants, and its methods with prototype,
/// usage, and how many arguments they take.
///
/// A method of the form (object, data, nbytes, flags = 0) may have code of its own
/// for plain calls: a [`PlainCall`](crate::PlainCall).
///
/// `watch` names the package variable that [`Perl::watched`] looks at.
#[macro_export]
macro_rules! table {
    (
        package $package:literal, watch $watched:literal;
        constants { $($constant:ident = $value:expr;)* }
        methods { $(
            $name:ident ($proto:literal) ($usage:literal) $min:literal..=$max:literal => $entry:path
            $(, $shape:ident at most $most:path => $plain:ty)?;
        )* }
    ) => {
        static METHODS: &[$crate::Xsub] = &[$(
            $crate::sys::Method {
                name: $crate::c_str!(concat!($package, "::", stringify!($name))),
                proto: $crate::c_str!($proto),
                usage: $crate::c_str!($usage),
                min: $min,
                max: $max,
                entry: $entry as $crate::Entry,
                shape: $crate::shape!($($shape)?),
                most: 0 $(+ $most)?,
                plain: $crate::plain!($($shape $plain)?),
            },
        )*];

        static CONSTANTS: &[$crate::sys::Constant] = &[$(
            $crate::sys::Constant {
                name: $crate::c_str!(stringify!($constant)),
                value: $value as $crate::sys::Iv,
            },
        )*];

        // What PLX_MOST_ARGS says.
        const _: () = {
            $(assert!($max <= 30);)*
        };

        /// What the package contains.
        pub static TABLE: $crate::sys::Table = $crate::sys::Table {
            enter: $crate::enter as *const std::ffi::c_void,
            methods: METHODS.as_ptr() as *const std::ffi::c_void,
            nmethods: METHODS.len(),
            constants: CONSTANTS.as_ptr(),
            nconstants: CONSTANTS.len(),
            watched: $crate::c_str!($watched),
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! shape {
    () => {
        $crate::sys::Shape::None
    };
    (fills) => {
        $crate::sys::Shape::Fills
    };
    (reads) => {
        $crate::sys::Shape::Reads
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! plain {
    () => {
        None
    };
    (fills $plain:ty) => {
        Some($crate::plain_entry::<$plain, true> as $crate::PlainEntry)
    };
    (reads $plain:ty) => {
        Some($crate::plain_entry::<$plain, false> as $crate::PlainEntry)
    };
}

/// A method that no name leads to: what a relay runs.
#[macro_export]
macro_rules! unnamed {
    ($entry:expr) => {
        $crate::sys::Method {
            name: $crate::c_str!(""),
            proto: $crate::c_str!(""),
            usage: $crate::c_str!(""),
            min: 0,
            max: 0,
            entry: $entry as $crate::Entry,
            shape: $crate::sys::Shape::None,
            most: 0,
            plain: None,
        }
    };
}
