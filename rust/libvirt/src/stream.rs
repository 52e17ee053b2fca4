//! A stream's calls, each as libvirt has it.

use crate::ends::Ends;
use crate::identity::{Connection, Identified};
use crate::reference::{Reference, Taken};
use crate::Error;
use std::mem::MaybeUninit;
use std::os::raw::{c_char, c_int};
use std::ptr;
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
    ONCE.call_once(|| {
        // SAFETY: no conditions. Where it fails, the calls that need it say so.
        let _ = unsafe { sys::virInitialize() };
    });
}

/// Which ways the data of an open stream goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ways {
    pub receives: bool,
    pub sends: bool,
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

/// A stream of libvirt's. Clones are the same stream; any thread may call it.
#[derive(Clone)]
pub struct Stream(pub(crate) Arc<Reference>);

impl Stream {
    /// A new stream of `connection`.
    pub fn new(connection: Option<Connection>, flags: u32) -> Result<(Stream, Taken), Error> {
        ready();
        let conn = connection.map_or(ptr::null_mut(), |c| c.into_ptr());
        // SAFETY: a live connection, or NULL, which libvirt refuses.
        let raw = unsafe { sys::virStreamNew(conn, flags) };
        match ptr::NonNull::new(raw) {
            Some(raw) => Ok(Stream::of(raw, connection)),
            None => Err(Error::last()),
        }
    }

    /// Takes over the stream at `address`, if there is one. Where this thread has another
    /// object made of it, this one takes a reference of its own instead.
    pub fn adopt(address: isize) -> Option<(Stream, Taken)> {
        ready();
        let raw = Identified::<sys::_virStream>::at(address)?;
        if Taken::is(address as usize) {
            // SAFETY: known to be a live stream.
            unsafe { sys::virStreamRef(raw.into_ptr()) };
        }
        ptr::NonNull::new(raw.into_ptr()).map(|raw| Stream::of(raw, None))
    }

    fn of(raw: ptr::NonNull<sys::_virStream>, connection: Option<Connection>) -> (Stream, Taken) {
        let taken = Taken::new(raw.as_ptr() as usize);
        (Stream(Arc::new(Reference::new(raw, connection))), taken)
    }

    /// What a Perl object has in its slot.
    pub fn address(&self) -> isize {
        self.raw() as isize
    }

    pub(crate) fn raw(&self) -> sys::virStreamPtr {
        self.0.raw.as_ptr()
    }

    /// Whether a fork has left the stream to the parent process.
    pub fn is_inherited(&self) -> bool {
        self.0.is_inherited()
    }

    /// Whether a daemon is behind the open stream. Only its driver takes flags for receiving,
    /// and refuses an unknown one as an invalid argument.
    pub fn is_remote(&self) -> bool {
        let no_such_flag = 1 << 31;
        let tried = self.recv(&mut [], no_such_flag);
        matches!(tried, Err(e) if e.code == sys::VIR_ERR_INVALID_ARG as i32)
    }

    /// Whether its connection is known to be lost. No daemon is asked; false in a forked child.
    pub fn is_cut_off(&self) -> bool {
        // SAFETY: libvirt's stream, which lives while `self` does, holds its connection.
        let is_lost =
            |connection: Connection| unsafe { sys::virConnectIsAlive(connection.into_ptr()) == 0 };
        !self.is_inherited() && self.0.connection.map_or(false, is_lost)
    }

    /// Whether some call has opened it. The call that is tried fails without a callback, and
    /// changes nothing; on a stream that is not open it is unsupported.
    pub fn is_opened(&self) -> bool {
        !matches!(self.update_callback(0), Err(e) if e.is_unsupported())
    }

