//! Calls that another thread makes, so that this one can see to signals meanwhile, or
//! leave a call that the daemon does not answer.

use crate::reference::Process;
use crate::worker::{self, Work, Worker};
use crate::Stream;
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::os::unix::io::{AsRawFd, RawFd};
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// How long a call that was interrupted may take to return before it is left to its thread;
/// likewise an abort that the program has not asked for.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How the first thread waits. An error ends the wait, and interrupts the call.
pub trait Wait {
    type Error;

    /// Waits until `fd` is readable, or `limit` has passed; it may return before.
    fn wait(&mut self, fd: RawFd, limit: Option<Duration>) -> Result<(), Self::Error>;
}

/// Waits without seeing to anything: signals come later.
pub struct Deaf;

impl Wait for Deaf {
    type Error = std::convert::Infallible;

    fn wait(&mut self, fd: RawFd, limit: Option<Duration>) -> Result<(), Self::Error> {
        let mut ready = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let millis = limit.map_or(-1, |time| {
            i32::try_from(time.as_millis() + 1).unwrap_or(i32::MAX)
        });
        // SAFETY: one structure of our own.
        unsafe { libc::poll(&mut ready, 1, millis) };
        Ok(())
    }
}

/// What came of a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<T, E> {
    Done(T),
    /// There was no answer in time. The call goes on by itself.
    Unanswered,
    /// The wait has failed. The call has been interrupted, and may go on by itself.
    Interrupted(E),
}

/// Ends this thread's workers that have nothing to do: the program needs none any more.
pub fn end_idle() {
    Stuck::settle();
    worker::end_idle();
}

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const DONE: u8 = 2;

/// Where the other thread leaves its result.
struct Outbox<T> {
    /// What the call returned, or how it panicked.
    result: Mutex<Option<thread::Result<T>>>,
    /// What the first thread does, AWAKE or ASLEEP; and DONE when the result is there.
    reader: Arc<AtomicU8>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A call under way.
pub(crate) struct Pending<T> {
    worker: Worker,
    outbox: Arc<Outbox<T>>,
}

impl<T: Send + 'static> Pending<T> {
    pub(crate) fn start(work: impl FnOnce() -> T + Send + 'static) -> io::Result<Pending<T>> {
        let outbox = Arc::new(Outbox {
            result: Mutex::new(None),
            reader: Arc::new(AtomicU8::new(AWAKE)),
        });
        Stuck::settle();
        let worker = Worker::get()?;
        let (theirs, ringer) = (Arc::clone(&outbox), Arc::clone(&worker.ringer));
        let sent = worker.send(Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(work));
            *lock(&theirs.result) = Some(result);
            if theirs.reader.swap(DONE, Ordering::SeqCst) == ASLEEP {
                drop((&*ringer).write(b"!"));
            }
        }));
        match sent {
            Ok(()) => Ok(Pending { worker, outbox }),
            Err(_) => Err(io::Error::new(io::ErrorKind::Other, "the thread has ended")),
        }
    }

    fn is_done(&self) -> bool {
        self.outbox.reader.load(Ordering::SeqCst) == DONE
    }

    /// Waits for the result until `until`, if that is given: whether it is there.
    fn wait<W: Wait>(&self, wait: &mut W, until: Option<Instant>) -> Result<bool, W::Error> {
        let reader = &self.outbox.reader;
        loop {
            if self.is_done() {
                return Ok(true);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(false);
            }
            let change = |from, to| {
                let changed = reader.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
                changed.is_ok()
            };
            if change(AWAKE, ASLEEP) {
                let waited = wait.wait(self.worker.bell.as_raw_fd(), left);
                change(ASLEEP, AWAKE);
                // The bell may have rung. A later ring only ends the next wait too early.
                let _ = (&self.worker.bell).read(&mut [0; 8]);
                waited?;
            }
        }
    }

    /// Takes the result, which is there; the thread is free again.
    fn take(self) -> Option<thread::Result<T>> {
        let result = lock(&self.outbox.result).take();
        self.worker.put_back();
        result
    }

    /// Leaves the thread to its call; what is to be done for the same connection later
    /// may be left to it, too.
    fn leave(self, connection: Option<usize>) {
        let stuck = Stuck {
            connection,
            worker: self.worker,
            reader: Arc::clone(&self.outbox.reader),
        };
        let _ = STUCK.try_with(|all| all.borrow_mut().push(stuck));
    }
}

