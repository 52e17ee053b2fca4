//! A stream's calls.

use crate::held::{self, Held, Refused};
use crate::identity::{Connection, Identified};
use crate::watch::{bounded, keeps_to_one_thread, ANSWER, PATIENCE};
use crate::Error;
use std::mem::MaybeUninit;
use std::os::raw::{c_char, c_int};
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Once};
use virt_sys as sys;

/// The most bytes that libvirt's own transfer loops move at a time.
pub const CHUNK: usize = 262_120;

/// What a daemon reads of a volume at a time, and sends as a full packet and a rest.
pub const BLOCK: usize = 256 << 10;

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
        if held::somewhere(address) {
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
        if self.refuse(Refused::RECV | Refused::LATE)? && self.is_remote() {
            return self.recv_late(space, flags);
        }
        self.recv_now(space, flags)
    }

    fn recv_now(&self, space: &mut [MaybeUninit<u8>], flags: u32) -> Result<Received, Error> {
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
            got => Ok(Received::Data(got as usize)),
        }
    }

    /// Receives from a stream that has ended.
    #[cold]
    fn recv_late(&self, space: &mut [MaybeUninit<u8>], flags: u32) -> Result<Received, Error> {
        let want = space.len().min(CHUNK);
        let (got, bytes) = self.late(move |stream| {
            let mut bytes = vec![MaybeUninit::uninit(); want];
            stream.recv_now(&mut bytes, flags).map(|got| (got, bytes))
        })??;
        space[..want].copy_from_slice(&bytes);
        Ok(got)
    }

    /// Whether `recv` can be asked to stop at holes, as far as is known.
    pub fn tells_holes(&self) -> bool {
        !self.held.no_holes.load(Ordering::Relaxed)
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
        self.refuse(Refused::SEND)?;
        let start = bytes.as_ptr() as *const c_char;
        // SAFETY: the stream is alive while `self` is.
        let sent = self
            .held
            .sigpipe
            .held(|| unsafe { sys::virStreamSend(self.raw(), start, bytes.len()) });
        match sent {
            -2 => Ok(Sent::WouldBlock),
            sent if sent < 0 => Err(Error::last()),
            sent => Ok(Sent::Data(sent as usize)),
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
        self.refuse(Refused::SEND)?;
        if length == 0 && self.is_open() {
            return Ok(()); // nothing to skip; a daemon that is told may never answer again
        }
        // SAFETY: the stream is alive while `self` is.
        check(
            self.held
                .sigpipe
                .held(|| unsafe { sys::virStreamSendHole(self.raw(), length, flags) }),
        )
    }

    /// Another call has opened it. Where that is for one direction only, calls for
    /// the other are refused from now on, and not left to the other side.
    pub fn opened(&self, receives: bool, sends: bool) {
        let recv = if receives { 0 } else { Refused::RECV };
        let send = if sends { 0 } else { Refused::SEND };
        self.held.refused.store(recv | send, Ordering::Relaxed);
        self.held.ended.store(false, Ordering::Relaxed);
        self.held.called_back.store(false, Ordering::Relaxed);
        self.held.opened.store(true, Ordering::Relaxed);
    }

    /// Whether it is known to be open.
    pub fn is_active(&self) -> bool {
        self.held.opened.load(Ordering::Relaxed) && !self.has_ended()
    }

    /// Whether `finish` or `abort` has been called on it since it was opened.
    pub fn has_ended(&self) -> bool {
        self.held.ended.load(Ordering::Relaxed)
    }

    /// Whether it has ended, or is about to.
    pub fn is_over(&self) -> bool {
        self.has_ended() || self.held.refused.load(Ordering::Relaxed) & Refused::CUT != 0
    }

    /// Whether the stream is open, and so ends now. What libvirt says of one that has
    /// ended is better than a refusal.
    fn ending(&self) -> bool {
        let ends = self.is_open();
        self.held.ended.store(ends, Ordering::Relaxed);
        if ends {
            self.held.refused.fetch_and(Refused::CUT, Ordering::Relaxed);
            self.held.refused.fetch_or(Refused::LATE, Ordering::Relaxed);
        }
        ends
    }

    pub fn finish(&self) -> Result<(), Error> {
        if self.refuse(Refused::LATE)? && self.is_remote() {
            return self.late(|stream| stream.end_by(sys::virStreamFinish))?;
        }
        self.ending();
        self.end_by(sys::virStreamFinish)
    }

    /// Makes a call that ends it: virStreamFinish or virStreamAbort.
    fn end_by(&self, end: unsafe extern "C" fn(sys::virStreamPtr) -> c_int) -> Result<(), Error> {
        // SAFETY: the stream is alive while `self` is, which is all that the two need.
        check(self.held.sigpipe.held(|| unsafe { end(self.raw()) }))
    }

    /// Makes a call on a stream that has ended, which has an answer, or none at all. One
    /// that can't be made from another thread is not made.
    fn late<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Stream) -> T + Send + 'static,
    ) -> Result<T, Error> {
        if keeps_to_one_thread() {
            return Err(Error::closed());
        }
        self.answered(work)
    }

    /// Aborts the stream. A daemon that has lost sight of it never answers: after some
    /// seconds that is the error.
    pub fn abort(&self) -> Result<(), Error> {
        if self.refuse(Refused::LATE)? && self.is_remote() {
            return self.late(|stream| stream.end_by(sys::virStreamAbort))?;
        }
        if !self.ending() {
            return self.end_by(sys::virStreamAbort);
        }
        self.answered(|stream| stream.end_by(sys::virStreamAbort))
            .and_then(|r| r)
    }

    /// Makes a call that may wait for ever for the answer to an abort. If none comes, all
    /// other calls are refused from now on. (A local stream's callback is run by its abort, here.)
    pub(crate) fn answered<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Stream) -> T + Send + 'static,
    ) -> Result<T, Error> {
        if self.held.called_back.load(Ordering::Relaxed) && !self.is_remote() {
            return Ok(work(self));
        }
        let stream = self.clone();
        bounded(ANSWER, move || work(&stream)).ok_or_else(|| {
            // That abort is under way: another must not follow it.
            self.held.ended.store(true, Ordering::Relaxed);
            self.held.refused.fetch_or(Refused::CUT, Ordering::Relaxed);
            Error::unanswered()
        })
    }

    /// Aborts the stream, whatever comes of it, in less time yet.
    pub fn abandon(&self) {
        self.ending();
        let stream = self.clone();
        bounded(PATIENCE, move || drop(stream.end_by(sys::virStreamAbort)));
        self.held.ended.store(true, Ordering::Relaxed);
    }

    /// Aborts the stream while a call on it is under way on another thread. That
    /// may take its time: all other calls are refused from now on.
    pub fn cut(&self) {
        self.held.refused.fetch_or(Refused::CUT, Ordering::Relaxed);
        // A daemon confirms every end, and libvirt's client takes the first confirmation for
        // all of them. It closes the connection over another one that finds no call waiting.
        if self.has_ended() && self.is_remote() {
            return;
        }
        self.ending();
        // An error has nobody to go to: the stream ends with one already.
        let _ = self.end_by(sys::virStreamAbort);
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

    /// Refuses a call in one direction, if there is a reason to. True where it has to
    /// be made with care (`Refused::LATE`), and that was asked for.
    fn refuse(&self, direction: u8) -> Result<bool, Error> {
        match self.held.refused.load(Ordering::Relaxed) & (direction | Refused::CUT) {
            0 => Ok(false),
            Refused::LATE => Ok(true),
            Refused::RECV => Err(Error::one_way("read from")),
            Refused::SEND => Err(Error::one_way("write to")),
            _ => Err(Error::closed()),
        }
    }

    /// Whether another call has opened it. (A call that every open stream has
    /// another error for, and that changes nothing without a callback.)
    fn is_open(&self) -> bool {
        if self.held.opened.load(Ordering::Relaxed)
            || self.has_ended()
            || self.held.called_back.load(Ordering::Relaxed)
        {
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
