//! Which processor a thread runs on.

use std::cell::Cell;
use std::os::raw::c_int;

/// The processor that a thread is kept on.
///
/// Two threads that take turns belong on one processor: there the system switches from
/// one to the other. To wake a thread on another processor takes an interrupt, which in a
/// virtual machine costs many times as much as the call for which it is woken.
pub(crate) struct Processor(Cell<c_int>);

impl Processor {
    pub(crate) fn any() -> Processor {
        Processor(Cell::new(-1))
    }

    /// Has `thread`, which is not joined yet, run where this one runs. Where that fails, it
    /// runs anywhere, and costs more.
    #[cfg(target_os = "linux")]
    pub(crate) fn follow(&self, thread: libc::pthread_t) {
        // SAFETY: no conditions.
        let here = unsafe { libc::sched_getcpu() };
        if self.0.replace(here) == here {
            return;
        }
        let known = usize::try_from(here).ok();
        if let Some(here) = known.filter(|here| *here < libc::CPU_SETSIZE as usize) {
            // SAFETY: a set of plain bits, all zero at first, that has room for this
            // one; the thread is not joined.
            unsafe {
                let mut set: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(here, &mut set);
                libc::pthread_setaffinity_np(thread, std::mem::size_of_val(&set), &set);
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn follow(&self, _: libc::pthread_t) {}
}
