//! Threads that make calls for another one.

use crate::processor::Processor;
use crate::reference::Process;
use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::os::unix::thread::JoinHandleExt;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;
use std::thread;

pub(crate) type Work = Box<dyn FnOnce() + Send>;

/// A thread that makes calls. It ends when the value is dropped and the calls are made.
pub(crate) struct Worker {
    /// Nothing in a child of a fork, which has no such thread.
    thread: Option<Thread>,
    /// Readable when the result is there, if the first thread sleeps.
    pub(crate) bell: UnixStream,
    pub(crate) ringer: Arc<UnixStream>,
    pub(crate) process: Process,
}

struct Thread {
    work: Sender<Work>,
    handle: thread::JoinHandle<()>,
    processor: Processor,
}

thread_local! {
    static IDLE: RefCell<Vec<Worker>> = const { RefCell::new(Vec::new()) };
}

impl Worker {
    pub(crate) fn get() -> io::Result<Worker> {
        let idle = IDLE.try_with(|idle| idle.borrow_mut().pop()).ok().flatten();
        match idle {
            Some(worker) if worker.process == Process::this() => Ok(worker),
            _ => Worker::spawn(), // no thread survives a fork
        }
    }

    fn spawn() -> io::Result<Worker> {
        let (work, inbox) = channel::<Work>();
        let (bell, ringer) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        let spawn = || {
            thread::Builder::new()
                .name("stream-call".into())
                .spawn(move || make_calls(&inbox))
        };
        let handle = without_signals(spawn)?;
        Ok(Worker {
            thread: Some(Thread {
                work,
                handle,
                processor: Processor::any(),
            }),
            bell,
            ringer: Arc::new(ringer),
            process: Process::this(),
        })
    }

    pub(crate) fn send(&self, work: Work) -> Result<(), Work> {
        match &self.thread {
            Some(thread) if self.process == Process::this() => {
                thread.processor.follow(thread.handle.as_pthread_t());
                thread.work.send(work).map_err(|unsent| unsent.0)
            }
            _ => Err(work),
        }
    }

    pub(crate) fn put_back(self) {
        let _ = IDLE.try_with(|idle| idle.borrow_mut().push(self));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // No thread survives a fork, and it may have held the channel's lock.
        if self.process != Process::this() {
            std::mem::forget(self.thread.take());
        }
    }
}

/// Ends this thread's workers that have nothing to do.
pub(crate) fn end_idle() {
    let idle = IDLE.try_with(|idle| std::mem::take(&mut *idle.borrow_mut()));
    for mut worker in idle.unwrap_or_default() {
        if worker.process == Process::this() {
            if let Some(Thread { work, handle, .. }) = worker.thread.take() {
                drop(work);
                let _ = handle.join();
            }
        }
    }
}

/// A new thread inherits a mask that lets no signal in: those are for the thread that
/// runs Perl.
pub(crate) fn without_signals<T>(spawn: impl FnOnce() -> T) -> T {
    let mut all = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: sets are initialised before use.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let result = spawn();
    // SAFETY: the mask that was there before.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    result
}

fn make_calls(inbox: &Receiver<Work>) {
    while let Ok(work) = inbox.recv() {
        work();
    }
}
