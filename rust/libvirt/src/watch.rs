//! A watch of a descriptor in the program's event loop, and a timer there.

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

/// A timer that comes again and again. Drop takes it out of the loop.
pub struct Pulse {
    timer: c_int,
    process: Process,
}

impl Pulse {
    /// The number that its events have; no watch has it. For 0, Sys::Virt would give a loop in
    /// Perl an undefined value, and warn.
    pub const NUMBER: usize = isize::MAX as usize;

    /// None where the loop takes none.
    pub fn new(milliseconds: c_int) -> Option<Pulse> {
        let opaque = Pulse::NUMBER as *mut c_void;
        // SAFETY: a number that nobody follows, so there is nothing to free.
        let timer = unsafe { sys::virEventAddTimeout(milliseconds, Some(beat), opaque, None) };
        let process = Process::this();
        (timer >= 0).then_some(Pulse { timer, process })
    }
}

unsafe extern "C" fn beat(_: c_int, number: *mut c_void) {
    HOOK.tell(number, 0);
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if self.process == Process::this() {
            // SAFETY: the timer is ours, and removed here only.
            unsafe { sys::virEventRemoveTimeout(self.timer) };
        }
    }
}
