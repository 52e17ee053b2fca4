//! Which calls other threads are in for this one.

use crate::reference::Process;
use crate::Stream;
use std::cell::RefCell;
use std::ops::Deref;
use std::sync::{Arc, Weak};

/// A stream for another thread's call, which counts as under way as long as this lives.
pub(crate) struct Theirs {
    stream: Stream,
    _under_way: Arc<()>,
}

impl Deref for Theirs {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.stream
    }
}

struct Call {
    stream: usize,
    /// None where it is not known.
    connection: Option<usize>,
    under_way: Weak<()>,
    /// A child of a fork has no such thread.
    process: Process,
}

impl Call {
    fn is_under_way(&self) -> bool {
        self.process == Process::this() && self.under_way.strong_count() > 0
    }
}

thread_local! {
    static CALLS: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
}

fn any(is_meant: impl Fn(&Call) -> bool) -> bool {
    let found = CALLS.try_with(|calls| {
        let calls = calls.borrow();
        let found = calls
            .iter()
            .any(|call| is_meant(call) && call.is_under_way());
        found
    });
    found.unwrap_or(false)
}

/// Whether another thread is in a call for this one.
pub fn is_under_way() -> bool {
    any(|_| true)
}

/// Whether another thread is in a call for this one on the connection at `address`, as far
/// as is known.
pub fn is_under_way_on(address: isize) -> bool {
    any(|call| {
        call.connection
            .map_or(true, |connection| connection == address as usize)
    })
}

impl Stream {
    /// Whether another thread is in a call on this stream for this one.
    pub fn is_under_way(&self) -> bool {
        any(|call| call.stream == self.raw() as usize)
    }

    pub(crate) fn for_another_thread(&self) -> Theirs {
        let under_way = Arc::new(());
        let call = Call {
            stream: self.raw() as usize,
            connection: self.connection(),
            under_way: Arc::downgrade(&under_way),
            process: Process::this(),
        };
        let _ = CALLS.try_with(|calls| {
            let mut calls = calls.borrow_mut();
            calls.retain(Call::is_under_way);
            calls.push(call);
        });
        Theirs {
            stream: self.clone(),
            _under_way: under_way,
        }
    }
}
