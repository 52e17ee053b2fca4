//! Short calls beside the waiter's long one: see `Nudges`, which do it beside one call.

use super::table::Table;
use crate::aside::lock;
use crate::ends::Ends;
use crate::nudges::PAUSE;
use std::os::raw::c_ulong;
use std::sync::Mutex;
use std::thread;
use virt_sys as sys;

/// The same while a stream's end is under way, which a daemon may mistake the nudge for if both
/// reach it in the same microseconds.
const LONG_PAUSE: u32 = 5;

/// The first libvirt that loses no call.
const MENDED: c_ulong = 10_001_000;

pub(crate) fn is_needed() -> bool {
    let mut version = 0;
    // SAFETY: room for the number; it asks for nothing else.
    let known = unsafe { sys::virGetVersion(&mut version, std::ptr::null(), std::ptr::null_mut()) };
    known < 0 || version < MENDED
}

/// Two threads run it: a nudge may itself be lost, just after another call woke the waiter.
pub(crate) fn run(table: &Mutex<Table>) {
    let mut waited = 0;
    loop {
        thread::sleep(PAUSE);
        let table = lock(table);
        if table.is_over {
            return;
        }
        let slot = table.waits_for.clone();
        drop(table);
        waited += 1;
        let due = !Ends::any() || waited >= LONG_PAUSE;
        if let (Some(slot), true) = (slot, due) {
            waited = 0;
            slot.stream.nudge();
        }
    }
}
