//! How the table of a package's methods is written, and how C reaches them.

use crate::barrier::caught;
use crate::{Arg, Error, Perl, Sv};
use perl_sys as sys;
use std::ffi::{c_void, CStr};
use std::sync::atomic::AtomicBool;
use std::{ptr, slice};

/// What a method returns.
pub enum Answer {
    /// The empty list.
    Empty,
    /// An integer.
    Int(i64),
    /// A scalar, whose count the caller gets.
    Sv(Sv),
}

/// The arguments of a call. C has checked how many there are.
#[derive(Clone, Copy)]
pub struct Args<'a>(&'a [*mut sys::Sv]);

impl<'a> Args<'a> {
    /// The argument at a place. It panics where there are fewer, as a table's minimum says.
    pub fn get(self, at: usize) -> Arg<'a> {
        // SAFETY: the frame holds the arguments as long as the method runs (enter),
        // and 'a is no longer than that.
        unsafe { Arg::from_raw(self.0[at]) }
    }

    /// The argument at a place, if there is one.
    pub fn optional(self, at: usize) -> Option<Arg<'a>> {
        (at < self.0.len()).then(|| self.get(at))
    }

    /// The arguments from `at` on.
    pub fn rest(self, at: usize) -> Vec<Arg<'a>> {
        (at..self.0.len()).map(|i| self.get(i)).collect()
    }
}

/// A method's code. A panic in it is an exception.
pub type Entry = fn(&mut Perl, Args<'_>) -> Result<Answer, Error>;

/// One XSUB, as C reads it.
pub type Xsub = sys::Method<Entry>;

/// Runs a method for C: neither a panic nor an exception leaves by unwinding.
///
/// # Safety
/// Called by plx_run_method only: the running interpreter, which nobody else uses
/// meanwhile, the method's frame, a method of the table or of a relay, `argc` arguments
/// of which the frame holds counts, and an answer to be filled in.
pub unsafe extern "C" fn enter(
    raw: *mut c_void,
    frame: *mut sys::Frame,
    method: *const Xsub,
    args: *const *mut sys::Sv,
    argc: usize,
    out: *mut sys::Answer,
) {
    // SAFETY: as the caller promises.
    let (mut perl, args, entry) = unsafe {
        let args = slice::from_raw_parts(args, argc);
        (Perl::from_raw(raw, frame), Args(args), (*method).entry)
    };
    let result = caught(|| entry(&mut perl, args));
    // SAFETY: `out` is the caller's, to be filled in.
    unsafe { *out = answer(&perl, result) };
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
    sys::Answer { verdict, iv, sv }
}

impl Perl {
    /// Puts a guard in the place of the sub `name`, which a library calls: what the sub
    /// throws does not jump over that, and goes on when it has returned. The guard then
    /// returns -1.
    pub fn guard(&self, name: &CStr) {
        // SAFETY: the running interpreter.
        unsafe { sys::plx_guard_sub(self.raw(), name.as_ptr()) }
    }

    /// Puts a relay in the place of the XSUB `name`, unless it has one already. Does
    /// nothing where there is no such XSUB.
    pub fn relay(&self, name: &CStr, relay: &Relay) {
        let raw = |xsub: Option<&'static Xsub>| xsub.map_or(ptr::null(), |x| x as *const Xsub);
        // SAFETY: the running interpreter; the methods live as long as the program.
        unsafe {
            sys::plx_relay_around(
                self.raw(),
                name.as_ptr(),
                raw(relay.before).cast(),
                raw(relay.after).cast(),
                relay.runs_callbacks.into(),
                relay.once.into(),
                relay.guards.map_or(-1, i32::from),
            );
        }
    }
}

/// What stands around an XSUB of another module's.
#[derive(Clone, Copy, Default)]
pub struct Relay {
    /// Called first, with the XSUB's arguments.
    pub before: Option<&'static Xsub>,
    /// Called when the XSUB has succeeded, with the same arguments.
    pub after: Option<&'static Xsub>,
    /// Whether it runs callbacks of the program's, as an event loop does. What those
    /// throw goes on when the XSUB has returned.
    pub runs_callbacks: bool,
    /// Whether it is left out where it runs already for the same first argument.
    pub once: bool,
    /// Which argument is code that a library will call, and is guarded therefore.
    pub guards: Option<u8>,
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
/// `reentrant` is set while code of the program's may run under a call of a library's:
/// there are no plain calls then. A package without such a library leaves it out.
///
/// ```ignore
/// perlxs::table! {
///     package "Counter";
///     constants { STEP = 1; }
///     methods {
///         new  ("$")   ("class")         1..=1 => new;
///         step ("$;$") ("self, by=STEP") 1..=2 => step;
///     }
/// }
/// perlxs::sys::boot!(boot_Counter, TABLE);
/// ```
///
/// The version is the crate's. Its .pm calls the XSUB `_install` of the package when the library
/// is loaded, which refuses a perl or a version that the library is not for.
#[macro_export]
macro_rules! table {
    (
        package $package:literal $(, reentrant $reentrant:path)?;
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
                value: $value as i64,
            },
        )*];

        // What PLX_MOST_ARGS says.
        const _: () = {
            $(assert!($max <= 30);)*
            // A plain call has an object, data and a length, and is for at least one byte.
            $($(assert!($min >= 3 && $most > 0);)?)*
        };

        /// What the package contains.
        pub static TABLE: $crate::sys::Table<$crate::Entry> = $crate::sys::Table {
            package: $crate::c_str!($package),
            version: $crate::c_str!(env!("CARGO_PKG_VERSION")),
            install: $crate::c_str!(concat!($package, "::_install")),
            enter: $crate::enter,
            methods: METHODS.as_ptr(),
            nmethods: METHODS.len(),
            constants: CONSTANTS.as_ptr(),
            nconstants: CONSTANTS.len(),
            reentrant: $crate::reentrant!($($reentrant)?),
        };
    };
}

/// For a package whose methods call no library that calls back.
#[doc(hidden)]
pub static NEVER: AtomicBool = AtomicBool::new(false);

#[doc(hidden)]
#[macro_export]
macro_rules! reentrant {
    () => {
        &$crate::NEVER
    };
    ($reentrant:path) => {
        &$reentrant
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
        Some($crate::plain_entry::<$plain, true> as $crate::sys::PlainEntry)
    };
    (reads $plain:ty) => {
        Some($crate::plain_entry::<$plain, false> as $crate::sys::PlainEntry)
    };
}

/// A method that no name leads to: what a [`Relay`] runs.
///
/// ```ignore
/// static OPENED: perlxs::Xsub = perlxs::unnamed!(opened);
/// ```
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
