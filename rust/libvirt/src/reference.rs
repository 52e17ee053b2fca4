//! One reference of libvirt's to a stream, and who has it.

use crate::identity::Connection;
use crate::sigpipe::SigPipe;
use std::cell::RefCell;
use std::os::raw::c_int;
use std::ptr;
use virt_sys as sys;

/// A reference; Drop gives it back, on whatever thread, unless a fork has left it to
/// the parent process.
pub(crate) struct Reference {
    pub(crate) raw: ptr::NonNull<sys::_virStream>,
    /// Its connection, which libvirt's stream keeps alive, where it is known.
    pub(crate) connection: Option<Connection>,
    pub(crate) sigpipe: SigPipe,
    process: Process,
}

// SAFETY: libvirt's streams may be used from any thread. Those of a daemon lock themselves. Any other
// is guarded but for its end: whoever ends it asks `is_busy` first (way.rs of the package), and a
// socket is ended when its threads have let go of the stream (Pumped).
unsafe impl Send for Reference {}
// SAFETY: as above.
unsafe impl Sync for Reference {}

impl Reference {
    pub(crate) fn new(
        raw: ptr::NonNull<sys::_virStream>,
        connection: Option<Connection>,
    ) -> Reference {
        Reference {
            raw,
            connection,
            sigpipe: SigPipe::new(),
            process: Process::this(),
        }
    }

    /// Whether a fork has left it to the parent process.
    pub(crate) fn is_inherited(&self) -> bool {
        self.process != Process::this()
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // The connection behind an inherited one is the parent's, socket and all.
        if !self.is_inherited() {
            // SAFETY: the reference is ours, and this is the last use of it.
            unsafe { sys::virStreamFree(self.raw.as_ptr()) };
        }
    }
}

/// A process, as a fork tells it from its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(libc::pid_t);

impl Process {
    pub fn this() -> Process {
        // SAFETY: getpid has no conditions.
        Process(unsafe { libc::getpid() })
    }
}

thread_local! {
    /// Addresses of the streams for which this thread has an object of its own.
    static TAKEN: RefCell<Vec<usize>> = RefCell::default();
}

/// An entry among the streams that this thread's objects are made of; Drop removes it.
pub struct Taken(usize);

impl Taken {
    pub(crate) fn new(address: usize) -> Taken {
        TAKEN.with(|taken| taken.borrow_mut().push(address));
        Taken(address)
    }

    /// Whether an object of this thread's is made of the stream at `address`.
    pub(crate) fn is(address: usize) -> bool {
        TAKEN.with(|taken| taken.borrow().contains(&address))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // Fails where the thread ends, and the list with it.
        let _ = TAKEN.try_with(|taken| {
            let mut taken = taken.borrow_mut();
            if let Some(at) = taken.iter().position(|address| *address == self.0) {
                taken.swap_remove(at);
            }
        });
    }
}

/// Runs `work`, and leaves `errno` as it was.
pub fn keeping_errno<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: the thread's own errno, always there.
    let errno: *mut c_int = unsafe {
        #[cfg(any(target_os = "macos", target_os = "ios", target_os = "freebsd"))]
        let place = libc::__error();
        #[cfg(not(any(target_os = "macos", target_os = "ios", target_os = "freebsd")))]
        let place = libc::__errno_location();
        place
    };
    // SAFETY: as above.
    let before = unsafe { *errno };
    let result = work();
    // SAFETY: as above; this is still the same thread.
    unsafe { *errno = before };
    result
}
