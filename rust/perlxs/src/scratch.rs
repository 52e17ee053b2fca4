//! Scalars made for handlers: one serves all calls, as long as no handler keeps it.

use crate::{Arg, Bytes, Error, Perl, Quiet, Sv};
use perl_sys as sys;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::raw::c_char;
use std::slice;

fn new_scratch(perl: &Perl) -> Sv {
    // SAFETY: the running interpreter; the new scalar's count becomes ours.
    unsafe { Sv::owned(perl, sys::plx_new_scratch(perl.raw())) }
}

/// An empty scalar for a handler to fill.
pub struct Scratch(Sv);

impl Scratch {
    pub fn new(perl: &Perl) -> Scratch {
        Scratch(new_scratch(perl))
    }

    /// The scalar, empty: the last one again, or a new one where the handler
    /// kept a reference to that or made it something else.
    pub fn empty(&mut self, perl: &Perl) -> Arg<'_> {
        self.set(perl, b"");
        self.0.as_arg()
    }

    fn set(&mut self, perl: &Perl, bytes: &[u8]) {
        self.renew(perl);
        let start = bytes.as_ptr() as *const c_char;
        // SAFETY: the scalar is ours alone, and an ordinary one (renew).
        unsafe { sys::plx_scratch_set(perl.raw(), self.0.raw(), start, bytes.len()) }
    }

    fn renew(&mut self, perl: &Perl) {
        // SAFETY: we hold a count of the scalar.
        if unsafe { sys::plx_scratch_pristine(self.0.raw()) } == 0 {
            self.0 = new_scratch(perl);
        }
    }

    /// What the handler put in it, where that can be had without running Perl
    /// code. Nobody can change it while no Perl code runs.
    pub fn plain_bytes<'p>(&'p self, quiet: &Quiet<'p>) -> Option<&'p [u8]> {
        self.0.as_arg().plain_bytes(quiet)
    }

    /// A copy of what the handler put in it; see [`Arg::bytes`].
    pub fn bytes(&self, perl: &mut Perl, what: &CStr) -> Result<Option<Bytes>, Error> {
        self.0.as_arg().bytes(perl, what)
    }
}

/// A chunk of received data, and the scalar through which a handler sees it.
///
/// The handler's scalar shares the chunk's buffer until either is written to,
/// so that nothing is copied and nothing a handler does reaches the chunk.
pub struct Chunk {
    data: Sv,
    len: usize,
    shown: Scratch,
}

impl Chunk {
    pub fn new(perl: &Perl) -> Chunk {
        Chunk {
            data: new_scratch(perl),
            len: 0,
            shown: Scratch::new(perl),
        }
    }

    /// A buffer of `cap` bytes to receive into; None where memory is out.
    pub fn room(&mut self, perl: &Perl, cap: usize) -> Option<&mut [MaybeUninit<u8>]> {
        self.shown.empty(perl); // gives back its share of the buffer
        self.len = 0;
        // SAFETY: `data` is ours alone; no handler ever sees it.
        unsafe {
            let start = sys::plx_scratch_room(perl.raw(), self.data.raw(), cap);
            if start.is_null() {
                None
            } else {
                Some(slice::from_raw_parts_mut(
                    start as *mut MaybeUninit<u8>,
                    cap,
                ))
            }
        }
    }

    /// The first `len` bytes of the room have been received.
    pub fn filled(&mut self, len: usize) {
        self.len = len;
        // SAFETY: `data` is ours alone, with room for more than `len` bytes.
        unsafe { sys::plx_scratch_filled(self.data.raw(), len) }
    }

    /// Holds a copy of `bytes`, received elsewhere.
    pub fn set(&mut self, perl: &Perl, bytes: &[u8]) {
        let start = bytes.as_ptr() as *const c_char;
        self.len = bytes.len();
        // SAFETY: `data` is ours alone.
        unsafe { sys::plx_scratch_set(perl.raw(), self.data.raw(), start, bytes.len()) }
    }

    /// The chunk's bytes from `offset` on, in a scalar for a handler.
    pub fn from(&mut self, perl: &Perl, offset: usize) -> Arg<'_> {
        if offset == 0 {
            self.shown.renew(perl);
            // SAFETY: both scalars are ours, and ordinary ones.
            unsafe { sys::plx_scratch_share(perl.raw(), self.shown.0.raw(), self.data.raw()) }
        } else {
            let mut len = 0;
            // SAFETY: `data` is a plain string of `self.len` bytes (filled).
            let bytes = unsafe {
                let start = sys::plx_plain_bytes(self.data.raw(), &mut len);
                slice::from_raw_parts(start as *const u8, self.len)
            };
            self.shown.set(perl, &bytes[offset..]);
        }
        self.shown.0.as_arg()
    }
}
