//! SIGPIPE. libvirt writes to its sockets without asking for none; where the other
//! side is gone, its calls fail, and the program should live to hear of it.

use std::mem::MaybeUninit;
use std::os::raw::c_int;
use std::ptr;

/// The set that has this signal and no other.
pub(crate) struct SigPipe(libc::sigset_t);

impl SigPipe {
    pub(crate) fn new() -> SigPipe {
        let mut set = MaybeUninit::uninit();
        // SAFETY: the set is initialised before it is used.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
            SigPipe(set.assume_init())
        }
    }

    /// Makes a call of libvirt's with the signal held back. If the call fails, and a signal
    /// has come that would end the program, it is taken away. A program that handles or
    /// ignores the signal gets it.
    #[inline(always)]
    pub(crate) fn held(&self, call: impl FnOnce() -> c_int) -> c_int {
        let mut before = MaybeUninit::uninit();
        let before = before.as_mut_ptr();
        // SAFETY: both sets are our own; where it fails, `before` is not looked at.
        let masked = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &self.0, before) } == 0;
        let done = call();
        if masked {
            // SAFETY: the call that filled `before` has succeeded; the mask becomes
            // what it was.
            unsafe {
                if done == -1 {
                    self.drop_pending(&*before);
                }
                libc::pthread_sigmask(libc::SIG_SETMASK, before, ptr::null_mut());
            }
        }
        done
    }

    #[cold]
    fn drop_pending(&self, before: &libc::sigset_t) {
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        let mut waiting = MaybeUninit::uninit();
        // SAFETY: each call fills what the next looks at, or fails itself.
        unsafe {
            if libc::sigismember(before, libc::SIGPIPE) == 0
                && libc::sigaction(libc::SIGPIPE, ptr::null(), action.as_mut_ptr()) == 0
                && action.assume_init().sa_sigaction == libc::SIG_DFL
                && libc::sigpending(waiting.as_mut_ptr()) == 0
                && libc::sigismember(waiting.as_ptr(), libc::SIGPIPE) == 1
            {
                self.take();
            }
        }
    }
}

impl SigPipe {
    /// Takes one that is pending. (Another thread may have taken it meanwhile.)
    #[cfg(not(target_os = "macos"))]
    fn take(&self) {
        let now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the set and the time are our own.
        unsafe { libc::sigtimedwait(&self.0, ptr::null_mut(), &now) };
    }

    /// The same where there is no such call. Untried.
    #[cfg(target_os = "macos")]
    fn take(&self) {
        let mut got = 0;
        // SAFETY: the set is our own. One that is raised by a write is this thread's.
        unsafe { libc::sigwait(&self.0, &mut got) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken_pipe() -> c_int {
        let mut ends = [0; 2];
        // SAFETY: descriptors of our own, and a byte that lives.
        unsafe {
            assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
            libc::close(ends[0]);
            let wrote = libc::write(ends[1], b"x".as_ptr() as *const libc::c_void, 1);
            libc::close(ends[1]);
            wrote as c_int
        }
    }

    fn is_held() -> bool {
        let mut mask = MaybeUninit::uninit();
        // SAFETY: the mask is asked for, and nothing changed.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr());
            libc::sigismember(mask.as_ptr(), libc::SIGPIPE) == 1
        }
    }

    #[test]
    fn a_broken_pipe_is_an_error_only() {
        // SAFETY: Rust's own programs ignore it; this one takes the default for a while.
        let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let pipe = SigPipe::new();
        assert_eq!(pipe.held(broken_pipe), -1);
        assert_eq!(pipe.held(|| pipe.held(broken_pipe)), -1);
        assert_eq!(pipe.held(|| is_held().into()), 1);
        assert!(!is_held());
        // SAFETY: what it was.
        unsafe { libc::signal(libc::SIGPIPE, before) };
    }
}
