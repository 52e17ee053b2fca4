//! Timers of the program's event loop.

use crate::hook::{Hook, Told};
use crate::reference::Process;
use std::os::raw::{c_int, c_void};
use virt_sys as sys;

/// A timer. Drop takes it out of the loop.
pub(crate) struct Timer {
    timer: c_int,
    process: Process,
}

impl Timer {
    /// Has `callback` called with `number` each time so many milliseconds have passed. None where
    /// no event loop has been registered.
    pub fn new(
        milliseconds: c_int,
        callback: unsafe extern "C" fn(c_int, *mut c_void),
        number: usize,
    ) -> Option<Timer> {
        let opaque = number as *mut c_void;
        // SAFETY: a number that nobody follows, so there is nothing to free.
        let timer = unsafe { sys::virEventAddTimeout(milliseconds, Some(callback), opaque, None) };
        let process = Process::this();
        (timer >= 0).then_some(Timer { timer, process })
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if self.process == Process::this() {
            // SAFETY: the timer is ours, and removed here only.
            unsafe { sys::virEventRemoveTimeout(self.timer) };
        }
    }
}

static HOOK: Hook = Hook::new();

/// Who is told of each beat of a `Pulse`. Its arguments mean nothing.
pub fn on_pulse(told: Told) {
    HOOK.set(told);
}

unsafe extern "C" fn beat(_: c_int, number: *mut c_void) {
    HOOK.tell(number, 0);
}

/// A timer for whoever has to look at something now and then. Drop takes it out of the loop.
pub struct Pulse {
    _timer: Timer,
}

impl Pulse {
    /// None where no event loop has been registered.
    pub fn new(milliseconds: c_int) -> Option<Pulse> {
        // Sys::Virt makes an undefined value of 0 for a loop in Perl, and warns.
        let number = 1;
        let timer = Timer::new(milliseconds, beat, number)?;
        Some(Pulse { _timer: timer })
    }
}
