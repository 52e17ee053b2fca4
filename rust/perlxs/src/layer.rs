//! Filehandles that Rust stands behind.

use crate::barrier::caught;
use crate::object::attached_as;
use crate::table::answer;
use crate::{Arg, Attach, Error, Object, Perl, Sv};
use perl_sys as sys;
use std::ffi::c_void;
use std::os::raw::{c_char, c_int, c_longlong};
use std::rc::Rc;
use std::slice;

/// Why a handle does not do what it was asked for.
pub enum Refused {
    /// It is closed, for the other direction, or another process's or thread's.
    Closed,
    /// What it stands for has failed with this; the operator that asked sets `$!`.
    Failed(Sv),
    /// Perl code has thrown something, which goes on.
    Thrown(Error),
}

/// What a filehandle reads from and writes to. It is attached to an object, of which the handle
/// holds a count. A panic in it is an exception.
pub trait Layer: Attach {
    /// Receives about `most` bytes: some, or none at the end.
    fn fill(&self, perl: &mut Perl, most: usize) -> Result<Vec<u8>, Refused>;
    /// Sends all of `bytes`.
    fn drain(&self, perl: &mut Perl, bytes: &[u8]) -> Result<(), Refused>;
    /// All is sent.
    fn finish(&self, perl: &mut Perl) -> Result<(), Refused>;
    /// Ends it, finished or not.
    fn abandon(&self, perl: &mut Perl) -> Result<(), Refused>;
    /// Whether bytes that were printed may wait for more.
    fn keeps(&self) -> bool;
}

impl Perl {
    /// Makes a glob a filehandle of the `T` that is attached to `object`, a reference.
    /// Dropped, the handle gives up its count of that.
    pub fn open_layer<T: Layer>(&self, glob: Arg<'_>, object: Sv) -> Result<(), Error> {
        // SAFETY: the running interpreter; C looks at what it is given.
        match unsafe { sys::plx_layer_open(self.raw(), glob.raw(), object.raw(), entry::<T>) } {
            0 => Err(Error::message("a handle needs a glob, and an object")),
            _ => Ok(()),
        }
    }
}

/// Does what C's layer asks for.
///
/// # Safety
/// Called by layer.c only: the running interpreter, which nobody else uses meanwhile, a
/// frame, the layer, the object that it was opened with, `len` bytes at `start` that are the
/// caller's own, and an answer to be filled in. Only the layer and the object for KEEPS.
unsafe extern "C" fn entry<T: Layer>(
    raw: *mut c_void,
    frame: *mut sys::Frame,
    layer: *mut sys::Layer,
    object: *mut sys::Sv,
    call: c_int,
    start: *mut c_char,
    len: usize,
    out: *mut sys::Answer,
) -> c_longlong {
    if call == sys::KEEPS {
        // SAFETY: the object is there, though it may be going, and is borrowed for this line only.
        let handle = unsafe { attached_as::<T>(sys::plx_get_attached(object)) }.map(Rc::clone);
        let keeps = || Ok(handle.map_or(false, |handle| handle.keeps()));
        return caught(keeps).unwrap_or(false).into();
    }
    // SAFETY: as the caller promises.
    let perl = &mut unsafe { Perl::from_raw(raw, frame) };
    // SAFETY: as above.
    let object = unsafe { Object::from_raw(perl, object) };
    let work = |perl: &mut Perl, handle: Rc<T>| {
        match call {
            sys::FILL => {
                let bytes = handle.fill(perl, len)?;
                let from = bytes.as_ptr() as *const c_char;
                // SAFETY: C keeps the layer until we have returned, and copies the bytes.
                unsafe { sys::plx_layer_put(layer, from, bytes.len()) };
                return Ok(bytes.len());
            }
            sys::DRAIN => {
                // SAFETY: as the caller promises: no Perl code reaches them.
                let bytes = unsafe { slice::from_raw_parts(start as *const u8, len) };
                handle.drain(perl, bytes)?;
            }
            sys::FINISH => handle.finish(perl)?,
            _ => handle.abandon(perl)?,
        }
        Ok(0)
    };
    let done = caught(|| match object.attached::<T>() {
        Some(handle) => Ok(work(perl, handle)),
        None => Ok(Err(Refused::Closed)), // in another thread
    });
    let (count, error) = match done.unwrap_or_else(|panic| Err(Refused::Thrown(panic))) {
        Ok(count) => return count as c_longlong,
        Err(Refused::Closed) => return sys::FAILED,
        Err(Refused::Failed(error)) => (sys::FAILED, Error::Object(error)),
        Err(Refused::Thrown(error)) => (sys::NO_COUNT, error),
    };
    // SAFETY: `out` is the caller's, to be filled in.
    unsafe { *out = answer(perl, Err(error)) };
    count
}
