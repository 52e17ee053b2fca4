//! A stream: the calls, and who frees it.

use crate::identity::{Connection, Identified};
use crate::watch::bounded;
use crate::Error;
use std::mem::MaybeUninit;
use std::os::raw::{c_char, c_int};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};
use virt_sys as sys;

/// The most bytes that libvirt's own transfer loops move at a time.
pub const CHUNK: usize = 262_120;

/// What a daemon reads of a volume at a time, and sends as a full packet and a rest.
pub const BLOCK: usize = 256 << 10;

/// Addresses of the streams that are held somewhere in this process.
static HELD: Mutex<Vec<usize>> = Mutex::new(Vec::new());

fn held() -> std::sync::MutexGuard<'static, Vec<usize>> {
    HELD.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Has libvirt initialised, which must come before any other call: until then it
/// takes whatever is under key 0 of the thread for its last error.
pub(crate) fn ready() {
    static ONCE: Once = Once::new();
    // SAFETY: no conditions. Where it fails, the calls that need it say so.
    ONCE.call_once(|| {
        let _ = unsafe { sys::virInitialize() };
    });
}

/// What `recv` got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// So many bytes; 0 at the end.
    Data(usize),
    WouldBlock,
    AtHole,
}

/// What `send` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    Data(usize),
    WouldBlock,
}

/// One reference of libvirt's. Drop aborts a transfer that has not been ended
/// and gives the reference back, unless a fork has left it to the parent.
pub(crate) struct Held {
    raw: ptr::NonNull<sys::_virStream>,
    /// Its connection, which libvirt's stream keeps alive, where it is known.
    connection: Option<Connection>,
    /// `finish` or `abort` has been called on the open stream, whatever came of it.
    ended: AtomicBool,
    /// An abort was asked for from elsewhere, and may not have come to its end.
    cut: AtomicBool,
    /// It could not be asked to stop at holes: its driver knows of none.
    no_holes: AtomicBool,
    /// libvirt has an event callback of it.
    pub(crate) called_back: AtomicBool,
    pid: libc::pid_t,
}

// SAFETY: libvirt's streams may be used from any thread; they lock themselves.
unsafe impl Send for Held {}
// SAFETY: as above.
unsafe impl Sync for Held {}

impl Held {
    fn new(raw: ptr::NonNull<sys::_virStream>, connection: Option<Connection>) -> Held {
        held().push(raw.as_ptr() as usize);
        // SAFETY: getpid has no conditions.
        Held {
            raw,
            connection,
            ended: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            no_holes: AtomicBool::new(false),
            called_back: AtomicBool::new(false),
            pid: unsafe { libc::getpid() },
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: getpid has no conditions.
        if self.pid != unsafe { libc::getpid() } {
            return; // the connection behind it is the parent's, socket and all
        }
        let errno = Errno::save();
        let address = self.raw.as_ptr() as usize;
        {
            let mut held = held();
            if let Some(at) = held.iter().position(|a| *a == address) {
                held.swap_remove(at);
            }
        }
        let last = Last(self.raw);
        if *self.ended.get_mut() {
            drop(last);
        } else {
            bounded(move || last.abort());
        }
        drop(errno);
    }
}

/// The last use of a reference, given back by Drop.
struct Last(ptr::NonNull<sys::_virStream>);

// SAFETY: as for Held.
unsafe impl Send for Last {}

impl Last {
    fn abort(self) {
        // SAFETY: the reference is ours.
        unsafe { sys::virStreamAbort(self.0.as_ptr()) };
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        // SAFETY: the reference is ours, and this is the last use of it.
        unsafe { sys::virStreamFree(self.0.as_ptr()) };
    }
}

/// `errno` as it was, put back by Drop.
struct Errno(c_int);

impl Errno {
    fn location() -> *mut c_int {
        // SAFETY: the thread's own errno, always there.
        unsafe {
            #[cfg(any(target_os = "macos", target_os = "ios", target_os = "freebsd"))]
            return libc::__error();
            #[cfg(not(any(target_os = "macos", target_os = "ios", target_os = "freebsd")))]
            return libc::__errno_location();
        }
    }

