//! A call that may block, made from a second thread, so that the first can see
//! to signals while it waits.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::sync::mpsc::{channel, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How often the waiting thread looks for signals.
const TICK: Duration = Duration::from_millis(50);
/// How long an interrupted call is waited for before it is left behind.
const PATIENCE: Duration = Duration::from_secs(5);

type Work = Box<dyn FnOnce() + Send>;

/// A thread that waits for work. It ends when the value is dropped and the work done.
struct Worker {
    work: Sender<Work>,
    pid: libc::pid_t,
}

thread_local! {
    static IDLE: RefCell<Vec<Worker>> = const { RefCell::new(Vec::new()) };
}

impl Worker {
    fn get() -> std::io::Result<Worker> {
        // SAFETY: getpid has no conditions.
        let pid = unsafe { libc::getpid() };
        let idle = IDLE.try_with(|idle| idle.borrow_mut().pop()).ok().flatten();
        match idle {
            Some(worker) if worker.pid == pid => Ok(worker),
            _ => Worker::spawn(pid), // no thread survives a fork
        }
    }

    fn spawn(pid: libc::pid_t) -> std::io::Result<Worker> {
        let (work, inbox) = channel::<Work>();
        let mut all = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: sets are initialised before use. The new thread inherits a
        // mask that lets no signal in: those are for the thread that runs Perl.
        let spawned = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            let spawned = thread::Builder::new()
                .name("stream-call".into())
                .spawn(move || {
                    for work in inbox {
                        work();
                    }
                });
            libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut());
            spawned
        };
        spawned.map(|_| Worker { work, pid })
    }

    fn put_back(self) {
        let _ = IDLE.try_with(|idle| idle.borrow_mut().push(self));
    }
}

/// Where the second thread leaves its result.
struct Outbox<T> {
    result: Mutex<Option<T>>,
    arrived: Condvar,
}

impl<T> Outbox<T> {
    fn wait(&self, time: Duration) -> Option<T> {
        let result = self.result.lock().unwrap_or_else(|p| p.into_inner());
        let waited = self
            .arrived
            .wait_timeout_while(result, time, |r| r.is_none());
        waited.unwrap_or_else(|p| p.into_inner()).0.take()
    }
}

fn start<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<(Worker, Arc<Outbox<T>>)> {
    let outbox = Arc::new(Outbox {
        result: Mutex::new(None),
        arrived: Condvar::new(),
    });
    let theirs = Arc::clone(&outbox);
    let worker = Worker::get()?;
    let sent = worker.work.send(Box::new(move || {
        let result = work();
        *theirs.result.lock().unwrap_or_else(|p| p.into_inner()) = Some(result);
        theirs.arrived.notify_one();
    }));
    match sent {
        Ok(()) => Ok((worker, outbox)),
        Err(_) => Err(std::io::Error::new(
            std::io::ErrorKind::Other,
            "the thread has ended",
        )),
    }
}

/// Runs `work` on a second thread, and `tick` here every now and then until it
/// is done. If `tick` fails, `interrupt` is run on a third thread, to make
/// `work` return; work that does not is left behind after some seconds.
///
/// The outer error is the system's, where it has no thread to give.
pub fn watched<T: Send + 'static, E>(
    work: impl FnOnce() -> T + Send + 'static,
    mut tick: impl FnMut() -> Result<(), E>,
    interrupt: impl FnOnce() + Send + 'static,
) -> std::io::Result<Result<T, E>> {
    let (worker, outbox) = start(work)?;
    loop {
        if let Some(result) = outbox.wait(TICK) {
            worker.put_back();
            return Ok(Ok(result));
        }
        if let Err(error) = tick() {
            // SAFETY: getpid has no conditions.
            if worker.pid != unsafe { libc::getpid() } {
                return Ok(Err(error)); // a child of a fork in there: none of its business
            }
            let until = Instant::now() + PATIENCE;
            let left = || until.saturating_duration_since(Instant::now());
            if let Ok((interrupter, done)) = start(interrupt) {
                if done.wait(left()).is_some() {
                    interrupter.put_back();
                }
            }
            if outbox.wait(left()).is_some() {
                worker.put_back();
            }
            return Ok(Err(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_result_comes_back() {
        let got = watched(|| 42, || Err("ticked"), || ());
        assert_eq!(got.ok(), Some(Ok(42)));
    }

    #[test]
    fn a_failing_tick_interrupts_the_work() {
        let (stop, stopped) = mpsc::channel::<()>();
        let got = watched(
            move || stopped.recv().is_ok(),
            || Err("enough"),
            move || assert!(stop.send(()).is_ok()),
        );
        assert_eq!(got.ok(), Some(Err("enough")));
    }

    #[test]
    fn workers_are_used_again_and_may_nest() {
        for _ in 0..3 {
            let got = watched::<_, ()>(
                || watched::<_, ()>(|| 1, || Ok(()), || ()).ok(),
                || Ok(()),
                || (),
            );
            assert_eq!(got.ok(), Some(Ok(Some(Ok(1)))));
        }
        assert_eq!(IDLE.with(|idle| idle.borrow().len()), 1);
    }
}
