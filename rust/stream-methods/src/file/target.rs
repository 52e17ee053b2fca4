//! The file that a transfer writes.

use crate::file::blocks::ZEROES;
use crate::file::named::{patiently, Label, Opened};
use crate::file::options::{Options, RECV_FILE};
use crate::file::replace::{Provisional, Replacement};
use crate::file::wire::Sink;
use perlxs::{Arg, Error, Perl};
use sparse_files::{Kind, Open};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The mode of a new file, of which the umask takes its part.
const MODE: u32 = 0o666;

/// The most that is written at a time. For a larger piece ext4 takes one large page, which can cost
/// five times the time of small ones where memory has to be fetched from a hypervisor.
const AT_ONCE: usize = 64 << 10;

pub struct Target {
    opened: Opened,
    /// Where the next byte goes, in a file with positions.
    at: u64,
    /// Up to here a file with positions has content of its own.
    size: u64,
    /// The hole that has come and may not be over yet.
    hole: u64,
    punches: bool,
    start: Start,
    replacement: Option<Replacement>,
    sync: bool,
}

/// What is still to be done when the first bytes have come.
enum Start {
    /// A file that was made here. It is removed if nothing comes.
    Made(Provisional),
    /// An old file, to be truncated.
    Truncate,
    Nothing,
}

impl Target {
    pub fn open(perl: &mut Perl, arg: Arg<'_>, options: &Options) -> Result<Target, Error> {
        let (mut start, mut replacement) = (Start::Nothing, None);
        let opened = Opened::new(perl, &RECV_FILE, arg, true, |perl, path, label| {
            let path = as_path(path);
            if options.replace {
                let partial = options.partial.as_deref().map(as_path);
                if options.offset.is_some() && partial.is_none() {
                    let why = "a file that replaces another has no use of an offset";
                    return Err(RECV_FILE.misuse(why));
                }
                let from = options.offset.unwrap_or_default();
                let new = || match partial {
                    Some(partial) => Replacement::by(path, partial, from),
                    None => Replacement::new(path),
                };
                let (new, file) = label.attempt(perl, "replace", new)?;
                replacement = Some(new);
                return Ok(file);
            }
            if options.partial.is_some() {
                return Err(RECV_FILE.misuse("partial needs replace"));
            }
            let (file, made) = open_or_make(perl, path, label)?;
            start = match made {
                Some(made) => Start::Made(made),
                None if options.offset.is_none() => Start::Truncate,
                None => Start::Nothing,
            };
            Ok(file)
        })?;
        if options.replace && opened.handle.is_some() {
            return Err(RECV_FILE.misuse("replace needs a path, not a filehandle"));
        }
        let at = opened.start(&RECV_FILE, options.offset)?;
        // All of a device is content, which no hole may pass over.
        let size = match opened.about.kind {
            Kind::Regular => opened.about.size,
            _ => u64::MAX,
        };
        Ok(Target {
            opened,
            at,
            size,
            hole: 0,
            punches: true,
            start,
            replacement,
            sync: options.sync,
        })
    }

    /// The first data has come, or the end: from now on the file is kept, and an old one is
    /// truncated.
    fn begin(&mut self, perl: &mut Perl) -> Result<(), Error> {
        match std::mem::replace(&mut self.start, Start::Nothing) {
            Start::Made(made) => made.keep(),
            Start::Truncate if self.opened.about.kind == Kind::Regular => {
                let (label, file) = (&self.opened.label, &self.opened.file);
                label.attempt(perl, "truncate", || file.set_len(0))?;
                self.size = 0;
            }
            _ => (),
        }
        Ok(())
    }

    fn put(&mut self, perl: &mut Perl, mut bytes: &[u8]) -> Result<(), Error> {
        let positions = self.opened.has_positions();
        while !bytes.is_empty() {
            let (label, mut file, at) = (&self.opened.label, &self.opened.file, self.at);
            let now = &bytes[..bytes.len().min(AT_ONCE)];
            let count = label.attempt(perl, "write", || {
                let done = match positions {
                    true => file.write_at(now, at),
                    false => file.write(now),
                };
                match sparse_files::blocking(file, true, done)? {
                    0 => Err(ErrorKind::WriteZero.into()),
                    count => Ok(count),
                }
            })?;
            bytes = &bytes[count..];
            self.at += count as u64;
            perl.run_signal_handlers()?;
        }
        self.size = self.size.max(self.at);
        Ok(())
    }

