//! Short calls beside the waiter's long one: see `Nudges`, which do it beside one call.

use super::pump::Shared;
use crate::nudges::PAUSE;
use std::os::raw::c_ulong;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread;
use virt_sys as sys;

/// The same while a stream's end is under way, which a daemon may mistake the nudge for if both
/// reach it in the same microseconds.
const LONG_PAUSE: u32 = 5;

/// The first libvirt that loses no call.
const MENDED: c_ulong = 10_001_000;

/// How many calls are under way that end a stream.
static ENDS: AtomicUsize = AtomicUsize::new(0);

/// Such a call; Drop says that it has returned.
pub(crate) struct Ends;

impl Ends {
    pub fn begin() -> Ends {
        ENDS.fetch_add(1, Ordering::SeqCst);
        Ends
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        ENDS.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) fn is_needed() -> bool {
    let mut version = 0;
    // SAFETY: room for the number; it asks for nothing else.
    let known = unsafe { sys::virGetVersion(&mut version, std::ptr::null(), std::ptr::null_mut()) };
    known < 0 || version < MENDED
}

/// Two threads run it: a nudge may itself be lost, just after another call woke the waiter.
pub(crate) fn run(shared: &Arc<Shared>) {
    let mut waited = 0;
    loop {
        thread::sleep(PAUSE);
        let table = shared.table();
        if table.is_over {
            return;
        }
        let slot = table.waits_for.clone();
        drop(table);
        waited += 1;
        let due = ENDS.load(Ordering::SeqCst) == 0 || waited >= LONG_PAUSE;
        if let (Some(slot), true) = (slot, due) {
            waited = 0;
            slot.stream.nudge();
        }
    }
}
