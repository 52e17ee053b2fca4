//! The stream that a file, or another stream, is sent to.

use crate::file::blocks::Run;
use crate::file::options::SEND_FILE;
use crate::file::progress::Progress;
use crate::handlers::nonblocking;
use crate::send;
use crate::state::State;
use perlxs::{Error, Perl};

/// What data and holes go to.
pub trait Sink {
    fn write(&mut self, perl: &mut Perl, bytes: &[u8]) -> Result<(), Error>;
    fn skip(&mut self, perl: &mut Perl, length: u64) -> Result<(), Error>;
    /// How much of a hole to pass over at a time.
    fn stride(&self, length: u64) -> u64;
    /// Where the first byte goes.
    fn position(&self) -> u64;
    /// All has come.
    fn complete(&mut self, perl: &mut Perl) -> Result<(), Error>;
}

/// Hands on a run of data or zeroes that were found in what came as data.
pub fn put(
    perl: &mut Perl,
    sink: &mut impl Sink,
    progress: &mut Progress,
    run: Run<'_>,
) -> Result<(), Error> {
    match run {
        Run::Data(bytes) => sink.write(perl, bytes),
        Run::Hole(length) => {
            progress.holes += length;
            sink.skip(perl, length)
        }
    }
}

/// The stream, and the hole that may not be over yet.
pub struct Wire<'s> {
    state: &'s State,
    hole: u64,
}

impl Wire<'_> {
    pub fn new(state: &State) -> Wire<'_> {
        Wire { state, hole: 0 }
    }

    fn place_hole(&mut self, perl: &mut Perl) -> Result<(), Error> {
        let length = std::mem::take(&mut self.hole) as i64;
        if length > 0 {
            send::hole(perl, self.state, length, 0)?;
        }
        Ok(())
    }
}

impl Sink for Wire<'_> {
    fn write(&mut self, perl: &mut Perl, bytes: &[u8]) -> Result<(), Error> {
        self.place_hole(perl)?;
        if !send::whole(perl, self.state, bytes)? {
            return Err(nonblocking(perl, SEND_FILE.name()));
        }
        Ok(())
    }

    fn skip(&mut self, _: &mut Perl, length: u64) -> Result<(), Error> {
        self.hole += length;
        Ok(())
    }

    fn stride(&self, length: u64) -> u64 {
        length
    }

    fn position(&self) -> u64 {
        0
    }

    fn complete(&mut self, perl: &mut Perl) -> Result<(), Error> {
        self.place_hole(perl)
    }
}
