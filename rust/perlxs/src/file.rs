//! Files that a program names: by a path, or by a filehandle.

use crate::perl::Job;
use crate::{Arg, Error, Perl, Sv};
use perl_sys as sys;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::unix::io::BorrowedFd;

/// What an argument that stands for a file is.
pub enum Named {
    /// The bytes that Perl's `open` would take.
    Path(Vec<u8>),
    /// The file is a descriptor of our own, so that nobody can close it meanwhile, and
    /// no program that is started gets it; they share their position.
    Handle(Filehandle, File),
}

/// An open filehandle of bytes.
pub struct Filehandle {
    io: Sv,
    /// The number of the program's descriptor.
    pub number: i32,
}

impl Arg<'_> {
    /// The file that the argument stands for, to be written to or to be read from: a
    /// filehandle is flushed. What is neither a path nor such a handle is an exception
    /// that begins with `what`; where the flush fails, the system's error is the value.
    pub fn file(
        self,
        perl: &mut Perl,
        what: &CStr,
        writes: bool,
    ) -> Result<io::Result<Named>, Error> {
        let mut job = Job::new(perl);
        job.raw.sv = self.raw();
        job.raw.what = what.as_ptr();
        job.raw.count = writes.into();
        job.run(sys::plx_do_file)?;
        let (handle, error) = (job.raw.defined != 0, job.raw.error);
        let (number, value) = (job.raw.iv[0] as i32, job.raw.value);
        // SAFETY: the job hands the value over with its count.
        let value = unsafe { Sv::owned(perl, value) };
        if !handle {
            let path = value.as_arg().bytes(perl, what)?;
            let path = path.map(|bytes| bytes.to_vec()).unwrap_or_default();
            return Ok(Ok(Named::Path(path)));
        }
        if error != 0 {
            return Ok(Err(io::Error::from_raw_os_error(error)));
        }
        if number < 0 {
            // A signal handler has closed it while it was flushed.
            let ebadf = 9; // on every system
            return Ok(Err(io::Error::from_raw_os_error(ebadf)));
        }
        // SAFETY: the job has just seen it open, and no Perl code has run since.
        let theirs = unsafe { BorrowedFd::borrow_raw(number) };
        let ours = theirs.try_clone_to_owned();
        Ok(ours.map(|fd| Named::Handle(Filehandle { io: value, number }, fd.into())))
    }
}

impl Filehandle {
    /// Takes what Perl has read from the handle and the program has not had, where no seek
    /// could give it back.
    pub fn unread(&self, perl: &mut Perl) -> Result<Vec<u8>, Error> {
        let mut job = Job::new(perl);
        job.raw.sv = self.io.raw();
        job.run(sys::plx_do_unread)?;
        let value = job.raw.value;
        // SAFETY: the job hands the value over with its count.
        let value = unsafe { Sv::owned(perl, value) };
        let what = CStr::from_bytes_with_nul(b"a filehandle\0").unwrap_or_default();
        let bytes = value.as_arg().bytes(perl, what)?;
        Ok(bytes.map(|bytes| bytes.to_vec()).unwrap_or_default())
    }

    /// Tells Perl that the descriptor's position has changed.
    pub fn reposition(&self, perl: &mut Perl) -> Result<(), Error> {
        let mut job = Job::new(perl);
        job.raw.sv = self.io.raw();
        job.run(sys::plx_do_reposition)
    }
}
