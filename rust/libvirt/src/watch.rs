//! A call that may block, made from a second thread, so that the first can see
//! to signals while it waits.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How often the waiting thread looks for signals.
const TICK: Duration = Duration::from_millis(50);
/// How long an interrupted call, or an abort that nobody asked for, is waited for
/// before it is left behind.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long an abort that the program asks for may take.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);
/// How long a call may wait for another thread to see it.
const NUDGE: Duration = Duration::from_millis(200);

type Work = Box<dyn FnOnce() + Send>;

/// A thread that waits for work. It ends when the value is dropped and the work done.
struct Worker {
    work: Sender<Work>,
    thread: thread::JoinHandle<()>,
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
        spawned.map(|thread| Worker { work, thread, pid })
    }

    /// Waits until the thread is gone, which has nothing left to do.
    fn end(self) {
        drop(self.work);
        let _ = self.thread.join();
    }

    fn put_back(self) {
        let _ = IDLE.try_with(|idle| idle.borrow_mut().push(self));
    }
}

/// Ends this thread's workers that wait for work: the program has none left for them.
pub fn end_idle() {
    // SAFETY: getpid has no conditions.
    let pid = unsafe { libc::getpid() };
    let idle = IDLE.try_with(|idle| std::mem::take(&mut *idle.borrow_mut()));
    for worker in idle.unwrap_or_default() {
        if worker.pid == pid {
            worker.end();
        }
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

/// libvirt would call an event loop that must not be called from other threads.
static ONE_THREAD: AtomicBool = AtomicBool::new(false);

/// Whether no call may be made from a second thread: an event loop that libvirt
/// calls in the middle of its own work belongs to this one.
pub fn keep_to_one_thread(keep: bool) {
    ONE_THREAD.store(keep, Ordering::Relaxed);
}

pub(crate) fn keeps_to_one_thread() -> bool {
    ONE_THREAD.load(Ordering::Relaxed)
}

/// Runs `work` for this long at most: what takes longer goes on by itself, on a
/// thread that is left behind, and there is no result.
pub(crate) fn bounded<T: Send + 'static>(
    time: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    if keeps_to_one_thread() {
        return Some(work());
    }
    let work = Arc::new(Mutex::new(Some(work)));
    let theirs = Arc::clone(&work);
    match start(move || take_and_run(&theirs)) {
        // The thread ends, rather than wait for more: most programs never need it again.
        Ok((worker, done)) => {
            let result = done.wait(time)?;
            worker.end();
            result
        }
        Err(_) => take_and_run(&work), // no thread to be had
    }
}

fn take_and_run<T>(work: &Mutex<Option<impl FnOnce() -> T>>) -> Option<T> {
    let work = work.lock().unwrap_or_else(|p| p.into_inner()).take();
    work.map(|work| work())
}

/// Calls `nudge` now and then from another thread, as long as this lives.
///
/// libvirt before 10.1 can miss that a call is waiting to be sent while another
/// thread waits for an answer on the same connection: then nothing is sent until
/// the next call comes, which is what a nudge has to be.
struct Nudges {
    stop: Arc<(Mutex<bool>, Condvar)>,
}

impl Nudges {
    fn start(nudge: impl Fn() + Send + 'static) -> Nudges {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let theirs = Arc::clone(&stop);
        let nudging = start(move || loop {
            let (stopped, told) = &*theirs;
            let stopped = stopped.lock().unwrap_or_else(|p| p.into_inner());
            let waited = told.wait_timeout_while(stopped, NUDGE, |stopped| !*stopped);
            let stopped = *waited.unwrap_or_else(|p| p.into_inner()).0;
            if stopped {
                return;
            }
            nudge();
        });
        // Without a thread to be had there are no nudges: the worker ends by itself.
        drop(nudging);
        Nudges { stop }
    }
}

impl Drop for Nudges {
    fn drop(&mut self) {
        let (stopped, told) = &*self.stop;
        *stopped.lock().unwrap_or_else(|p| p.into_inner()) = true;
        told.notify_one();
    }
}

/// What the waiting thread does meanwhile.
pub trait Meanwhile {
    type Error;

    /// Whether there is anything to do.
    fn pending(&mut self) -> bool;

    /// Does it; an error ends the wait.
    fn run(&mut self) -> Result<(), Self::Error>;
}

/// Runs `work` on a second thread, and looks here every now and then whether there
/// is something to do meanwhile, until it is done. If that fails, `interrupt` is
/// run on a third thread, to make `work` return; work that does not is left
/// behind after some seconds. `nudge` is any short call on the same connection.
///
/// The outer error is the system's, where it has no thread to give.
pub fn watched<T: Send + 'static, M: Meanwhile>(
    work: impl FnOnce() -> T + Send + 'static,
    mut meanwhile: M,
    interrupt: impl FnOnce() + Send + 'static,
    nudge: impl Fn() + Send + Clone + 'static,
) -> std::io::Result<Result<T, M::Error>> {
    let (worker, outbox) = start(work)?;
    loop {
        if let Some(result) = outbox.wait(TICK) {
            worker.put_back();
            return Ok(Ok(result));
        }
        if !meanwhile.pending() {
            continue;
        }
        let ran = {
            let _nudges = Nudges::start(nudge.clone());
            meanwhile.run()
        };
        if let Err(error) = ran {
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

    /// Always something to do, and always this comes of it.
    struct Always<E: Clone>(Result<(), E>);

    impl<E: Clone> Meanwhile for Always<E> {
        type Error = E;

        fn pending(&mut self) -> bool {
            true
        }

        fn run(&mut self) -> Result<(), E> {
            self.0.clone()
        }
    }

    const FINE: Always<()> = Always(Ok(()));

    #[test]
    fn the_result_comes_back() {
        let got = watched(|| 42, Always(Err("ticked")), || (), || ());
        assert_eq!(got.ok(), Some(Ok(42)));
    }

    #[test]
    fn a_failure_meanwhile_interrupts_the_work() {
        let (stop, stopped) = mpsc::channel::<()>();
        let got = watched(
            move || stopped.recv().is_ok(),
            Always(Err("enough")),
            move || assert!(stop.send(()).is_ok()),
            || (),
        );
        assert_eq!(got.ok(), Some(Err("enough")));
    }

    #[test]
    fn workers_are_used_again_and_may_nest() {
        for _ in 0..3 {
            let inner = || watched(|| 1, FINE, || (), || ()).ok();
            let got = watched(inner, FINE, || (), || ());
            assert_eq!(got.ok(), Some(Ok(Some(Ok(1)))));
        }
        assert_eq!(IDLE.with(|idle| idle.borrow().len()), 1);
        end_idle();
        assert_eq!(IDLE.with(|idle| idle.borrow().len()), 0);
    }

    #[test]
    fn what_takes_too_long_is_left_behind() {
        assert_eq!(bounded(PATIENCE, || 42), Some(42));
        let (stop, stopped) = mpsc::channel::<()>();
        let (done, seen) = mpsc::channel();
        let got = bounded(Duration::from_millis(1), move || {
            let _ = (stopped.recv(), done.send(()));
        });
        assert_eq!(got, None);
        assert!(stop.send(()).is_ok() && seen.recv().is_ok());
    }

    #[test]
    fn a_long_while_is_nudged() {
        struct Waits(mpsc::Receiver<()>);
        impl Meanwhile for Waits {
            type Error = mpsc::RecvError;
            fn pending(&mut self) -> bool {
                true
            }
            fn run(&mut self) -> Result<(), mpsc::RecvError> {
                self.0.recv()
            }
        }
        let (nudged, seen) = mpsc::channel();
        let (done, work) = mpsc::channel::<()>();
        let nudge = move || {
            let _ = (nudged.send(()), done.send(()));
        };
        let got = watched(move || work.recv().is_ok(), Waits(seen), || (), nudge);
        assert_eq!(got.ok(), Some(Ok(true)));
    }
}
