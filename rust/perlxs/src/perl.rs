//! The interpreter.

use crate::{Error, Sv};
use perl_sys as sys;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr;

/// The right to run Perl code on this interpreter.
///
/// There is one for each time Perl called into Rust: it is made where C enters
/// (see `table::enter`) and where a library calls back.
pub struct Perl {
    raw: *mut c_void,
}

impl Perl {
    /// # Safety
    /// `raw` is the interpreter that the current thread runs (NULL on a perl
    /// without threads), and lives as long as the value.
    pub(crate) unsafe fn from_raw(raw: *mut c_void) -> Perl {
        Perl { raw }
    }

    pub(crate) fn raw(&self) -> *mut c_void {
        self.raw
    }

    /// The same interpreter, for a callback to be made later on this thread.
    pub fn for_callback(&self) -> Perl {
        Perl { raw: self.raw }
    }

    /// Whether the package variable that the table watches is defined.
    pub fn watched(&self) -> bool {
        // SAFETY: `raw` is the running interpreter (from_raw).
        unsafe { sys::plx_watched(self.raw) != 0 }
    }

    /// Whether the program has set any handler in %SIG.
    pub fn has_signal_handlers(&self) -> bool {
        // SAFETY: `raw` is the running interpreter (from_raw).
        unsafe { sys::plx_has_signal_handlers(self.raw) != 0 }
    }

    /// Whether signals have arrived whose handlers have not run yet.
    pub fn has_pending_signals(&self) -> bool {
        // SAFETY: `raw` is the running interpreter (from_raw).
        unsafe { sys::plx_signal_pending(self.raw) != 0 }
    }

    /// Whether the calling sub is a tied handle's READ that sysread has called.
    pub fn under_sysread(&self) -> bool {
        // SAFETY: `raw` is the running interpreter (from_raw).
        unsafe { sys::plx_under_sysread(self.raw) != 0 }
    }

    /// Runs the handlers of signals that have arrived.
    pub fn run_signal_handlers(&mut self) -> Result<(), Error> {
        if !self.has_pending_signals() {
            return Ok(());
        }
        let mut job = Job::new(self);
        job.run(sys::plx_do_signals)
    }

    /// A stretch in which no Perl code runs, if that can be promised: not while
    /// a signal handler or the watched variable could bring some.
    pub fn quiet(&mut self) -> Option<Quiet<'_>> {
        // SAFETY: `raw` is the running interpreter (from_raw).
        (unsafe { sys::plx_quiet(self.raw) } != 0).then_some(Quiet { perl: PhantomData })
    }
}

/// While `'p` lasts no Perl code runs: it holds the [`Perl`] that any would need.
pub struct Quiet<'p> {
    perl: PhantomData<&'p mut Perl>,
}

/// One protected piece of Perl code: see `plx_job`.
pub(crate) struct Job<'p> {
    perl: &'p mut Perl,
    pub raw: sys::Job,
}

impl<'p> Job<'p> {
    pub fn new(perl: &'p mut Perl) -> Job<'p> {
        let raw = sys::Job {
            run: ptr::null(),
            code: ptr::null_mut(),
            args: ptr::null(),
            argc: 0,
            sv: ptr::null_mut(),
            value: ptr::null_mut(),
            uv: 0,
            iv: [0; 2],
            nv: 0.0,
            count: 0,
            defined: 0,
            error: 0,
            finished: 0,
            op: ptr::null_mut(),
            err: ptr::null_mut(),
            in_eval: 0,
            exception: ptr::null_mut(),
        };
        Job { perl, raw }
    }

    pub fn run(
        &mut self,
        how: unsafe extern "C" fn(*mut c_void, *mut sys::Job) -> sys::Status,
    ) -> Result<(), Error> {
        // SAFETY: the interpreter is the running one (Perl), and the scalars in
        // the job are alive: whoever filled it holds or borrows them.
        match unsafe { how(self.perl.raw, &mut self.raw) } {
            sys::DONE => Ok(()),
            // SAFETY: a job that died hands over the exception's count.
            sys::DIED => Err(Error::Thrown(unsafe {
                Sv::owned(self.perl, self.raw.exception)
            })),
            _ => Err(Error::Exit),
        }
    }
}
