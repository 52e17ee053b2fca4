//! Who frees a stream, and what is known of it meanwhile.

use crate::identity::Connection;
use crate::sigpipe::SigPipe;
use crate::watch::{bounded, PATIENCE};
use std::os::raw::c_int;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU8};
use std::sync::Mutex;
use virt_sys as sys;

/// Addresses of the streams that are held somewhere in this process.
static HELD: Mutex<Vec<usize>> = Mutex::new(Vec::new());

fn held() -> std::sync::MutexGuard<'static, Vec<usize>> {
    HELD.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Whether somebody here holds the stream at `address`.
pub(crate) fn somewhere(address: isize) -> bool {
    held().contains(&(address as usize))
}

/// Reasons to refuse a call.
pub(crate) struct Refused;

impl Refused {
    /// There is nothing to receive, ever: libvirt would wait for it.
    pub(crate) const RECV: u8 = 1;
    /// Nobody takes what is sent.
    pub(crate) const SEND: u8 = 2;
    /// An abort was asked for from elsewhere, and may not have come to its end.
    pub(crate) const CUT: u8 = 4;
    /// It has ended. A client that has forgotten a daemon's stream may still wait for
    /// what it has to receive, if the daemon was about to fail.
    pub(crate) const LATE: u8 = 8;
}

/// One reference of libvirt's. Drop aborts a transfer that has not been ended
/// and gives the reference back, unless a fork has left it to the parent.
pub(crate) struct Held {
    pub(crate) raw: ptr::NonNull<sys::_virStream>,
    /// Its connection, which libvirt's stream keeps alive, where it is known.
    pub(crate) connection: Option<Connection>,
    /// A call that opens it was seen to succeed.
    pub(crate) opened: AtomicBool,
    /// `finish` or `abort` has been called on the open stream, whatever came of it.
    pub(crate) ended: AtomicBool,
    /// What is not to be asked of libvirt: bits of `Refused`.
    pub(crate) refused: AtomicU8,
    /// It could not be asked to stop at holes: its driver knows of none.
    pub(crate) no_holes: AtomicBool,
    /// libvirt has an event callback of it.
    pub(crate) called_back: AtomicBool,
    pub(crate) sigpipe: SigPipe,
    pub(crate) pid: libc::pid_t,
}

// SAFETY: libvirt's streams may be used from any thread; they lock themselves.
unsafe impl Send for Held {}
// SAFETY: as above.
unsafe impl Sync for Held {}

impl Held {
    pub(crate) fn new(raw: ptr::NonNull<sys::_virStream>, connection: Option<Connection>) -> Held {
        held().push(raw.as_ptr() as usize);
        // SAFETY: getpid has no conditions.
        Held {
            raw,
            connection,
            opened: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            refused: AtomicU8::new(0),
            no_holes: AtomicBool::new(false),
            called_back: AtomicBool::new(false),
            sigpipe: SigPipe::new(),
            pid: unsafe { libc::getpid() },
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: getpid has no conditions.
        if self.pid != unsafe { libc::getpid() } {
            return; // the connection behind it is the parent's, socket and all
        }
        let errno = Errno::save();
        let address = self.raw.as_ptr() as usize;
        {
            let mut held = held();
            if let Some(at) = held.iter().position(|a| *a == address) {
                held.swap_remove(at);
            }
        }
        let last = Last(self.raw);
        if *self.ended.get_mut() {
            drop(last);
        } else {
            bounded(PATIENCE, move || last.abort());
        }
        drop(errno);
    }
}

/// The last use of a reference, given back by Drop.
struct Last(ptr::NonNull<sys::_virStream>);

// SAFETY: as for Held.
unsafe impl Send for Last {}

impl Last {
    fn abort(self) {
        // SAFETY: the reference is ours.
        unsafe { sys::virStreamAbort(self.0.as_ptr()) };
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        // SAFETY: the reference is ours, and this is the last use of it.
        unsafe { sys::virStreamFree(self.0.as_ptr()) };
    }
}

/// `errno` as it was, put back by Drop.
struct Errno(c_int);

impl Errno {
    fn location() -> *mut c_int {
        // SAFETY: the thread's own errno, always there.
        unsafe {
            #[cfg(any(target_os = "macos", target_os = "ios", target_os = "freebsd"))]
            return libc::__error();
            #[cfg(not(any(target_os = "macos", target_os = "ios", target_os = "freebsd")))]
            return libc::__errno_location();
        }
    }

    fn save() -> Errno {
        // SAFETY: as in `location`.
        Errno(unsafe { *Errno::location() })
    }
}

impl Drop for Errno {
    fn drop(&mut self) {
        // SAFETY: as in `location`.
        unsafe { *Errno::location() = self.0 }
    }
}
