//! Scalars made for handlers: one serves all calls, as long as no handler keeps it.

use crate::{Arg, Bytes, Error, Perl, Quiet, Sv};
use perl_sys as sys;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::raw::c_char;
use std::sync::Once;
use std::{ptr, slice};

fn new_scratch(perl: &Perl) -> Sv {
    // SAFETY: the running interpreter; the new scalar's count becomes ours.
    unsafe { Sv::owned(perl, sys::plx_new_scratch(perl.raw())) }
}

/// An empty scalar for a handler to fill.
pub struct Scratch {
    sv: Sv,
    /// The buffer it had when the handler was called.
    buffer: *const c_char,
}

impl Scratch {
    /// A new one, which owns its scalar.
    pub fn new(perl: &Perl) -> Scratch {
        static SETTLED: Once = Once::new();
        // SAFETY: allocates and frees, nothing else.
        SETTLED.call_once(|| unsafe { sys::plx_settle_heap() });
        Scratch {
            sv: new_scratch(perl),
            buffer: ptr::null(),
        }
    }

    /// The scalar, empty: the last one again, or a new one where the handler
    /// kept a reference to that or made it something else.
    pub fn empty(&mut self, perl: &mut Perl) -> Result<Arg<'_>, Error> {
        self.set(perl, b"")?;
        // SAFETY: we hold a count of the scalar.
        self.buffer = unsafe { sys::plx_scratch_buffer(self.sv.raw()) };
        Ok(self.sv.as_arg())
    }

    /// What the handler put in it has been used. A buffer that came with it goes
    /// now: the handler will bring another, and should find the room. One that
    /// was filled in place stays.
    pub fn used(&mut self, perl: &Perl) {
        // SAFETY: we hold a count of the scalar.
        unsafe {
            if sys::plx_scratch_buffer(self.sv.raw()) != self.buffer
                && sys::plx_scratch_pristine(self.sv.raw()) != 0
            {
                sys::plx_scratch_drop(perl.raw(), self.sv.raw());
            }
        }
    }

    fn set(&mut self, perl: &mut Perl, bytes: &[u8]) -> Result<(), Error> {
        self.renew(perl)?;
        let start = bytes.as_ptr() as *const c_char;
        // SAFETY: the scalar is ours alone, and an ordinary one (renew).
        unsafe { sys::plx_scratch_set(perl.raw(), self.sv.raw(), start, bytes.len()) }
        Ok(())
    }

    fn renew(&mut self, perl: &mut Perl) -> Result<(), Error> {
        // SAFETY: we hold a count of the scalar.
        if unsafe { sys::plx_scratch_pristine(self.sv.raw()) } == 0 {
            let old = std::mem::replace(&mut self.sv, new_scratch(perl));
            // It goes now, not at the end of the statement, since there may be millions.
            old.release(perl)?;
        }
        Ok(())
    }

    /// What the handler put in it, where that can be had without running Perl
    /// code. Nobody can change it while no Perl code runs.
    pub fn plain_bytes<'p>(&'p self, quiet: &Quiet<'p>) -> Option<&'p [u8]> {
        self.sv.as_arg().plain_bytes(quiet)
    }

    /// A copy of what the handler put in it; see [`Arg::bytes`].
    pub fn bytes(&self, perl: &mut Perl, what: &CStr) -> Result<Option<Bytes>, Error> {
        self.sv.as_arg().bytes(perl, what)
    }
}

/// No buffer is larger.
const MOST: usize = isize::MAX as usize / 2;

/// A chunk of received data, and the scalar through which a handler sees it.
///
/// The handler's scalar shares the chunk's buffer until either is written to,
/// so that nothing is copied and nothing a handler does reaches the chunk.
pub struct Chunk {
    data: Sv,
    room: usize,
    len: usize,
    shown: Scratch,
}

impl Chunk {
    /// A new one without room, which owns both scalars.
    pub fn new(perl: &Perl) -> Chunk {
        Chunk {
            data: new_scratch(perl),
            room: 0,
            len: 0,
            shown: Scratch::new(perl),
        }
    }

    /// A buffer of `cap` bytes to receive into; None where memory is out.
    pub fn room(
        &mut self,
        perl: &mut Perl,
        cap: usize,
    ) -> Result<Option<&mut [MaybeUninit<u8>]>, Error> {
        self.shown.empty(perl)?; // gives back its share of the buffer
        self.len = 0;
        // SAFETY: `data` is ours alone; no handler ever sees it.
        unsafe {
            let start = match cap {
                0..=MOST => sys::plx_scratch_room(perl.raw(), self.data.raw(), cap),
                _ => ptr::null_mut(),
            };
            let start = start as *mut MaybeUninit<u8>;
            self.room = if start.is_null() { 0 } else { cap };
            Ok((!start.is_null()).then(|| slice::from_raw_parts_mut(start, cap)))
        }
    }

    /// The first `len` bytes of the room have been received. (It panics where the room
    /// has fewer.)
    pub fn filled(&mut self, len: usize) {
        assert!(
            len <= self.room,
            "{} bytes in a room for {}",
            len,
            self.room
        );
        self.len = len;
        // SAFETY: `data` is ours alone, with room for more than `len` bytes (room).
        unsafe { sys::plx_scratch_filled(self.data.raw(), len) }
    }

    /// The chunk's bytes from `offset` on, in a scalar for a handler. (It panics where there are
    /// fewer.)
    pub fn from(&mut self, perl: &mut Perl, offset: usize) -> Result<Arg<'_>, Error> {
        if offset == 0 {
            self.shown.renew(perl)?;
            // SAFETY: both scalars are ours, and ordinary ones.
            unsafe { sys::plx_scratch_share(perl.raw(), self.shown.sv.raw(), self.data.raw()) }
        } else {
            let mut len = 0;
            // SAFETY: `data` is a plain string of `self.len` bytes (filled).
            let bytes = unsafe {
                let start = sys::plx_plain_bytes(self.data.raw(), &mut len);
                slice::from_raw_parts(start as *const u8, self.len)
            };
            self.shown.set(perl, &bytes[offset..])?;
        }
        Ok(self.shown.sv.as_arg())
    }
}
