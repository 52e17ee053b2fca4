//! Our end of a socket pair whose other end the program has.

use super::process::{self, OfProcess, Place};
use crate::reference::Process;
use crate::BLOCK;
use std::io;
use std::mem::ManuallyDrop;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::unix::io::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::net::UnixStream;

/// What the system may keep for the program to read. It doubles the number, for its own needs.
const ROOM: libc::c_int = 256 << 10;

#[cfg(any(target_os = "linux", target_os = "android"))]
const NO_SIGNAL: libc::c_int = libc::MSG_NOSIGNAL;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const NO_SIGNAL: libc::c_int = 0; // there is no socket

/// The event of an end that writes no more.
#[cfg(any(target_os = "linux", target_os = "android"))]
const SHUT: libc::c_short = libc::POLLRDHUP;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const SHUT: libc::c_short = libc::POLLHUP;

pub struct SocketEnd {
    socket: ManuallyDrop<UnixStream>,
    /// The program's descriptor, and the number of the socket that it was.
    theirs: (RawFd, Option<libc::ino_t>),
    process: Process,
}

/// What was read of the program's.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// So many bytes.
    Data(usize),
    Nothing,
    /// The program has shut its end down, or the last who had it has closed it.
    End,
}

impl SocketEnd {
    /// Takes a descriptor of its own of the pair's end `ours`; the program has `theirs`.
    pub fn new(ours: RawFd, theirs: RawFd) -> io::Result<SocketEnd> {
        // SAFETY: a wrong descriptor is an error.
        let fd = unsafe { libc::fcntl(ours, libc::F_DUPFD_CLOEXEC, 3) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: made above, and nobody else's.
        let socket = unsafe { UnixStream::from_raw_fd(fd) };
        socket.set_nonblocking(true)?;
        let room: libc::c_int = ROOM;
        let size = std::mem::size_of_val(&room) as libc::socklen_t;
        let room = &room as *const libc::c_int as *const libc::c_void;
        // SAFETY: a number of our own. The system may give less.
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, room, size) };
        process::with(|all: &mut Descriptors| all.0.push(fd));
        Ok(SocketEnd {
            socket: ManuallyDrop::new(socket),
            theirs: (theirs, inode(theirs)),
            process: Process::this(),
        })
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Gives the program as many of the bytes as there is room for.
    pub fn put(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut put = 0;
        while put < bytes.len() {
            let rest = &bytes[put..];
            let start = rest.as_ptr() as *const libc::c_void;
            // SAFETY: the descriptor is ours, and reads no more than it is told.
            let sent = unsafe { libc::send(self.fd(), start, rest.len(), NO_SIGNAL) };
            match usize::try_from(sent) {
                Ok(sent) => put += sent,
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::WouldBlock => break,
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
        Ok(put)
    }

    /// Takes some of what the program has written into `buffer`, which it empties first.
    pub fn take(&self, buffer: &mut Vec<u8>, most: usize) -> Input {
        buffer.clear();
        buffer.reserve(most);
        let space: &mut [MaybeUninit<u8>] = &mut buffer.spare_capacity_mut()[..most];
        loop {
            let start = space.as_mut_ptr() as *mut libc::c_void;
            // SAFETY: it writes no more than `most` bytes into the spare room.
            let got = unsafe { libc::recv(self.fd(), start, most, 0) };
            match usize::try_from(got) {
                Ok(0) => return Input::End,
                Ok(got) => {
                    // SAFETY: so many have been written.
                    unsafe { buffer.set_len(got) };
                    return Input::Data(got);
                }
                Err(_) => match io::Error::last_os_error().kind() {
                    io::ErrorKind::WouldBlock => return Input::Nothing,
                    io::ErrorKind::Interrupted => {}
                    // It was closed with bytes unread that had come from here.
                    _ => return Input::End,
                },
            }
        }
    }

    /// How many bytes of the program's have not been taken.
    pub fn waiting(&self) -> usize {
        let mut count: libc::c_int = 0;
        // SAFETY: a number of our own.
        unsafe { libc::ioctl(self.fd(), libc::FIONREAD, &mut count) };
        usize::try_from(count).unwrap_or(0)
    }

    /// Whether somebody has closed the other end with bytes unread. It says so once.
    pub fn was_left(&self) -> bool {
        matches!(self.socket.take_error(), Ok(Some(_)))
    }

    /// Whether this process itself can still write to the other end: by the descriptor that
    /// it was given.
    pub fn is_open_here(&self) -> bool {
        let (fd, socket) = self.theirs;
        socket.is_some() && inode(fd) == socket && !self.is_shut()
    }

    fn is_shut(&self) -> bool {
        let mut ready = libc::pollfd {
            fd: self.fd(),
            events: SHUT,
            revents: 0,
        };
        // SAFETY: one structure of our own.
        unsafe { libc::poll(&mut ready, 1, 0) };
        ready.revents & (SHUT | libc::POLLHUP) != 0
    }

    /// The program gets no more: it finds the end of the file.
    pub fn end_output(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Nothing of the program's is wanted: it finds a broken pipe. What waits is discarded: a
    /// program that waits for room would wait for ever.
    pub fn end_input(&self) {
        let _ = self.socket.shutdown(Shutdown::Read);
        let mut rest = Vec::new();
        while matches!(self.take(&mut rest, BLOCK), Input::Data(_)) {}
    }

    /// Ends both, also where a forked child has this end.
    pub fn end(&self) {
        if self.process == Process::this() {
            let _ = self.socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for SocketEnd {
    fn drop(&mut self) {
        // A child of a fork has closed its copy, and may have another file by that number.
        if self.process == Process::this() {
            process::with(|all: &mut Descriptors| all.0.retain(|fd| *fd != self.fd()));
            // SAFETY: once, and it is not used again.
            unsafe { ManuallyDrop::drop(&mut self.socket) };
        }
    }
}

/// All of our ends.
#[derive(Default)]
struct Descriptors(Vec<RawFd>);

impl OfProcess for Descriptors {
    fn place() -> &'static Place<Descriptors> {
        static PLACE: Place<Descriptors> = Place::new();
        &PLACE
    }

    /// A child's copies would keep the sockets open when the parent has ended.
    fn inherited(self) {
        for fd in &self.0 {
            // SAFETY: a copy of ours, which nobody uses in a child (SocketEnd).
            unsafe { libc::close(*fd) };
        }
    }
}

fn inode(fd: RawFd) -> Option<libc::ino_t> {
    let mut about = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: room for the answer; a wrong descriptor is an error.
    match unsafe { libc::fstat(fd, about.as_mut_ptr()) } {
        // SAFETY: filled, as the answer says.
        0 => Some(unsafe { about.assume_init() }.st_ino),
        _ => None,
    }
}
