//! Calls that another thread makes, on streams that need no daemon.

use crate::*;
use std::os::unix::io::RawFd;
use std::sync::mpsc;
use std::time::Duration;

const FOREVER: Duration = Duration::from_secs(600);

/// A stream that nothing has opened.
fn stream() -> Stream {
    // SAFETY: a URI that needs no daemon; closed below.
    let raw = unsafe { virt_sys::virConnectOpen(b"test:///default\0".as_ptr().cast()) };
    let made = Stream::new(Connection::at(raw as isize), 0);
    // SAFETY: opened above; the stream keeps the connection alive.
    unsafe { virt_sys::virConnectClose(raw) };
    made.unwrap().0
}

/// Fails at its first wait, and lets the call end.
struct Refuses(mpsc::Sender<()>);

impl Wait for Refuses {
    type Error = &'static str;

    fn wait(&mut self, _: RawFd, _: Option<Duration>) -> Result<(), &'static str> {
        let _ = self.0.send(());
        Err("enough")
    }
}

#[test]
fn the_result_comes_back_however_long_it_takes() {
    let st = stream();
    for pause in [Duration::ZERO, Duration::from_millis(30)] {
        let work = move |_: &Stream| {
            std::thread::sleep(pause);
            42
        };
        let got = st.aside(work, Some(FOREVER), || true, &mut Deaf).unwrap();
        assert_eq!(got, Outcome::Done(42));
    }
}

#[test]
fn a_thread_is_used_again_and_ends_on_request() {
    let st = stream();
    let name = |_: &Stream| std::thread::current().id();
    let first = st.aside(name, None, || true, &mut Deaf).unwrap();
    assert_eq!(st.aside(name, None, || true, &mut Deaf).unwrap(), first);
    end_idle();
    assert_ne!(st.aside(name, None, || true, &mut Deaf).unwrap(), first);
}

