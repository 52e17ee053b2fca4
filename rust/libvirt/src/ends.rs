//! Which calls are under way that end a stream.

use std::sync::atomic::{AtomicUsize, Ordering};

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Such a call; Drop says that it has returned.
pub(crate) struct Ends;

impl Ends {
    pub fn begin() -> Ends {
        COUNT.fetch_add(1, Ordering::SeqCst);
        Ends
    }

    /// Whether there is one, on any thread.
    pub fn any() -> bool {
        COUNT.load(Ordering::SeqCst) > 0
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Ordering::SeqCst);
    }
}
