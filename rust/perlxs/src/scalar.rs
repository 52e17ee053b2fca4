//! Scalars: owned counts, borrowed arguments, and the bytes in them.

use crate::perl::Job;
use crate::{Error, Perl, Quiet};
use perl_sys as sys;
use std::ffi::{c_void, CStr};
use std::marker::PhantomData;
use std::os::raw::c_char;
use std::{ptr, slice};

/// A reference count of a scalar; Drop gives it back.
pub struct Sv {
    perl: *mut c_void,
    raw: *mut sys::Sv,
}

impl Sv {
    /// # Safety
    /// `raw` is a live scalar of `perl`, and the caller gives up one count of it.
    pub(crate) unsafe fn owned(perl: &Perl, raw: *mut sys::Sv) -> Sv {
        Sv {
            perl: perl.raw(),
            raw,
        }
    }

    pub(crate) fn raw(&self) -> *mut sys::Sv {
        self.raw
    }

    /// Gives the count to the caller.
    pub(crate) fn into_raw(self) -> *mut sys::Sv {
        let raw = self.raw;
        std::mem::forget(self);
        raw
    }

    /// A new integer.
    pub fn int(perl: &Perl, value: i64) -> Sv {
        // SAFETY: the running interpreter; the new scalar's count becomes ours.
        unsafe { Sv::owned(perl, sys::plx_new_integer(perl.raw(), value)) }
    }

    /// A new number that need not be whole.
    pub fn number(perl: &Perl, value: f64) -> Sv {
        // SAFETY: as in `int`.
        unsafe { Sv::owned(perl, sys::plx_new_number(perl.raw(), value)) }
    }

    /// A new undefined value.
    pub fn undef(perl: &Perl) -> Sv {
        // SAFETY: as in `int`.
        unsafe { Sv::owned(perl, sys::plx_new_undef(perl.raw())) }
    }

    /// A new string of bytes. It panics where there is no memory for more than a MiB of them.
    pub fn bytes(perl: &Perl, bytes: &[u8]) -> Sv {
        Sv::copied(perl, bytes).expect("no memory for a string")
    }

    /// A new string of bytes, however many; None where memory is out.
    pub fn copied(perl: &Perl, bytes: &[u8]) -> Option<Sv> {
        let start = bytes.as_ptr() as *const c_char;
        // SAFETY: as in `int`; Perl copies the bytes.
        unsafe {
            let made = sys::plx_new_bytes(perl.raw(), start, bytes.len());
            (!made.is_null()).then(|| Sv::owned(perl, made))
        }
    }

    /// A reference to a new hash, blessed into `class` where there is one.
    pub fn hash(perl: &Perl, class: Option<&CStr>, fields: Vec<(&str, Sv)>) -> Sv {
        let class = class.map_or(ptr::null(), CStr::as_ptr);
        // SAFETY: as in `int`; plx_hash_set takes each value's count over.
        unsafe {
            let hash = Sv::owned(perl, sys::plx_new_hash(perl.raw(), class));
            for (key, value) in fields {
                let start = key.as_ptr() as *const c_char;
                sys::plx_hash_set(perl.raw(), hash.raw, start, key.len(), value.into_raw());
            }
            hash
        }
    }

    /// Gives the count back now: what code that runs may throw is the error.
    pub fn release(self, perl: &mut Perl) -> Result<(), Error> {
        let mut job = Job::new(perl);
        job.raw.sv = self.into_raw();
        job.run(sys::plx_do_release)
    }

    /// The scalar as an argument; the count stays here.
    pub fn as_arg(&self) -> Arg<'_> {
        Arg {
            raw: self.raw,
            life: PhantomData,
        }
    }
}

impl Drop for Sv {
    fn drop(&mut self) {
        // SAFETY: the count is ours (`owned`), and `perl` still runs: a value of this type
        // belongs to a call, to an object, or to a registration, which does not drop it
        // when its thread ends.
        unsafe { sys::plx_dec(self.perl, self.raw) }
    }
}

/// A scalar that somebody else keeps alive for `'a`. Whoever wants it for longer takes a count of
/// its own by [`keep`](Arg::keep).
#[derive(Clone, Copy)]
pub struct Arg<'a> {
    raw: *mut sys::Sv,
    life: PhantomData<&'a ()>,
}