/// Has this thread run on one processor: whether there is such a processor.
#[cfg(target_os = "linux")]
fn run_on(processor: usize) -> bool {
    // SAFETY: a set of plain bits, all zero at first, that has room for this one; 0 is this
    // thread.
    unsafe {
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut one);
        libc::sched_setaffinity(0, std::mem::size_of_val(&one), &one) == 0
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_thread_runs_where_its_caller_runs() {
    let st = stream();
    let most = libc::CPU_SETSIZE as usize;
    let processors: Vec<usize> = (0..most).filter(|one| run_on(*one)).collect();
    for processor in processors.iter().cycle().take(100) {
        assert!(run_on(*processor));
        // SAFETY: no conditions.
        let there = |_: &Stream| unsafe { libc::sched_getcpu() };
        let ran = st.aside(there, None, || true, &mut Deaf).unwrap();
        assert_eq!(ran, Outcome::Done(*processor as i32));
    }
}

#[test]
fn a_failing_wait_interrupts_the_call_which_may_go_on_by_itself() {
    let st = stream();
    let (go_on, goes_on) = mpsc::channel();
    let (done, seen) = mpsc::channel();
    let work = move |_: &Stream| {
        let _ = (goes_on.recv(), done.send(()));
    };
    let got = st.aside(work, None, || false, &mut Refuses(go_on)).unwrap();
    assert_eq!(got, Outcome::Interrupted("enough"));
    assert!(seen.recv_timeout(FOREVER).is_ok());
}

#[test]
fn what_takes_too_long_is_left_and_later_aborts_are_left_to_the_same_thread() {
    let st = stream();
    let (stop, stopped) = mpsc::channel::<()>();
    let (done, seen) = mpsc::channel();
    let work = move |_: &Stream| {
        let _ = (stopped.recv(), done.send(()));
    };
    let got = st
        .aside(work, Some(Duration::from_millis(1)), || true, &mut Deaf)
        .unwrap();
    assert_eq!(got, Outcome::Unanswered);
    let clones = std::sync::Arc::strong_count(&st.0);
    for _ in 0..100 {
        st.abort_aside(PATIENCE); // none of them waits
    }
    assert_eq!(std::sync::Arc::strong_count(&st.0), clones + 100);
    assert!(stop.send(()).is_ok() && seen.recv_timeout(FOREVER).is_ok());
}

#[test]
fn a_call_that_panics_panics_here() {
    let st = stream();
    let call = || st.aside(|_| panic!("as it should"), None, || true, &mut Deaf);
    let panicked: Result<std::io::Result<Outcome<(), _>>, _> =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
    assert!(panicked.is_err());
    let got = st.aside(|_| 42, None, || true, &mut Deaf).unwrap();
    assert_eq!(got, Outcome::Done(42), "the thread goes on");
}

#[test]
fn nothing_is_left_to_a_thread_of_another_connection() {
    let known = stream();
    // SAFETY: a live stream.
    unsafe { virt_sys::virStreamRef(known.raw()) };
    let (unknown, _taken) = Stream::adopt(known.address()).unwrap();
    let (stop, stopped) = mpsc::channel::<()>();
    let limit = Some(Duration::from_millis(1));
    let work = move |_: &Stream| assert!(stopped.recv().is_ok());
    let left = unknown.aside(work, limit, || true, &mut Deaf).unwrap();
    assert_eq!(left, Outcome::Unanswered);
    let adopt = |st: &Stream| {
        // SAFETY: a live stream; the reference is for the one that is made of it.
        unsafe { virt_sys::virStreamRef(st.raw()) };
        Stream::adopt(st.address()).unwrap().0
    };
    let other = adopt(&stream());
    let aborts = std::sync::Arc::strong_count(&other.0);
    other.abort_aside(PATIENCE); // it is waited for
    assert_eq!(std::sync::Arc::strong_count(&other.0), aborts);
    assert!(stop.send(()).is_ok());
}

#[test]
fn a_call_is_under_way_until_its_thread_has_returned() {
    let (st, other) = (stream(), stream());
    let on = |st: &Stream| calls_end_soon_on(st.connection().unwrap() as isize);
    let (stop, stopped) = mpsc::channel::<()>();
    let limit = Some(Duration::from_millis(1));
    let work = move |_: &Stream| assert!(stopped.recv().is_err());
    let left = st.aside(work, limit, || true, &mut Deaf).unwrap();
    assert_eq!(left, Outcome::Unanswered);
    assert!(!calls_end_soon() && !st.calls_end_soon() && !on(&st));
    assert!(other.calls_end_soon() && on(&other));
    drop(stop);
    while !calls_end_soon() {}
    assert!(st.calls_end_soon() && on(&st));
}

#[test]
fn nudges_are_under_way_while_they_live() {
    let st = stream();
    let nudges = Nudges::start(&st);
    assert!(!st.calls_end_soon());
    drop(nudges);
    while !st.calls_end_soon() {}
}

#[test]
fn errno_stays() {
    let errno = || std::io::Error::last_os_error().raw_os_error();
    // SAFETY: no such descriptor.
    let fail = || unsafe { libc::close(-1) };
    assert_eq!(fail(), -1);
    let before = errno();
    keeping_errno(|| {
        // SAFETY: no such folder.
        assert_eq!(unsafe { libc::rmdir(b"/none/such\0".as_ptr().cast()) }, -1);
        assert_ne!(errno(), before);
    });
    assert_eq!(errno(), before);
}

/// Waits a little, and then fails or goes on by turns.
struct Fickle(u32);

impl Wait for Fickle {
    type Error = ();

    fn wait(&mut self, fd: RawFd, limit: Option<Duration>) -> Result<(), ()> {
        self.0 += 1;
        if self.0 % 3 == 0 {
            return Err(());
        }
        let little = Duration::from_millis(1);
        let _ = Deaf.wait(fd, Some(limit.map_or(little, |limit| limit.min(little))));
        Ok(())
    }
}

/// What xt/tsan is for.
#[test]
fn many_threads_make_leave_and_interrupt_calls() {
    let shared = stream();
    let each = &|number: u32| {
        let own = stream();
        let mut wait = Fickle(number);
        for round in 0..100_u32 {
            let st = if round % 2 == 0 { &shared } else { &own };
            let pause = Duration::from_micros(u64::from(round % 5) * 300);
            let work = move |st: &Stream| {
                std::thread::sleep(pause);
                (round, st.recv(&mut [], 0).is_err(), vec![round; 10])
            };
            let limit = (round % 4 == 0).then_some(Duration::from_micros(500));
            let nudges = (round % 7 == 0).then(|| Nudges::start(st));
            if let Outcome::Done((got, _, more)) =
                st.aside(work, limit, || round % 3 == 0, &mut wait).unwrap()
            {
                assert_eq!((got, more), (round, vec![round; 10]));
            }
            drop(nudges);
            if round % 10 == 9 {
                own.abort_aside(PATIENCE);
            }
        }
        end_idle();
    };
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || each(number));
        }
    });
}
