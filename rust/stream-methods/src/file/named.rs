//! A file that the program has named: how it is called in messages, and how calls on
//! it are made.

use crate::errors::exception;
use crate::file::options::Method;
use perlxs::{Arg, Error, Filehandle, Named, Perl};
use sparse_files::{About, Kind};
use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom};

/// What a file is called in messages, and for whom.
pub struct Label {
    method: &'static Method,
    name: Vec<u8>,
}

impl Label {
    pub fn of_path(method: &'static Method, path: &[u8]) -> Label {
        let name = path.to_vec();
        Label { method, name }
    }

    pub fn of_handle(method: &'static Method, number: i32) -> Label {
        let name = format!("file descriptor {}", number).into_bytes();
        Label { method, name }
    }

    /// The file's name, and something more, in an error of the transfer.
    pub fn failed(&self, perl: &Perl, before: &str, after: &[u8]) -> Error {
        let why = [before.as_bytes(), &self.name, after].concat();
        exception(perl, libvirt::Error::handler(self.method.name(), &why))
    }

    /// What the system refused to do with the file.
    pub fn refused(&self, perl: &Perl, doing: &str, error: &io::Error) -> Error {
        let why = match error.raw_os_error() {
            Some(errno) => libvirt::reason(errno),
            None => error.to_string().into_bytes(),
        };
        let after = [b": ", &*why].concat();
        self.failed(perl, &format!("cannot {} ", doing), &after)
    }

    /// Makes a call on the file; see [`patiently`].
    pub fn attempt<T>(
        &self,
        perl: &mut Perl,
        doing: &str,
        call: impl FnMut() -> io::Result<T>,
    ) -> Result<T, Error> {
        patiently(perl, call)?.map_err(|error| self.refused(perl, doing, &error))
    }

    /// The file has fewer bytes than expected.
    pub fn short(&self, perl: &Perl, had: u64, wanted: u64) -> Error {
        let after = format!(" has ended after {} of {} bytes", had, wanted);
        self.failed(perl, "", after.as_bytes())
    }
}

/// Makes a call until no signal interrupts it; handlers run in between, and what they
/// throw ends it.
pub fn patiently<T>(
    perl: &mut Perl,
    mut call: impl FnMut() -> io::Result<T>,
) -> Result<io::Result<T>, Error> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => perl.run_signal_handlers()?,
            done => return Ok(done),
        }
    }
}

/// The file that an argument stands for, if need be opened by `open`, and looked at.
pub struct Opened {
    pub label: Label,
    pub file: File,
    pub about: About,
    /// Perl's handle, where it was one.
    pub handle: Option<Filehandle>,
}

impl Opened {
    /// `writes` says what for; `open` opens a path.
    pub fn new(
        perl: &mut Perl,
        method: &'static Method,
        arg: Arg<'_>,
        writes: bool,
        open: impl FnOnce(&mut Perl, &[u8], &Label) -> Result<File, Error>,
    ) -> Result<Opened, Error> {
        let doing = if writes { "write" } else { "read" };
        let (label, file, handle) = match arg.file(perl, method.c_name(), writes)? {
            Ok(Named::Path(path)) => {
                let label = Label::of_path(method, &path);
                let file = open(perl, &path, &label)?;
                (label, file, None)
            }
            Ok(Named::Handle(handle, file)) => {
                (Label::of_handle(method, handle.number), file, Some(handle))
            }
            Err(error) => {
                let label = Label::of_path(method, b"the filehandle");
                return Err(label.refused(perl, doing, &error));
            }
        };
        let about = label.attempt(perl, doing, || sparse_files::about(&file))?;
        if about.kind == Kind::Directory {
            return Err(label.refused(perl, doing, &sparse_files::is_a_directory()));
        }
        if !(if writes { about.writes } else { about.reads }) {
            let why = format!("the filehandle is not open to {}", doing);
            return Err(method.misuse(&why));
        }
        Ok(Opened {
            label,
            file,
            about,
            handle,
        })
    }

    /// Where a transfer begins that was asked to begin at `offset`.
    pub fn start(&self, method: &Method, offset: Option<u64>) -> Result<u64, Error> {
        if offset.is_some() && !self.has_positions() {
            return Err(method.misuse("the file has no positions for an offset"));
        }
        Ok(offset.unwrap_or(self.about.position))
    }

    /// Whether bytes go where they are told to, not just behind each other.
    pub fn has_positions(&self) -> bool {
        self.about.kind != Kind::Sequence && !self.about.appends
    }

    /// Leaves Perl's handle at `at`.
    pub fn leave_at(&mut self, perl: &mut Perl, at: u64) -> Result<(), Error> {
        if let Some(handle) = &self.handle {
            if self.has_positions() {
                let (label, file) = (&self.label, &mut self.file);
                label.attempt(perl, "seek in", || file.seek(SeekFrom::Start(at)))?;
            }
            handle.reposition(perl)?;
        }
        Ok(())
    }
}
