//! The interpreter.

use crate::{Error, Sv};
use perl_sys as sys;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr;
use std::time::Duration;

/// The right to run Perl code on this interpreter.
///
/// There is one at a time: it is made where C enters (see `table::enter`), and for code that
/// a library calls back, to which it is lent.
pub struct Perl {
    raw: *mut c_void,
    /// The method's, which keeps what Perl code throws; null where there is none.
    frame: *mut sys::Frame,
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The descriptor is readable.
    Ready,
    /// The limit has passed.
    Timeout,
    /// Signals have arrived whose handlers have not run yet.
    Signal,
}

impl Perl {
    /// # Safety
    /// `raw` is the interpreter that the current thread runs (NULL on a perl
    /// without threads), and lives as long as the value; `frame` likewise is a frame
    /// of C's, or null. No other value for the interpreter is in use meanwhile.
    pub(crate) unsafe fn from_raw(raw: *mut c_void, frame: *mut sys::Frame) -> Perl {
        Perl { raw, frame }
    }

    pub(crate) fn raw(&self) -> *mut c_void {
        self.raw
    }

    /// The same interpreter, to be called back on this thread.
    pub fn interpreter(&self) -> Interpreter {
        Interpreter { raw: self.raw }
    }

    /// Makes a call into a library that may call Perl code back: see [`Interpreter`].
    /// What that throws is the error.
    pub fn lend<T>(&mut self, work: impl FnOnce() -> T) -> Result<T, Error> {
        let result = self.hold(self.frame, work);
        // SAFETY: our own frame, or null.
        match unsafe { sys::plx_frame_has_left(self.frame) } {
            0 => Ok(result),
            _ => Err(Error::Left),
        }
    }

    /// The same for a call that cleans up after an error. That error is raised whatever
    /// Perl code throws here; such an exception waits for the event loop's next turn.
    pub fn lend_after_error<T>(&mut self, work: impl FnOnce() -> T) -> T {
        // SAFETY: our own frame, or null.
        unsafe { sys::plx_fails(self.frame) };
        self.hold(self.frame, work)
    }

    fn hold<T>(&mut self, holder: *mut sys::Frame, work: impl FnOnce() -> T) -> T {
        // SAFETY: the running interpreter, and our own frame, which outlives the call;
        // the borrow of `self` keeps us from using either meanwhile.
        let before = unsafe { sys::plx_hold(self.raw, holder) };
        let _back = GivesBack(self.raw, before);
        work()
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

    /// What Perl code has left with: see [`Error::Left`].
    pub fn thrown(&self) -> Option<Sv> {
        // SAFETY: our own frame, or null; the new scalar's count becomes ours.
        unsafe {
            let thrown = sys::plx_thrown(self.raw, self.frame);
            (!thrown.is_null()).then(|| Sv::owned(self, thrown))
        }
    }

    /// Runs the handlers of signals that have arrived.
    pub fn run_signal_handlers(&mut self) -> Result<(), Error> {
        if !self.has_pending_signals() {
            return Ok(());
        }
        Job::new(self).run(sys::plx_do_signals)
    }

    /// Waits until a descriptor is readable, or a signal arrives that has a handler.
    /// Handlers that are called at once run in here; what they throw is the error.
    pub fn wait(&mut self, fd: i32, limit: Option<Duration>) -> Result<Woken, Error> {
        let limit = limit.map_or(-1, |time| {
            i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
        });
        let mut job = Job::new(self);
        job.raw.iv = [fd.into(), limit];
        job.run(sys::plx_do_wait)?;
        let ready = job.raw.count != 0;
        Ok(match (ready, self.has_pending_signals()) {
            (true, _) => Woken::Ready,
            (false, true) => Woken::Signal,
            (false, false) => Woken::Timeout,
        })
    }

    /// A stretch in which no Perl code runs, as long as no library is called that may
    /// call some back.
    pub fn quiet(&mut self) -> Quiet<'_> {
        Quiet { perl: PhantomData }
    }
}

/// While `'p` lasts no Perl code runs: it holds the [`Perl`] that any would need.
pub struct Quiet<'p> {
    perl: PhantomData<&'p mut Perl>,
}

/// An interpreter without the right to run code on it: what a callback is registered with.
#[derive(Clone)]
pub struct Interpreter {
    raw: *mut c_void,
}

impl Interpreter {
    /// Runs `work` for a library that calls back, with the token that was lent to that, or
    /// a new one where it was called by somebody else's code. None where Rust has the
    /// token itself. The type is not Send, so this is the interpreter's own thread.
    pub fn called_back<T>(&self, work: impl FnOnce(&mut Perl) -> T) -> Option<T> {
        let (mut holder, mut frame) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the interpreter lives: whoever keeps this value is called on its thread
        // only, and forgets the value when the thread ends.
        if unsafe { sys::plx_call_back(self.raw, &mut holder, &mut frame) } == 0 {
            return None;
        }
        // SAFETY: C says that nobody else has the interpreter, and that the frame, if
        // there is one, is that of a call on the stack.
        let mut perl = unsafe { Perl::from_raw(self.raw, frame) };
        let _back = GivesBack(self.raw, holder);
        Some(work(&mut perl))
    }
}

/// Gives the interpreter back to whom it was taken from, by Drop.
struct GivesBack(*mut c_void, *mut sys::Frame);

impl Drop for GivesBack {
    fn drop(&mut self) {
        // SAFETY: the running interpreter, and what plx_hold or plx_call_back said of it.
        unsafe { sys::plx_hold(self.0, self.1) };
    }
}

/// One protected piece of Perl code: see `plx_job`.
pub(crate) struct Job<'p> {
    perl: &'p mut Perl,
    pub raw: sys::Job,
}

impl<'p> Job<'p> {
    pub fn new(perl: &'p mut Perl) -> Job<'p> {
        let raw = sys::Job {
            code: ptr::null_mut(),
            what: ptr::null(),
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
        };
        Job { perl, raw }
    }

    pub fn run(&mut self, how: sys::Do) -> Result<(), Error> {
        // SAFETY: the interpreter is the running one (Perl), and the scalars in
        // the job are alive: whoever filled it holds or borrows them.
        match unsafe { how(self.perl.raw, self.perl.frame, &mut self.raw) } {
            sys::DONE => Ok(()),
            _ => Err(Error::Left),
        }
    }
}
