//! SIGPIPE. libvirt writes to its sockets without asking for none; where the other
//! side is gone, its calls fail, and the program should live to hear of it.

use std::mem::MaybeUninit;
use std::ptr;

/// While it lives, no SIGPIPE ends the program from this thread. A program that has
/// said what it wants of that signal gets it.
pub(crate) struct Held {
    /// The thread's signal mask, where it has to be put back.
    before: Option<libc::sigset_t>,
}

impl Held {
    pub(crate) fn new() -> Held {
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: sigaction writes to `action`, or fails, and the same holds for the
        // mask; both are our own.
        unsafe {
            let known = libc::sigaction(libc::SIGPIPE, ptr::null(), action.as_mut_ptr()) == 0;
            if !known || action.assume_init().sa_sigaction != libc::SIG_DFL {
                return Held { before: None };
            }
            let pipe = only_sigpipe();
            let masked = libc::pthread_sigmask(libc::SIG_BLOCK, &pipe, before.as_mut_ptr()) == 0;
            let before = masked.then(|| before.assume_init());
            // Where it is held already, what comes of it is not ours to decide.
            let before = before.filter(|set| libc::sigismember(set, libc::SIGPIPE) == 0);
            Held { before }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let before = match &self.before {
            Some(before) => before,
            None => return,
        };
        let mut waiting = MaybeUninit::uninit();
        let mut got = 0;
        // SAFETY: the sets and the number are our own; sigwait returns at once, since
        // one is pending, and was not when we began.
        unsafe {
            if libc::sigpending(waiting.as_mut_ptr()) == 0
                && libc::sigismember(waiting.as_ptr(), libc::SIGPIPE) == 1
            {
                libc::sigwait(&only_sigpipe(), &mut got);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, before, ptr::null_mut());
        }
    }
}

fn only_sigpipe() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the set is initialised before it is used.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        set.assume_init()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken_pipe() -> isize {
        let mut ends = [0; 2];
        // SAFETY: descriptors of our own, and a byte that lives.
        unsafe {
            assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
            libc::close(ends[0]);
            let wrote = libc::write(ends[1], b"x".as_ptr() as *const libc::c_void, 1);
            libc::close(ends[1]);
            wrote
        }
    }

    #[test]
    fn a_broken_pipe_is_an_error_only() {
        // SAFETY: Rust's own programs ignore it; this one takes the default for a while.
        let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        {
            let held = Held::new();
            assert_eq!(broken_pipe(), -1);
            let inner = Held::new();
            assert!(held.before.is_some() && inner.before.is_none());
        }
        let after = Held::new();
        assert!(after.before.is_some());
        drop(after);
        // SAFETY: what it was.
        unsafe { libc::signal(libc::SIGPIPE, before) };
    }
}
