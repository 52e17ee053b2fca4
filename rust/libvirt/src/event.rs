//! Event callbacks. libvirt is given a number and never an address. If it comes back with
//! the number too late, the number is not found, and nothing happens.

use crate::hook::{Hook, Told};
use crate::stream::check;
use crate::timer::Timer;
use crate::{Error, Stream};
use std::os::raw::{c_int, c_void};
use virt_sys as sys;

static HOOK: Hook = Hook::new();

/// Who is told of events: the number given to `add_callback`, and the events.
pub fn on_event(told: Told) {
    HOOK.set(told);
}

unsafe extern "C" fn dispatch(_: sys::virStreamPtr, events: c_int, number: *mut c_void) {
    HOOK.tell(number, events);
}

unsafe extern "C" fn readable(_: c_int, number: *mut c_void) {
    HOOK.tell(number, crate::EVENT_READABLE);
}

/// A timer of the event loop that calls the hook with `EVENT_READABLE` turn after
/// turn, for a stream that has something to read which libvirt no longer has.
/// Drop takes it out of the loop.
pub struct Readable {
    _timer: Timer,
}

impl Readable {
    /// None where no event loop has been registered.
    pub fn new(number: usize) -> Option<Readable> {
        let timer = Timer::new(0, readable, number)?;
        Some(Readable { _timer: timer })
    }
}

impl Stream {
    pub fn add_callback(&self, events: i32, number: usize) -> Result<(), Error> {
        // SAFETY: the stream is alive while `self` is; the opaque pointer is a
        // number that nobody follows, so there is nothing to free.
        check(unsafe {
            sys::virStreamEventAddCallback(
                self.raw(),
                events,
                Some(dispatch),
                number as *mut c_void,
                None,
            )
        })
    }

    pub fn update_callback(&self, events: i32) -> Result<(), Error> {
        // SAFETY: the stream is alive while `self` is.
        check(unsafe { sys::virStreamEventUpdateCallback(self.raw(), events) })
    }

    pub fn remove_callback(&self) -> Result<(), Error> {
        // SAFETY: the stream is alive while `self` is.
        check(unsafe { sys::virStreamEventRemoveCallback(self.raw()) })
    }
}
