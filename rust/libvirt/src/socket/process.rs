//! What the whole process has of sockets: a child of a fork begins with none of it.

use super::pump::{Shared, PUMPS};
use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::mem;
use std::os::raw::{c_int, c_void};
use std::os::unix::io::RawFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, Once, Weak};
use virt_sys as sys;

/// A timer of libvirt's that tells whether a stream is readable, and whose.
pub(crate) struct Timer {
    pub shared: Arc<Shared>,
    pub number: u64,
    pub free: sys::virFreeCallback,
    pub opaque: *mut c_void,
}

// SAFETY: the pointer is libvirt's, for its own function, which any thread may call.
unsafe impl Send for Timer {}

#[derive(Default)]
pub(crate) struct All {
    /// Our ends.
    ends: Vec<RawFd>,
    pub timers: HashMap<c_int, Timer>,
    pub next: c_int,
    /// The pumps of connections.
    pub pumps: HashMap<usize, Weak<Shared>>,
}

static ALL: Mutex<Option<All>> = Mutex::new(None);

/// Runs `work` on it. `work` calls nothing of libvirt's.
pub(crate) fn with<T>(work: impl FnOnce(&mut All) -> T) -> T {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the functions live as long as the process.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
    });
    work(crate::aside::lock(&ALL).get_or_insert_with(All::default))
}

pub(crate) fn add(end: RawFd) {
    with(|all| all.ends.push(end));
}

pub(crate) fn remove(end: RawFd) {
    with(|all| all.ends.retain(|other| *other != end));
}

/// The lock, held across a fork.
struct Held(UnsafeCell<Option<MutexGuard<'static, Option<All>>>>);

// SAFETY: only the thread that forks uses it, which has the lock then.
unsafe impl Sync for Held {}

static HELD: Held = Held(UnsafeCell::new(None));

extern "C" fn before_fork() {
    let guard = crate::aside::lock(&ALL);
    // SAFETY: this thread has the lock.
    unsafe { *HELD.0.get() = Some(guard) };
}

extern "C" fn in_parent() {
    // SAFETY: this thread has the lock.
    drop(unsafe { (*HELD.0.get()).take() });
}

/// A child's copies of our ends would keep the sockets open when the parent has ended.
extern "C" fn in_child() {
    // SAFETY: this thread has the lock.
    let guard = unsafe { (*HELD.0.get()).take() };
    if let Some(mut guard) = guard {
        if let Some(all) = guard.take() {
            for end in &all.ends {
                // SAFETY: a copy of ours, which nobody uses here (End).
                unsafe { libc::close(*end) };
            }
            PUMPS.store(0, Ordering::SeqCst);
            mem::forget(all); // the threads behind it are the parent's
        }
    }
}