/// A thread that was left to its call.
struct Stuck {
    /// None where it is not known.
    connection: Option<usize>,
    worker: Worker,
    reader: Arc<AtomicU8>,
}

thread_local! {
    static STUCK: RefCell<Vec<Stuck>> = const { RefCell::new(Vec::new()) };
}

impl Stuck {
    fn is_over(&self) -> bool {
        self.worker.process != Process::this() || self.reader.load(Ordering::SeqCst) == DONE
    }

    /// Lets go of the threads whose call has returned at last. (They end when they have
    /// done what was left to them.)
    fn settle() {
        let over = STUCK.try_with(|all| {
            let mut all = all.borrow_mut();
            let (over, stuck) = std::mem::take(&mut *all)
                .into_iter()
                .partition(Stuck::is_over);
            *all = stuck;
            over
        });
        drop::<Vec<Stuck>>(over.unwrap_or_default());
    }

    /// Leaves `work` to a thread that waits for the same connection's answer, if one does.
    fn queue(connection: Option<usize>, work: Work) -> Result<(), Work> {
        if connection.is_none() {
            return Err(work);
        }
        Stuck::settle();
        let mut work = Some(work);
        let _ = STUCK.try_with(|all| {
            let all = all.borrow();
            if let Some(stuck) = all.iter().find(|stuck| stuck.connection == connection) {
                work = work.take().and_then(|work| stuck.worker.send(work).err());
            }
        });
        work.map_or(Ok(()), Err)
    }
}

impl Stream {
    pub(crate) fn connection(&self) -> Option<usize> {
        let connection = self.0.connection;
        connection.map(|connection| connection.into_ptr() as usize)
    }

    /// Makes `call` on another thread, and waits for it, for this long at most where there
    /// is a limit. If the wait fails, an abort is made so that the call returns, unless no
    /// abort may be made beside what is under way by then (`alone`).
    ///
    /// The error is the system's, where it has no thread to give.
    pub fn aside<T: Send + 'static, W: Wait>(
        &self,
        call: impl FnOnce(&Stream) -> T + Send + 'static,
        limit: Option<Duration>,
        alone: impl FnOnce() -> bool,
        wait: &mut W,
    ) -> io::Result<Outcome<T, W::Error>> {
        let theirs = self.for_another_thread();
        let process = Process::this();
        let under_way = Pending::start(move || call(&theirs))?;
        let until = limit.map(|limit| Instant::now() + limit);
        let error = match under_way.wait(wait, until) {
            Ok(true) => match under_way.take() {
                Some(Ok(result)) => return Ok(Outcome::Done(result)),
                Some(Err(panic)) => resume_unwind(panic),
                None => return Ok(Outcome::Unanswered),
            },
            Ok(false) => {
                under_way.leave(self.connection());
                return Ok(Outcome::Unanswered);
            }
            Err(error) => error,
        };
        // In a child of a fork there is nothing under way.
        if process == Process::this() {
            match alone() {
                true => under_way.leave(self.connection()),
                false => self.interrupt(under_way),
            }
        }
        Ok(Outcome::Interrupted(error))
    }

    fn interrupt<T: Send + 'static>(&self, call: Pending<T>) {
        let until = Some(Instant::now() + PATIENCE);
        let theirs = self.for_another_thread();
        if let Ok(abort) = Pending::start(move || drop(theirs.abort())) {
            match abort.wait(&mut Deaf, until) {
                Ok(true) => drop(abort.take()),
                _ => abort.leave(self.connection()),
            }
        }
        match call.wait(&mut Deaf, until) {
            Ok(true) => drop(call.take()),
            _ => call.leave(self.connection()),
        }
    }

    /// Aborts the stream; an error is ignored. Waits for it for `limit` at most. Where a
    /// call on the connection is unanswered already, the abort is left to that call's thread.
    pub fn abort_aside(&self, limit: Duration) {
        let theirs = self.for_another_thread();
        let abort: Work = Box::new(move || drop(theirs.abort()));
        if let Err(abort) = Stuck::queue(self.connection(), abort) {
            let made = self.aside(move |_| abort(), Some(limit), || true, &mut Deaf);
            if made.is_err() {
                let _ = self.abort(); // no thread to be had
            }
        }
    }
}
