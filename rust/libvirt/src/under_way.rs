//! Which calls other threads are in for this one.

use crate::reference::Process;
use crate::Stream;
use std::cell::RefCell;
use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

const MOMENT: Duration = Duration::from_secs(1);

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

/// A call that another thread is in.
struct UnderWay {
    stream: usize,
    /// None where it is not known.
    connection: Option<usize>,
    under_way: Weak<()>,
    /// A child of a fork has no such thread.
    process: Process,
}

impl UnderWay {
    fn is_under_way(&self) -> bool {
        self.process == Process::this() && self.under_way.strong_count() > 0
    }
}

thread_local! {
    static CALLS: RefCell<Vec<UnderWay>> = const { RefCell::new(Vec::new()) };
}

/// Whether another thread is in such a call.
fn any(is_meant: impl Fn(&UnderWay) -> bool) -> bool {
    let found = CALLS.try_with(|calls| {
        let calls = calls.borrow();
        let found = calls
            .iter()
            .any(|call| is_meant(call) && call.is_under_way());
        found
    });
    found.unwrap_or(false)
}

/// Waits a moment for calls to end, such as a nudge that is no longer needed. Whether they
/// have ended.
fn end_soon(is_meant: impl Fn(&UnderWay) -> bool) -> bool {
    let until = Instant::now() + MOMENT;
    while any(&is_meant) {
        if Instant::now() > until {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}

/// Whether other threads are in no call for this one, or in none in a moment.
pub fn calls_end_soon() -> bool {
    end_soon(|_| true)
}

/// The same of calls on the connection at `address`, as far as is known.
pub fn calls_end_soon_on(address: isize) -> bool {
    end_soon(|call| {
        let connection = call.connection;
        connection.map_or(true, |connection| connection == address as usize)
    })
}

impl Stream {
    /// The same of calls on this stream.
    pub fn calls_end_soon(&self) -> bool {
        end_soon(|call| call.stream == self.raw() as usize)
    }

    /// Whether another thread's call on it goes on, without a daemon that would answer another
    /// meanwhile. Waits a moment for the call to end.
    pub fn is_busy(&self) -> bool {
        any(|call| call.stream == self.raw() as usize)
            && !self.is_remote()
            && !self.calls_end_soon()
    }

    pub(crate) fn for_another_thread(&self) -> Theirs {
        let under_way = Arc::new(());
        let call = UnderWay {
            stream: self.raw() as usize,
            connection: self.connection(),
            under_way: Arc::downgrade(&under_way),
            process: Process::this(),
        };
        let _ = CALLS.try_with(|calls| {
            let mut calls = calls.borrow_mut();
            calls.retain(UnderWay::is_under_way);
            calls.push(call);
        });
        Theirs {
            stream: self.clone(),
            _under_way: under_way,
        }
    }
}
