//! Whether Perl code may run in the middle of any call of libvirt's.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set for good when the program registers an event loop written in Perl, or a close
/// callback of a connection: libvirt may then run Perl code in the middle of any call.
pub static REENTRANT: AtomicBool = AtomicBool::new(false);

pub fn set() {
    REENTRANT.store(true, Ordering::Relaxed);
}

pub fn is_set() -> bool {
    REENTRANT.load(Ordering::Relaxed)
}
