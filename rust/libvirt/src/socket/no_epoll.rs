//! Systems without epoll, where a stream has no socket.

use super::until::Until;
use std::io;
use std::os::unix::io::RawFd;

pub struct Poller(std::convert::Infallible);

impl Poller {
    pub fn new() -> io::Result<Poller> {
        let why = "sockets of streams need epoll, which this system does not have";
        Err(io::Error::new(io::ErrorKind::Unsupported, why))
    }

    pub fn fd(&self) -> RawFd {
        match self.0 {}
    }

    pub fn watch(&self, _: RawFd, _: u64, _: Until) -> io::Result<()> {
        match self.0 {}
    }

    pub fn forget(&self, _: RawFd) {}

    pub fn ring(&self) {}

    pub fn wait(&self, _: bool, _: impl FnMut(u64)) {}
}
