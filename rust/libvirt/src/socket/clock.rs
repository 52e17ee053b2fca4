//! An event implementation for a process that has no event loop.
//!
//! It takes no watch and no timer but those by which libvirt says that a stream with a socket is
//! readable. To everything else in libvirt there is no event loop, as before.

use super::process::{self, OfProcess, Place};
use super::pump::Shared;
use crate::{Error, Stream};
use std::cell::RefCell;
use std::collections::HashMap;
use std::os::raw::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use virt_sys as sys;

static REGISTERED: AtomicBool = AtomicBool::new(false);

/// A timer of libvirt's that tells whether a stream is readable, and whose.
struct StreamTimer {
    shared: Arc<Shared>,
    number: u64,
    free: sys::virFreeCallback,
    opaque: *mut c_void,
}

// SAFETY: the pointer is libvirt's, for its own function, which any thread may call.
unsafe impl Send for StreamTimer {}

#[derive(Default)]
struct Timers {
    known: HashMap<c_int, StreamTimer>,
    last: c_int,
}

impl OfProcess for Timers {
    fn place() -> &'static Place<Timers> {
        static PLACE: Place<Timers> = Place::new();
        &PLACE
    }
}

thread_local! {
    /// For whom the next timer is.
    static EXPECTED: RefCell<Option<(Arc<Shared>, u64)>> = const { RefCell::new(None) };
    /// Timers that are out, whose data libvirt may not have freed before it returns.
    static OUT: RefCell<Vec<StreamTimer>> = const { RefCell::new(Vec::new()) };
}

/// Whether the program has registered an event loop. Perl code may run.
pub fn has_loop() -> bool {
    // SAFETY: a timer that never comes, without data.
    unsafe {
        let timer = sys::virEventAddTimeout(-1, Some(nothing), ptr::null_mut(), None);
        if timer >= 0 {
            sys::virEventRemoveTimeout(timer);
        }
        timer >= 0
    }
}

unsafe extern "C" fn nothing(_: c_int, _: *mut c_void) {}

/// Whether sockets have taken the place of the program's event loop: libvirt takes one for
/// the life of the process.
pub fn is_taken() -> bool {
    REGISTERED.load(Ordering::Acquire)
}

pub(crate) fn register() {
    if !REGISTERED.swap(true, Ordering::AcqRel) {
        // SAFETY: functions that live as long as the process.
        unsafe {
            sys::virEventRegisterImpl(
                Some(add_handle),
                Some(update_handle),
                Some(remove_handle),
                Some(add_timeout),
                Some(update_timeout),
                Some(remove_timeout),
            );
        }
    }
}

/// Has libvirt tell the pump when the stream is readable.
pub(crate) fn tell(stream: &Stream, shared: &Arc<Shared>, number: u64) -> Result<(), Error> {
    EXPECTED.with(|expected| *expected.borrow_mut() = Some((Arc::clone(shared), number)));
    let told = stream.add_callback(crate::EVENT_READABLE, 0);
    EXPECTED.with(|expected| drop(expected.borrow_mut().take()));
    told
}

pub(crate) fn tell_no_more(stream: &Stream) {
    let _ = stream.remove_callback();
    let out = OUT.try_with(|out| std::mem::take(&mut *out.borrow_mut()));
    for timer in out.unwrap_or_default() {
        if let Some(free) = timer.free {
            // SAFETY: the timer's own data, once.
            unsafe { free(timer.opaque) };
        }
    }
}

unsafe extern "C" fn add_handle(
    _: c_int,
    _: c_int,
    _: sys::virEventHandleCallback,
    _: *mut c_void,
    _: sys::virFreeCallback,
) -> c_int {
    -1
}

unsafe extern "C" fn update_handle(_: c_int, _: c_int) {}

unsafe extern "C" fn remove_handle(_: c_int) -> c_int {
    -1
}

unsafe extern "C" fn add_timeout(
    _: c_int,
    _: sys::virEventTimeoutCallback,
    opaque: *mut c_void,
    free: sys::virFreeCallback,
) -> c_int {
    let expected = EXPECTED.try_with(|expected| expected.borrow_mut().take());
    match expected.ok().flatten() {
        None => -1,
        Some((shared, number)) => process::with(|timers: &mut Timers| {
            timers.last += 1;
            let timer = StreamTimer {
                shared,
                number,
                free,
                opaque,
            };
            timers.known.insert(timers.last, timer);
            timers.last
        }),
    }
}

/// libvirt has the stream's lock, and calls this on whichever thread reads the connection.
unsafe extern "C" fn update_timeout(timer: c_int, after: c_int) {
    let whose = process::with(|timers: &mut Timers| {
        let timer = timers.known.get(&timer)?;
        Some((Arc::clone(&timer.shared), timer.number))
    });
    if let Some((shared, number)) = whose {
        shared.is_readable(number, after >= 0);
    }
}

unsafe extern "C" fn remove_timeout(timer: c_int) -> c_int {
    match process::with(|timers: &mut Timers| timers.known.remove(&timer)) {
        None => -1,
        Some(timer) => {
            let _ = OUT.try_with(|out| out.borrow_mut().push(timer));
            0
        }
    }
}