    /// Puts the hole that is over where it belongs. Behind the file's end nothing is
    /// to be done for it.
    fn place_hole(&mut self, perl: &mut Perl) -> Result<(), Error> {
        let length = std::mem::take(&mut self.hole);
        if length == 0 {
            return Ok(());
        }
        let inside = length.min(self.size.saturating_sub(self.at));
        if inside > 0 {
            self.clear(perl, inside)?;
        }
        self.at = self.at.saturating_add(length - inside);
        Ok(())
    }

    fn clear(&mut self, perl: &mut Perl, length: u64) -> Result<(), Error> {
        if self.punches {
            let (file, at) = (&self.opened.file, self.at);
            match patiently(perl, || sparse_files::punch(file, at, length))? {
                Ok(()) => {
                    self.at += length;
                    return Ok(());
                }
                Err(_) => self.punches = false, // writing says what is the matter, if anything
            }
        }
        self.put_zeroes(perl, length)
    }

    fn put_zeroes(&mut self, perl: &mut Perl, mut length: u64) -> Result<(), Error> {
        while length > 0 {
            let now = length.min(ZEROES.len() as u64);
            self.put(perl, &ZEROES[..now as usize])?;
            length -= now;
        }
        Ok(())
    }

    /// Leaves Perl's handle behind what was written.
    pub fn leave(&mut self, perl: &mut Perl) -> Result<(), Error> {
        self.opened.leave_at(perl, self.at)
    }

    /// The transfer has come to a good end: the file is closed, and gets its name.
    pub fn close(self, perl: &mut Perl) -> Result<(), Error> {
        let Opened { label, file, .. } = self.opened;
        sparse_files::close(file).map_err(|error| label.refused(perl, "write", &error))?;
        if let Some(replacement) = self.replacement {
            let placed = replacement.put_in_place(self.sync);
            placed.map_err(|error| label.refused(perl, "replace", &error))?;
        }
        Ok(())
    }
}

impl Sink for Target {
    fn write(&mut self, perl: &mut Perl, bytes: &[u8]) -> Result<(), Error> {
        self.begin(perl)?;
        self.place_hole(perl)?;
        self.put(perl, bytes)
    }

    /// Where it has to be written, no more than of other bytes.
    fn stride(&self, length: u64) -> u64 {
        match self.opened.has_positions() {
            true => length,
            false => length.min(libvirt::BLOCK as u64),
        }
    }

    fn skip(&mut self, perl: &mut Perl, length: u64) -> Result<(), Error> {
        self.begin(perl)?;
        if !self.opened.has_positions() {
            return self.put_zeroes(perl, length);
        }
        self.hole = self.hole.saturating_add(length);
        Ok(())
    }

    fn position(&self) -> u64 {
        self.at
    }

    /// The file gets its length, and with `sync` it is on disk.
    fn complete(&mut self, perl: &mut Perl) -> Result<(), Error> {
        self.begin(perl)?;
        self.place_hole(perl)?;
        let (label, file, at) = (&self.opened.label, &self.opened.file, self.at);
        if self.opened.about.kind == Kind::Regular && self.opened.has_positions() && at > self.size
        {
            label.attempt(perl, "extend", || file.set_len(at))?;
            self.size = at;
        }
        if self.sync && self.opened.about.kind != Kind::Sequence {
            label.attempt(perl, "sync", || file.sync_all())?;
        }
        Ok(())
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Opens the file at `path` as it is, or makes one.
fn open_or_make(
    perl: &mut Perl,
    path: &Path,
    label: &Label,
) -> Result<(File, Option<Provisional>), Error> {
    let kind = |kind| move |error: &std::io::Error| error.kind() == kind;
    let opened = patiently(perl, || sparse_files::open(path, Open::Write))?;
    if !opened
        .as_ref()
        .err()
        .map_or(false, kind(ErrorKind::NotFound))
    {
        return file_of(perl, label, opened).map(|file| (file, None));
    }
    let made = patiently(perl, || sparse_files::open(path, Open::New(MODE)))?;
    if made
        .as_ref()
        .err()
        .map_or(false, kind(ErrorKind::AlreadyExists))
    {
        // A symbolic link to nothing, or another process has made the file meanwhile.
        let opened = patiently(perl, || sparse_files::open(path, Open::Make(MODE)))?;
        return file_of(perl, label, opened).map(|file| (file, None));
    }
    file_of(perl, label, made).map(|file| (file, Some(Provisional::new(path))))
}

fn file_of(perl: &Perl, label: &Label, opened: std::io::Result<File>) -> Result<File, Error> {
    opened.map_err(|error| label.refused(perl, "open", &error))
}
