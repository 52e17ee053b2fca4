//! Plain calls: method(object, data, nbytes, flags = 0) with arguments that are
//! what they look like, which is how such methods are nearly always called.
//!
//! C has looked at each argument once, and no Perl code runs until the method
//! has returned, so the data's own buffer can be used.

use crate::barrier::caught;
use crate::object::attached_as;
use crate::table::answer;
use crate::{Error, Perl};
use perl_sys as sys;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::os::raw::c_longlong;
use std::rc::Rc;
use std::{ptr, slice};

/// A plain call's arguments, of a method that fills its data or one that reads it.
pub struct Plain<'a, const FILLS: bool>(&'a sys::Plain);

/// The code behind a plain call. A panic in it is an exception.
pub trait PlainCall<const FILLS: bool> {
    /// How many bytes it filled or used, or what else the method returns. None:
    /// the call is not for this function, but for the method's ordinary one.
    fn call(perl: &Perl, call: Plain<'_, FILLS>) -> Option<Result<i64, Error>>;
}

impl<const FILLS: bool> Plain<'_, FILLS> {
    /// What hangs on the object, if it is a `T`: a count of it.
    pub fn object<T: 'static>(&self) -> Option<Rc<T>> {
        // SAFETY: C found it on the object, which the call keeps, and it is borrowed for
        // this line only.
        unsafe { attached_as(self.0.attached).map(Rc::clone) }
    }

    /// Cut off as C does.
    pub fn flags(&self) -> u32 {
        self.0.flags as u32
    }
}

impl Plain<'_, true> {
    /// The room to be filled. What is returned as filled becomes the scalar's value.
    pub fn space(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: C made room for `len` bytes (the shape is in the type), and
        // nobody else writes meanwhile.
        unsafe { slice::from_raw_parts_mut(self.0.start as *mut MaybeUninit<u8>, self.0.len) }
    }
}

impl Plain<'_, false> {
    /// The bytes to be read.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the string has `len` bytes, and nobody writes meanwhile.
        unsafe { slice::from_raw_parts(self.0.start as *const u8, self.0.len) }
    }
}

/// Runs a method's plain code for C, as `table::enter` does its ordinary one.
///
/// # Safety
/// Called by plx_call_plain only: the running interpreter, what it has found of a
/// call of that shape, and an answer to be filled in, which says PLX_PASS. No Perl
/// code runs before it returns.
pub unsafe extern "C" fn enter<C: PlainCall<FILLS>, const FILLS: bool>(
    raw: *mut c_void,
    call: *const sys::Plain,
    out: *mut sys::Answer,
) -> c_longlong {
    // SAFETY: as the caller promises. Without a frame no job could raise anything, but
    // a plain call has no `&mut Perl` to run one with.
    let (perl, call) = unsafe { (Perl::from_raw(raw, ptr::null_mut()), &*call) };
    match caught(|| Ok(C::call(&perl, Plain(call)))) {
        // More than there was room for is no length that C may believe.
        Ok(Some(Ok(n))) => return n.min(call.len as i64),
        // SAFETY: `out` is the caller's, to be filled in.
        Ok(Some(Err(error))) | Err(error) => unsafe { *out = answer(&perl, Err(error)) },
        Ok(None) => {} // the answer says PLX_PASS as it stands
    }
    sys::NO_COUNT
}
