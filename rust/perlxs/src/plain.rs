//! Plain calls: method(object, data, nbytes, flags = 0) with arguments that are
//! what they look like, which is how such methods are nearly always called.
//!
//! C has looked at each argument once, and no Perl code runs until the method
//! has returned, so the data's own buffer can be used.

use crate::object::attached_as;
use crate::table::{answer, caught};
use crate::{Answer, Error, Perl};
use perl_sys as sys;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::slice;

/// A plain call's arguments.
pub struct Plain<'a> {
    raw: &'a sys::Plain,
    shape: sys::Shape,
}

/// The code behind a plain call.
pub trait PlainCall {
    /// How many bytes it filled or used, or what else the method returns. None:
    /// the call is not for this function, but for the method's ordinary one.
    fn call(perl: &Perl, call: Plain<'_>) -> Option<Result<i64, Error>>;
}

/// How C reaches it: `plx_method.plain`.
pub type PlainEntry =
    unsafe extern "C" fn(*mut c_void, *const sys::Plain, sys::Shape, *mut sys::Answer);

impl<'a> Plain<'a> {
    /// What hangs on the object, if it is a `T`.
    pub fn object<T: 'static>(&self) -> Option<&'a T> {
        // SAFETY: C found it on the object, which the call keeps; only Perl code
        // could take it off.
        unsafe { attached_as(self.raw.attached) }
    }

    pub fn flags(&self) -> u32 {
        self.raw.flags as u32
    }

    /// The room to be filled, in a method that fills. What is returned as filled
    /// becomes the scalar's value.
    pub fn space(&mut self) -> &mut [MaybeUninit<u8>] {
        assert_eq!(self.shape, sys::Shape::Fills);
        // SAFETY: C made room for `len` bytes, and nobody else writes meanwhile.
        unsafe { slice::from_raw_parts_mut(self.raw.start as *mut MaybeUninit<u8>, self.raw.len) }
    }

    /// The bytes to be read, in a method that reads.
    pub fn bytes(&self) -> &[u8] {
        assert_eq!(self.shape, sys::Shape::Reads);
        // SAFETY: the string has `len` bytes, and nobody writes meanwhile.
        unsafe { slice::from_raw_parts(self.raw.start as *const u8, self.raw.len) }
    }
}

/// Runs a method's plain code for C, as plx_enter does its ordinary one.
///
/// # Safety
/// Called by plx_dispatch only: the running interpreter, a call of that shape as
/// plx_take_plain has found it, and an answer to be filled in. No Perl code runs
/// before it returns.
pub unsafe extern "C" fn enter<C: PlainCall>(
    raw: *mut c_void,
    call: *const sys::Plain,
    shape: sys::Shape,
    out: *mut sys::Answer,
) {
    // SAFETY: as the caller promises.
    let (perl, call) = unsafe { (Perl::from_raw(raw), &*call) };
    let result = match caught(|| Ok(C::call(&perl, Plain { raw: call, shape }))) {
        // More than there was room for is no length that C may believe.
        Ok(Some(Ok(n))) => Ok(Answer::Int(n.min(call.len as i64))),
        Ok(Some(Err(error))) | Err(error) => Err(error),
        Ok(None) => return, // the answer says PLX_PASS as it stands
    };
    // SAFETY: `out` is the caller's, to be filled in.
    unsafe { *out = answer(&perl, result) };
}