impl<'a> Arg<'a> {
    /// # Safety
    /// `raw` is a live scalar of the running interpreter for `'a`.
    pub(crate) unsafe fn from_raw(raw: *mut sys::Sv) -> Arg<'a> {
        Arg {
            raw,
            life: PhantomData,
        }
    }

    pub(crate) fn raw(self) -> *mut sys::Sv {
        self.raw
    }

    /// A count of its own of the same scalar.
    pub fn keep(self, perl: &Perl) -> Sv {
        // SAFETY: the scalar is alive for 'a.
        unsafe { Sv::owned(perl, sys::plx_inc(self.raw)) }
    }

    /// A new scalar with the same value.
    pub fn copy(self, perl: &mut Perl) -> Result<Sv, Error> {
        self.get_magic(perl)?;
        // SAFETY: the scalar is alive for 'a; its magic has been seen to.
        Ok(unsafe { Sv::owned(perl, sys::plx_new_copy(perl.raw(), self.raw)) })
    }

    /// Whether the scalar may not be written to.
    pub fn is_readonly(self) -> bool {
        // SAFETY: the scalar is alive for 'a.
        unsafe { sys::plx_readonly(self.raw) != 0 }
    }

    pub(crate) fn is_magical(self) -> bool {
        // SAFETY: the scalar is alive for 'a.
        unsafe { sys::plx_magical(self.raw) != 0 }
    }

    fn job<'p>(self, perl: &'p mut Perl) -> Job<'p> {
        let mut job = Job::new(perl);
        job.raw.sv = self.raw;
        job
    }

    /// Reads a tied or otherwise magical scalar, once.
    pub(crate) fn get_magic(self, perl: &mut Perl) -> Result<(), Error> {
        if !self.is_magical() {
            return Ok(());
        }
        self.job(perl).run(sys::plx_do_get)
    }

    /// The value as Perl's unsigned integer.
    pub fn uv(self, perl: &mut Perl) -> Result<u64, Error> {
        if let Some(uv) = self.plain_uv() {
            return Ok(uv);
        }
        let mut job = self.job(perl);
        job.run(sys::plx_do_uv)?;
        Ok(job.raw.uv)
    }

    /// The same, where that needs no Perl code.
    pub fn plain_uv(self) -> Option<u64> {
        let mut uv = 0;
        // SAFETY: the scalar is alive for 'a.
        let plain = unsafe { sys::plx_plain_uv(self.raw, &mut uv) } != 0;
        plain.then_some(uv)
    }

    /// The value as a C `int`, cut off as C does.
    pub fn int(self, perl: &mut Perl) -> Result<i32, Error> {
        let mut job = self.job(perl);
        job.run(sys::plx_do_iv)?;
        Ok(job.raw.iv[0] as i32)
    }

    /// The value as a 64-bit integer, also where Perl's own are shorter.
    pub fn integer(self, perl: &mut Perl) -> Result<i64, Error> {
        let mut job = self.job(perl);
        job.run(sys::plx_do_integer)?;
        Ok(job.raw.iv[0])
    }

    /// The value as a number: None for undef, the inner None where it is none.
    pub fn number(self, perl: &mut Perl) -> Result<Option<Option<f64>>, Error> {
        let mut job = self.job(perl);
        job.run(sys::plx_do_nv)?;
        let number = (job.raw.count != 0).then_some(job.raw.nv);
        Ok((job.raw.defined != 0).then_some(number))
    }

    /// Whether the value is true.
    pub fn truth(self, perl: &mut Perl) -> Result<bool, Error> {
        let mut job = self.job(perl);
        job.run(sys::plx_do_truth)?;
        Ok(job.raw.count != 0)
    }

    /// Whether the value can be called as code; None for undef.
    pub fn is_code(self, perl: &mut Perl) -> Result<Option<bool>, Error> {
        let mut job = self.job(perl);
        job.run(sys::plx_do_code)?;
        Ok((job.raw.defined != 0).then_some(job.raw.count != 0))
    }

    /// The string's bytes, where they can be had without running Perl code.
    pub fn plain_bytes<'p>(self, _quiet: &Quiet<'p>) -> Option<&'p [u8]>
    where
        'a: 'p,
    {
        let mut len = 0;
        // SAFETY: the scalar is alive for 'a; its buffer stays as it is for 'p,
        // since only Perl code could change it.
        unsafe {
            let start = sys::plx_plain_bytes(self.raw, &mut len);
            if start.is_null() {
                None
            } else {
                Some(slice::from_raw_parts(start as *const u8, len))
            }
        }
    }

    /// The string's bytes in a scalar of their own; None for undef. A character
    /// over 255 is an exception that names `what` was to be done with it.
    pub fn bytes(self, perl: &mut Perl, what: &CStr) -> Result<Option<Bytes>, Error> {
        let mut job = self.job(perl);
        job.raw.what = what.as_ptr();
        job.run(sys::plx_do_bytes)?;
        let (defined, copy) = (job.raw.defined != 0, job.raw.value);
        // SAFETY: a defined value's copy is handed over with its count.
        Ok(defined.then(|| Bytes(unsafe { Sv::owned(perl, copy) })))
    }

    /// `$self = $value`, with all that an assignment does.
    pub fn assign(self, perl: &mut Perl, value: &Sv) -> Result<(), Error> {
        let mut job = self.job(perl);
        job.raw.value = value.raw;
        job.run(sys::plx_do_assign)
    }
}

/// Bytes in a scalar that nobody else has, and that goes with them.
pub struct Bytes(Sv);

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let mut len = 0;
        // SAFETY: plx_do_bytes made the scalar for us alone, a string without
        // the utf8 flag; nobody changes it.
        unsafe {
            let start = sys::plx_plain_bytes(self.0.raw, &mut len);
            let start = if start.is_null() {
                ptr::NonNull::dangling().as_ptr()
            } else {
                start
            };
            slice::from_raw_parts(start as *const u8, len)
        }
    }
}