    fn save() -> Errno {
        // SAFETY: as in `location`.
        Errno(unsafe { *Errno::location() })
    }
}

impl Drop for Errno {
    fn drop(&mut self) {
        // SAFETY: as in `location`.
        unsafe { *Errno::location() = self.0 }
    }
}

/// A stream. Clones are the same stream.
#[derive(Clone)]
pub struct Stream {
    pub(crate) held: Arc<Held>,
}

impl Stream {
    /// A new stream of `connection`.
    pub fn new(connection: Option<Connection>, flags: u32) -> Result<Stream, Error> {
        ready();
        let conn = connection.map_or(ptr::null_mut(), |c| c.into_ptr());
        // SAFETY: a live connection, or NULL, which libvirt refuses.
        let raw = unsafe { sys::virStreamNew(conn, flags) };
        match ptr::NonNull::new(raw) {
            Some(raw) => Ok(Stream {
                held: Arc::new(Held::new(raw, connection)),
            }),
            None => Err(Error::last()),
        }
    }

    /// Takes over the stream at `address`, if there is one. Where another value
    /// holds it already, this one takes a reference of its own instead.
    pub fn adopt(address: isize) -> Option<Stream> {
        ready();
        let raw = Identified::<sys::_virStream>::at(address)?;
        if held().contains(&(address as usize)) {
            // SAFETY: known to be a live stream.
            unsafe { sys::virStreamRef(raw.into_ptr()) };
        }
        ptr::NonNull::new(raw.into_ptr()).map(|raw| Stream {
            held: Arc::new(Held::new(raw, None)),
        })
    }

    /// What a Perl object has in its slot.
    pub fn address(&self) -> isize {
        self.raw() as isize
    }

    pub(crate) fn raw(&self) -> sys::virStreamPtr {
        self.held.raw.as_ptr()
    }

    /// Receives into `space`; `flags` as virStreamRecvFlags takes them.
    pub fn recv(&self, space: &mut [MaybeUninit<u8>], flags: u32) -> Result<Received, Error> {
        self.refuse_if_cut()?;
        let start = space.as_mut_ptr() as *mut c_char;
        // SAFETY: the stream is alive while `self` is; libvirt writes at most
        // as many bytes as it is told.
        let got = unsafe {
            if flags == 0 {
                sys::virStreamRecv(self.raw(), start, space.len())
            } else {
                sys::virStreamRecvFlags(self.raw(), start, space.len(), flags)
            }
        };
        match got {
            -2 => Ok(Received::WouldBlock),
            -3 => Ok(Received::AtHole),
            got if got < 0 => {
                let error = Error::last();
                if flags != 0 && error.is_unsupported() {
                    self.held.no_holes.store(true, Ordering::Relaxed);
                }
                Err(error)
            }
            got => {
                self.is_at_work(got > 0);
                Ok(Received::Data(got as usize))
            }
        }
    }

    /// Whether `recv` can be asked to stop at holes, as far as is known.
    pub fn tells_holes(&self) -> bool {
        !self.held.no_holes.load(Ordering::Relaxed)
    }

    /// A stream that has ended can be opened again, which nobody says: that it
    /// moves data tells.
    fn is_at_work(&self, moved: bool) {
        if moved && self.has_ended() {
            self.held.ended.store(false, Ordering::Relaxed);
        }
    }

    /// Receives at most `want` bytes into a buffer of its own; memory follows
    /// what is written. `buffer` is one to use again.
    pub fn recv_owned(
        &self,
        mut buffer: Vec<u8>,
        want: usize,
        flags: u32,
    ) -> Result<(Received, Vec<u8>), Error> {
        buffer.clear();
        buffer
            .try_reserve_exact(want)
            .map_err(|_| Error::memory(want))?;
        let got = self.recv(&mut buffer.spare_capacity_mut()[..want], flags)?;
        if let Received::Data(len) = got {
            // SAFETY: libvirt has written the first `len` bytes.
            unsafe { buffer.set_len(len) };
        }
        Ok((got, buffer))
    }

    /// The same for who wants much, in few pieces: what belongs to a full packet, and
    /// further blocks, as long as they are whole.
    pub fn recv_blocks(
        &self,
        buffer: Vec<u8>,
        want: usize,
        flags: u32,
    ) -> Result<(Received, Vec<u8>), Error> {
        let (mut got, mut buffer) = self.recv_owned(buffer, want, flags)?;
        while let Received::Data(last) = got {
            let len = buffer.len();
            if len == want || last == 0 || (last != CHUNK && len % BLOCK != 0) {
                break;
            }
            got = self.recv(&mut buffer.spare_capacity_mut()[..want - len], flags)?;
            if let Received::Data(more) = got {
                // SAFETY: libvirt has written so many bytes more.
                unsafe { buffer.set_len(len + more) }
            }
        }
        // What ended it with data at hand will say so again.
        let got = match buffer.len() {
            0 => got,
            len => Received::Data(len),
        };
        Ok((got, buffer))
    }