    /// virStreamRecv, or virStreamRecvFlags where there are flags.
    pub fn recv(&self, space: &mut [MaybeUninit<u8>], flags: u32) -> Result<Received, Error> {
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
            got if got < 0 => Err(Error::last()),
            got => Ok(Received::Data(got as usize)),
        }
    }

    /// Receives at most `want` bytes, behind what `buffer` holds.
    pub fn recv_onto(
        &self,
        buffer: &mut Vec<u8>,
        want: usize,
        flags: u32,
    ) -> Result<Received, Error> {
        let len = buffer.len();
        buffer.try_reserve(want).map_err(|_| Error::memory(want))?;
        let got = self.recv(&mut buffer.spare_capacity_mut()[..want], flags)?;
        if let Received::Data(more) = got {
            // SAFETY: libvirt has written so many bytes more.
            unsafe { buffer.set_len(len + more) };
        }
        Ok(got)
    }

    /// The same for a caller who wants much, in few pieces: it goes on after a full packet,
    /// for the rest of its block, and after each whole block. `buffer` is empty.
    pub fn recv_blocks(
        &self,
        buffer: &mut Vec<u8>,
        want: usize,
        flags: u32,
    ) -> Result<Received, Error> {
        let mut got = self.recv_onto(buffer, want, flags)?;
        while let Received::Data(last) = got {
            let len = buffer.len();
            if len == want || last == 0 || (last != CHUNK && len % BLOCK != 0) {
                break;
            }
            got = self.recv_onto(buffer, want - len, flags)?;
        }
        // Where data has come, the next call says again what has ended the loop.
        Ok(match buffer.len() {
            0 => got,
            len => Received::Data(len),
        })
    }

    /// virStreamSend.
    #[inline(always)]
    pub fn send(&self, bytes: &[u8]) -> Result<Sent, Error> {
        let start = bytes.as_ptr() as *const c_char;
        // SAFETY: the stream is alive while `self` is.
        let send = || unsafe { sys::virStreamSend(self.raw(), start, bytes.len()) };
        match self.0.sigpipe.held(send) {
            -2 => Ok(Sent::WouldBlock),
            sent if sent < 0 => Err(Error::last()),
            sent => Ok(Sent::Data(sent as usize)),
        }
    }

    /// virStreamRecvHole: the length of the hole that the stream is at.
    pub fn recv_hole(&self, flags: u32) -> Result<i64, Error> {
        let mut length = 0;
        // SAFETY: the stream is alive while `self` is.
        let rc = unsafe { sys::virStreamRecvHole(self.raw(), &mut length, flags) };
        check(rc).map(|()| length)
    }

    /// virStreamSendHole. The length is greater than 0, or the stream not open: a daemon
    /// that is sent another may never answer again.
    pub fn send_hole(&self, length: i64, flags: u32) -> Result<(), Error> {
        // SAFETY: `held` hands over a live stream.
        self.held(|raw| unsafe { sys::virStreamSendHole(raw, length, flags) })
    }

    /// virStreamFinish.
    pub fn finish(&self) -> Result<(), Error> {
        let _ends = Ends::begin();
        // SAFETY: `held` hands over a live stream.
        self.held(|raw| unsafe { sys::virStreamFinish(raw) })
    }

    /// virStreamAbort.
    pub fn abort(&self) -> Result<(), Error> {
        let _ends = Ends::begin();
        // SAFETY: `held` hands over a live stream.
        self.held(|raw| unsafe { sys::virStreamAbort(raw) })
    }

    /// Makes a call with SIGPIPE held back, on the stream, which is alive while `self` is.
    fn held(&self, call: impl FnOnce(sys::virStreamPtr) -> c_int) -> Result<(), Error> {
        check(self.0.sigpipe.held(|| call(self.raw())))
    }

    /// Makes a short call on the connection, whose result is of no use: see `Nudges`.
    pub(crate) fn nudge(&self) {
        if let Some(connection) = self.0.connection {
            let mut version = 0;
            // SAFETY: the connection lives as long as its stream. The result is ignored.
            unsafe { sys::virConnectGetLibVersion(connection.into_ptr(), &mut version) };
        }
    }
}

pub(crate) fn check(rc: c_int) -> Result<(), Error> {
    if rc < 0 {
        Err(Error::last())
    } else {
        Ok(())
    }
}
