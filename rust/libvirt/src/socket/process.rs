//! Values of this process. A child of a fork begins with new ones.

use crate::aside::lock;
use std::cell::UnsafeCell;
use std::mem;
use std::sync::{Mutex, MutexGuard, Once};

/// A value of which a process has one. A child of a fork cannot go on with its parent's: the
/// threads that work with it are the parent's, and one may be at it while another thread forks.
pub(crate) trait OfProcess: Default + Send + 'static {
    /// A static that is for this type alone.
    fn place() -> &'static Place<Self>;

    /// What a child does with its copy of the parent's.
    fn inherited(self) {
        mem::forget(self);
    }
}

/// Where such a value is.
pub(crate) struct Place<T: 'static> {
    value: Mutex<Option<T>>,
    once: Once,
    /// The lock, held across a fork.
    held: UnsafeCell<Option<MutexGuard<'static, Option<T>>>>,
}

// SAFETY: `value` and `once` are made for threads. Only the thread that forks uses `held`, and
// it has the lock then.
unsafe impl<T: Send> Sync for Place<T> {}

impl<T> Place<T> {
    pub const fn new() -> Place<T> {
        Place {
            value: Mutex::new(None),
            once: Once::new(),
            held: UnsafeCell::new(None),
        }
    }
}

/// Runs `work` on the value. `work` calls nothing of libvirt's, and no other value's `with`.
pub(crate) fn with<T: OfProcess, R>(work: impl FnOnce(&mut T) -> R) -> R {
    let place = T::place();
    place.once.call_once(|| {
        let (before, parent, child) = (before_fork::<T>, in_parent::<T>, in_child::<T>);
        // SAFETY: the functions live as long as the process.
        unsafe { libc::pthread_atfork(Some(before), Some(parent), Some(child)) };
    });
    work(lock(&place.value).get_or_insert_with(T::default))
}

unsafe extern "C" fn before_fork<T: OfProcess>() {
    let place = T::place();
    let guard = lock(&place.value);
    // SAFETY: this thread has the lock.
    unsafe { *place.held.get() = Some(guard) };
}

unsafe extern "C" fn in_parent<T: OfProcess>() {
    // SAFETY: this thread has the lock.
    drop(unsafe { (*T::place().held.get()).take() });
}

unsafe extern "C" fn in_child<T: OfProcess>() {
    // SAFETY: this thread has the lock.
    let guard = unsafe { (*T::place().held.get()).take() };
    if let Some(value) = guard.and_then(|mut guard| guard.take()) {
        value.inherited();
    }
}
