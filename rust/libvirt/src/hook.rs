//! Who is told of what happens in libvirt's event loop.

use std::mem;
use std::os::raw::{c_int, c_void};
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Takes the number that libvirt was given, and the events.
pub type Told = fn(usize, i32);

/// A function, once there is one. It has no lock: a child of a fork could find that locked.
pub(crate) struct Hook(AtomicUsize);

impl Hook {
    pub const fn new() -> Hook {
        Hook(AtomicUsize::new(0))
    }

    pub fn set(&self, told: Told) {
        self.0.store(told as usize, Ordering::Release);
    }

    pub fn tell(&self, number: *mut c_void, events: c_int) {
        let told = self.0.load(Ordering::Acquire);
        if told != 0 {
            // SAFETY: only `set` writes it, and only functions of that type.
            let told: Told = unsafe { mem::transmute(told) };
            // The function answers for its own panics; none must reach libvirt.
            let _ = catch_unwind(|| told(number as usize, events));
        }
    }
}