    /// Sends from `bytes`.
    #[inline(always)]
    pub fn send(&self, bytes: &[u8]) -> Result<Sent, Error> {
        self.refuse_if_cut()?;
        // SAFETY: the stream is alive while `self` is.
        let sent =
            unsafe { sys::virStreamSend(self.raw(), bytes.as_ptr() as *const c_char, bytes.len()) };
        match sent {
            -2 => Ok(Sent::WouldBlock),
            sent if sent < 0 => Err(Error::last()),
            sent => {
                self.is_at_work(sent > 0);
                Ok(Sent::Data(sent as usize))
            }
        }
    }

    /// The length of the hole that the stream is at.
    pub fn recv_hole(&self, flags: u32) -> Result<i64, Error> {
        let mut length = 0;
        // SAFETY: the stream is alive while `self` is.
        let rc = unsafe { sys::virStreamRecvHole(self.raw(), &mut length, flags) };
        check(rc).map(|()| length)
    }

    pub fn send_hole(&self, length: i64, flags: u32) -> Result<(), Error> {
        if length < 0 {
            return Err(Error::hole(length)); // the daemon would be left waiting
        }
        if self.has_ended() {
            // A local stream that has ended has nothing left to put the hole in,
            // and libvirt does not look: another call says what it should.
            self.recv(&mut [], 0)?;
        }
        if length == 0 && self.is_open() {
            return Ok(()); // nothing to skip; a daemon that is told may never answer again
        }
        // SAFETY: the stream is alive while `self` is.
        let sent = check(unsafe { sys::virStreamSendHole(self.raw(), length, flags) });
        self.is_at_work(sent.is_ok());
        sent
    }

    /// Whether `finish` or `abort` has been called on it since it was opened.
    pub fn has_ended(&self) -> bool {
        self.held.ended.load(Ordering::Relaxed)
    }

    /// Whether it has ended, or is about to.
    pub fn is_over(&self) -> bool {
        self.has_ended() || self.held.cut.load(Ordering::Relaxed)
    }

    pub fn finish(&self) -> Result<(), Error> {
        self.held.ended.store(self.is_open(), Ordering::Relaxed);
        // SAFETY: the stream is alive while `self` is.
        check(unsafe { sys::virStreamFinish(self.raw()) })
    }

    pub fn abort(&self) -> Result<(), Error> {
        self.held.ended.store(self.is_open(), Ordering::Relaxed);
        // SAFETY: the stream is alive while `self` is.
        check(unsafe { sys::virStreamAbort(self.raw()) })
    }

    /// Aborts the stream, whatever comes of it, in bounded time: a daemon that
    /// has lost sight of it never answers.
    pub fn abandon(&self) {
        let stream = self.clone();
        bounded(move || drop(stream.abort()));
        self.held.ended.store(true, Ordering::Relaxed);
    }

    /// Aborts the stream while a call on it is under way on another thread. That
    /// may take its time: all other calls are refused from now on.
    pub fn cut(&self) {
        self.held.cut.store(true, Ordering::Relaxed);
        // An error has nobody to go to: the stream ends with one already.
        let _ = self.abort();
    }

    /// Asks the connection for something short, for no sake but its own: see `watched`.
    pub fn nudge(&self) {
        if let Some(connection) = self.held.connection {
            let mut version = 0;
            // SAFETY: the connection lives as long as its stream. What comes of
            // the call concerns nobody.
            unsafe { sys::virConnectGetLibVersion(connection.into_ptr(), &mut version) };
        }
    }

    fn refuse_if_cut(&self) -> Result<(), Error> {
        if self.held.cut.load(Ordering::Relaxed) {
            return Err(Error::closed());
        }
        Ok(())
    }

    /// Whether another call has opened it. (A call that every open stream has
    /// another error for, and that changes nothing without a callback.)
    fn is_open(&self) -> bool {
        if self.has_ended() || self.held.called_back.load(Ordering::Relaxed) {
            return true;
        }
        // SAFETY: the stream is alive while `self` is.
        let tried = check(unsafe { sys::virStreamEventUpdateCallback(self.raw(), 0) });
        !matches!(tried, Err(e) if e.is_unsupported())
    }

    /// Whether a fork has left the stream to the parent process.
    pub fn is_inherited(&self) -> bool {
        // SAFETY: getpid has no conditions.
        self.held.pid != unsafe { libc::getpid() }
    }
}

pub(crate) fn check(rc: c_int) -> Result<(), Error> {
    if rc < 0 {
        Err(Error::last())
    } else {
        Ok(())
    }
}
