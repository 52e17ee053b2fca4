//! A watch of a descriptor in the program's event loop.

use crate::hook::{Hook, Told};
use crate::reference::Process;
use std::os::raw::{c_int, c_void};
use std::os::unix::io::RawFd;
use virt_sys as sys;

static HOOK: Hook = Hook::new();

/// Who is told of events: the number given to `Watch::new`, and the events, which have the
/// numbers that a stream's have.
pub fn on_watch(told: Told) {
    HOOK.set(told);
}

unsafe extern "C" fn dispatch(_: c_int, _: c_int, events: c_int, number: *mut c_void) {
    HOOK.tell(number, events);
}

/// A watch. Drop takes it out of the loop.
pub struct Watch {
    watch: c_int,
    process: Process,
}

impl Watch {
    /// None where the loop takes none.
    pub fn new(fd: RawFd, events: i32, number: usize) -> Option<Watch> {
        let opaque = number as *mut c_void;
        // SAFETY: a number that nobody follows, so there is nothing to free.
        let watch = unsafe { sys::virEventAddHandle(fd, events, Some(dispatch), opaque, None) };
        let process = Process::this();
        (watch >= 0).then_some(Watch { watch, process })
    }

    pub fn update(&self, events: i32) {
        // SAFETY: the watch is ours.
        unsafe { sys::virEventUpdateHandle(self.watch, events) };
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.process == Process::this() {
            // SAFETY: the watch is ours, and removed here only.
            unsafe { sys::virEventRemoveHandle(self.watch) };
        }
    }
}
