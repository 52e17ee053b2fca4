//! The file that a transfer reads.

use crate::file::blocks::UNIT;
use crate::file::named::Opened;
use crate::file::options::{Options, SEND_FILE};
use perlxs::{Arg, Error, Perl};
use sparse_files::{Kind, Open};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub struct Source {
    opened: Opened,
    /// Where the transfer began, and where the next byte is; both count from 0 where
    /// there are no positions.
    start: u64,
    at: u64,
    /// Where the transfer ends, where that is known.
    end: Option<u64>,
    /// The program has said how long it is.
    is_asked: bool,
    /// What Perl had read of a pipe already.
    unread: Vec<u8>,
    /// The file's system keeps account of its holes, as far as is known.
    tells_holes: bool,
    /// Whole blocks are looked for.
    by_blocks: bool,
}

/// What comes next in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// At least so many bytes of data, or all up to the end.
    Data(u64),
    Hole(u64),
}

impl Source {
    pub fn open(perl: &mut Perl, arg: Arg<'_>, options: &Options) -> Result<Source, Error> {
        let opened = Opened::new(perl, &SEND_FILE, arg, false, |perl, path, label| {
            let path = Path::new(OsStr::from_bytes(path));
            label.attempt(perl, "open", || sparse_files::open(path, Open::Read))
        })?;
        let about = opened.about;
        let start = opened.start(&SEND_FILE, options.offset)?;
        // A file of the kernel's own making says that it is empty, and is not.
        let size = (about.kind != Kind::Sequence && about.size > 0).then_some(about.size);
        if let (Some(size), Some(offset)) = (size, options.offset) {
            if offset > size {
                return Err(opened.label.short(perl, size, offset));
            }
        }
        let there = size.map(|size| size.saturating_sub(start));
        let end = match (options.length, there) {
            (Some(length), Some(there)) if there < length => {
                return Err(opened.label.short(perl, there, length));
            }
            (Some(length), _) => Some(start + length),
            (None, there) => there.map(|there| start + there),
        };
        let unread = match &opened.handle {
            Some(handle) if about.kind == Kind::Sequence => handle.unread(perl)?,
            _ => Vec::new(),
        };
        Ok(Source {
            opened,
            start,
            at: start,
            end,
            is_asked: options.length.is_some(),
            unread,
            tells_holes: size.is_some(),
            by_blocks: options.detect_zeroes,
        })
    }

    pub fn position(&self) -> u64 {
        self.at
    }

    /// How many bytes there are in all, where that is known.
    pub fn total(&self) -> Option<u64> {
        self.end.map(|end| end - self.start)
    }

    /// What comes next, where holes are to be told from data; None at the end.
    pub fn section(&mut self, perl: &mut Perl) -> Result<Option<Section>, Error> {
        let (label, file, at) = (&self.opened.label, &self.opened.file, self.at);
        let end = self.end.unwrap_or(u64::MAX);
        if at == end {
            return Ok(None);
        }
        if !self.tells_holes {
            return Ok(Some(Section::Data(end - at)));
        }
        let next = sparse_files::data_from(file, at).and_then(|data| match data {
            Some(data) if data <= at => {
                sparse_files::hole_from(file, at).map(|hole| (true, Some(hole)))
            }
            data => Ok((false, data)),
        });
        let (in_data, until) = match next {
            Ok(found) => found,
            Err(_) => {
                self.tells_holes = false; // reading says what is the matter, if anything
                return Ok(Some(Section::Data(end - at)));
            }
        };
        let until = match until {
            Some(until) => until,
            // No data up to the end: the end that it has by now.
            None => {
                label
                    .attempt(perl, "read", || sparse_files::about(file))?
                    .size
            }
        };
        if until <= at {
            return Err(self.ended(perl));
        }
        let length = until.min(end) - at;
        Ok(Some(match in_data {
            true => Section::Data(length),
            false => Section::Hole(length),
        }))
    }

    /// Passes over a hole.
    pub fn skip(&mut self, length: u64) {
        self.at += length;
    }

    /// Reads into `space` what comes next, at most `most` bytes. Returns how many bytes
    /// they are; 0 at the end.
    pub fn read(&mut self, perl: &mut Perl, space: &mut [u8], most: u64) -> Result<usize, Error> {
        let end = self.end.unwrap_or(u64::MAX);
        // Up to a block's end, or that block would come in two.
        let over = match self.by_blocks {
            true => (self.at + space.len() as u64) as usize % UNIT,
            false => 0,
        };
        let room = space.len() - over;
        let want = most.min(end - self.at).min(room as u64) as usize;
        if want == 0 {
            return Ok(0);
        }
        let space = &mut space[..want];
        let count = if !self.unread.is_empty() {
            let count = want.min(self.unread.len());
            space[..count].copy_from_slice(&self.unread[..count]);
            self.unread.drain(..count);
            count
        } else {
            let positions = self.opened.about.kind != Kind::Sequence;
            let (label, mut file, at) = (&self.opened.label, &self.opened.file, self.at);
            label.attempt(perl, "read", || {
                let done = match positions {
                    true => file.read_at(space, at),
                    false => file.read(space),
                };
                sparse_files::blocking(file, false, done)
            })?
        };
        if count == 0 && self.end.is_some() {
            if self.is_asked || !self.claims_too_much(perl)? {
                return Err(self.ended(perl));
            }
            self.end = Some(self.at);
        }
        self.at += count as u64;
        Ok(count)
    }

    /// The file still claims to be as long as it was, and has no more to read: it is one
    /// of the kernel's own, whose size says nothing.
    fn claims_too_much(&mut self, perl: &mut Perl) -> Result<bool, Error> {
        let (label, file) = (&self.opened.label, &self.opened.file);
        let about = label.attempt(perl, "read", || sparse_files::about(file))?;
        Ok(about.kind == Kind::Regular && Some(about.size) >= self.end)
    }

    /// The file has ended before the end that it was to have.
    fn ended(&self, perl: &Perl) -> Error {
        let total = self.total().unwrap_or_default();
        self.opened.label.short(perl, self.at - self.start, total)
    }

    /// Leaves Perl's handle behind what was read.
    pub fn leave(&mut self, perl: &mut Perl) -> Result<(), Error> {
        self.opened.leave_at(perl, self.at)
    }
}
