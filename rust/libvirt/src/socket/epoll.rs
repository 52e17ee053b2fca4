//! Waiting for many descriptors at a cost that does not grow with their number.

use super::until::Until;
use std::io;
use std::os::unix::io::RawFd;

/// An epoll with a bell in it. Its descriptor is readable when one of those in it is ready.
pub struct Poller {
    epoll: RawFd,
    bell: RawFd,
}

/// The number that the bell has; a caller's own numbers are smaller.
const BELL: u64 = u64::MAX;

fn made(fd: libc::c_int) -> io::Result<RawFd> {
    match fd {
        -1 => Err(io::Error::last_os_error()),
        fd => Ok(fd),
    }
}

impl Poller {
    pub fn new() -> io::Result<Poller> {
        // SAFETY: no conditions.
        let epoll = made(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: no conditions.
        let bell = made(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) });
        let bell = bell.map_err(|error| {
            // SAFETY: ours, made above.
            unsafe { libc::close(epoll) };
            error
        })?;
        let poller = Poller { epoll, bell };
        poller.watch(bell, BELL, Until::Readable)?;
        Ok(poller)
    }

    pub fn fd(&self) -> RawFd {
        self.epoll
    }

    /// Reports `number` whenever `fd` is ready.
    pub fn watch(&self, fd: RawFd, number: u64, until: Until) -> io::Result<()> {
        let events = match until {
            Until::Readable => libc::EPOLLIN | libc::EPOLLRDHUP,
            Until::Writable => libc::EPOLLOUT,
        };
        let mut event = libc::epoll_event {
            events: events as u32,
            u64: number,
        };
        // SAFETY: a structure of our own; a wrong descriptor is an error.
        let done = unsafe { libc::epoll_ctl(self.epoll, libc::EPOLL_CTL_ADD, fd, &mut event) };
        made(done).map(drop)
    }

    /// Forgets `fd`, which is still open; does nothing where it is not watched.
    pub fn forget(&self, fd: RawFd) {
        // SAFETY: old systems want a structure, and do not read it.
        unsafe {
            let mut event = std::mem::zeroed();
            libc::epoll_ctl(self.epoll, libc::EPOLL_CTL_DEL, fd, &mut event);
        }
    }

    /// Ends a wait.
    pub fn ring(&self) {
        let one = 1u64;
        // SAFETY: eight bytes of our own.
        unsafe { libc::write(self.bell, &one as *const u64 as *const libc::c_void, 8) };
    }

    /// Waits, unless it is not to, and reports some of what is ready.
    pub fn wait(&self, waits: bool, mut ready: impl FnMut(u64)) {
        // SAFETY: plain numbers, which zeroes are.
        let mut events: [libc::epoll_event; 32] = unsafe { std::mem::zeroed() };
        let limit = if waits { -1 } else { 0 };
        // SAFETY: room for as many events as it is told.
        let count = unsafe { libc::epoll_wait(self.epoll, events.as_mut_ptr(), 32, limit) };
        for event in &events[..usize::try_from(count).unwrap_or(0)] {
            match event.u64 {
                BELL => {
                    let mut rung = 0u64;
                    let into = &mut rung as *mut u64 as *mut libc::c_void;
                    // SAFETY: eight bytes of our own.
                    unsafe { libc::read(self.bell, into, 8) };
                }
                number => ready(number),
            }
        }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        // SAFETY: both are ours.
        unsafe {
            libc::close(self.bell);
            libc::close(self.epoll);
        }
    }
}
