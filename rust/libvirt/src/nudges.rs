//! Short calls beside a long one, for libvirt's sake.

use crate::aside::{lock, Pending};
use crate::reference::Process;
use crate::Stream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How long a call may wait for another thread to see it.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);

/// Makes short calls on the connection now and then from another thread, as long as this
/// lives.
///
/// libvirt before 10.1 can miss that a call is waiting to be sent while another
/// thread waits for an answer on the same connection: then nothing is sent until
/// the next call comes.
pub struct Nudges {
    stop: Arc<(Mutex<bool>, Condvar)>,
    process: Process,
}

impl Nudges {
    pub fn start(stream: &Stream) -> Nudges {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let (theirs, stream) = (Arc::clone(&stop), stream.for_another_thread());
        let nudging = Pending::start(move || loop {
            let (stopped, told) = &*theirs;
            let waited = told.wait_timeout_while(lock(stopped), PAUSE, |stopped| !*stopped);
            if *waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0 {
                return;
            }
            stream.nudge();
        });
        // Where no thread is to be had there are no nudges. The worker ends with its work.
        drop(nudging);
        let process = Process::this();
        Nudges { stop, process }
    }
}

impl Drop for Nudges {
    fn drop(&mut self) {
        // In a child of a fork there is no such thread, and it may have held the lock.
        if self.process == Process::this() {
            let (stopped, told) = &*self.stop;
            *lock(stopped) = true;
            told.notify_one();
        }
    }
}
