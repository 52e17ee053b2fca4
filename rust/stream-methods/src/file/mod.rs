//! `recv_file` and `send_file`: whole files, with no Perl code for a chunk.

mod blocks;
mod named;
mod options;
mod progress;
mod replace;
mod source;
mod target;

use self::blocks::{Blocks, Run};
use self::options::{Method, Options, RECV_FILE, SEND_FILE};
use self::progress::Progress;
use self::source::{Section, Source};
use self::target::Target;
use crate::errors::exception;
use crate::handlers::nonblocking;
use crate::life;
use crate::phase::{End, Step};
use crate::recv;
use crate::send;
use crate::state::{stream_behind, State};
use crate::transfer;
use libvirt::{Call, Received, CHUNK};
use perlxs::{Answer, Args, Error, Perl};
use std::rc::Rc;

/// The stream and the options of a call, which must be right before a file is opened.
fn begin(
    perl: &mut Perl,
    args: Args<'_>,
    method: &Method,
    call: Call,
) -> Result<(Rc<State>, Options), Error> {
    let state = stream_behind(perl, args.get(0), call)?;
    let options = Options::read(perl, method, args)?;
    if state.is_nonblocking() {
        return Err(nonblocking(perl, method.name()));
    }
    Ok((state, options))
}

/// Ends the stream: from now on `finish` has nothing left to do.
fn finish(perl: &mut Perl, state: &State) -> Result<(), Error> {
    life::complete(perl, state)?;
    state.step(Step::End(End::File));
    Ok(())
}

/// `recv_file(stref, target, ...)`
pub fn recv_file(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let (state, mut options) = begin(perl, args, &RECV_FILE, Call::RecvAll)?;
    let mut target = Target::open(perl, args.get(1), &options)?;
    let mut progress = Progress::new(options.progress.take(), options.length);
    transfer::run(perl, state, |perl, state| {
        let received = receive(perl, state, &options, &mut target, &mut progress);
        let left = target.leave(perl);
        received.and(left)?;
        finish(perl, state)
    })?;
    progress.tell(perl)?;
    target.close(perl)?;
    Ok(progress.answer(perl))
}

fn receive(
    perl: &mut Perl,
    state: &State,
    options: &Options,
    target: &mut Target,
    progress: &mut Progress,
) -> Result<(), Error> {
    let flags = match options.sparse {
        true => libvirt::RECV_STOP_AT_HOLE,
        false => 0,
    };
    let mut blocks = options
        .detect_zeroes
        .then(|| Blocks::new(target.position()));
    // More at a time saves instructions, but falls out of the processor's cache.
    let most = libvirt::BLOCK;
    let mut buffer = Vec::new();
    loop {
        let left = options.length.map_or(u64::MAX, |all| all - progress.bytes);
        let want = left.min(most as u64) as usize;
        if want == 0 {
            break;
        }
        let (got, bytes) = recv::blocks(perl, state, buffer, want, flags)?;
        match got {
            Received::Data(0) => break,
            Received::Data(len) => {
                progress.bytes += len as u64;
                match &mut blocks {
                    Some(blocks) => {
                        blocks.feed(&bytes, &mut |run| put(perl, target, progress, run))?
                    }
                    None => target.write(perl, &bytes)?,
                }
            }
            Received::AtHole => {
                let length = recv::hole(perl, state, 0)?;
                let mut length = u64::try_from(length).unwrap_or(0).min(left);
                if let Some(blocks) = &mut blocks {
                    blocks.flush(&mut |run| put(perl, target, progress, run))?;
                    blocks.skip(length);
                }
                while length > 0 {
                    let now = target.stride(length);
                    target.skip(perl, now)?;
                    progress.hole(now);
                    progress.step(perl)?;
                    length -= now;
                }
            }
            // A stream made elsewhere: only now it shows.
            Received::WouldBlock => {
                return Err(nonblocking(perl, RECV_FILE.name()));
            }
        }
        progress.step(perl)?;
        buffer = bytes;
    }
    if let Some(blocks) = &mut blocks {
        blocks.flush(&mut |run| put(perl, target, progress, run))?;
    }
    match options.length {
        Some(length) if progress.bytes < length => {
            let why = format!(
                "the stream has ended after {} of {} bytes",
                progress.bytes, length
            );
            let error = libvirt::Error::handler(RECV_FILE.name(), why.as_bytes());
            Err(exception(perl, error))
        }
        _ => target.complete(perl),
    }
}

fn put(
    perl: &mut Perl,
    target: &mut Target,
    progress: &mut Progress,
    run: Run<'_>,
) -> Result<(), Error> {
    match run {
        Run::Data(bytes) => target.write(perl, bytes),
        Run::Hole(length) => {
            progress.holes += length;
            target.skip(perl, length)
        }
    }
}

/// `send_file(stref, source, ...)`
pub fn send_file(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let (state, mut options) = begin(perl, args, &SEND_FILE, Call::SendAll)?;
    if options.detect_zeroes && !options.sparse {
        let why = "detect_zeroes needs sparse, since only a sparse stream has holes";
        return Err(SEND_FILE.misuse(why));
    }
    let mut source = Source::open(perl, args.get(1), &options)?;
    let mut progress = Progress::new(options.progress.take(), source.total());
    transfer::run(perl, state, |perl, state| {
        let sent = put_all(perl, state, &options, &mut source, &mut progress);
        let left = source.leave(perl);
        sent.and(left)?;
        progress.total = source.total();
        finish(perl, state)
    })?;
    progress.tell(perl)?;
    Ok(progress.answer(perl))
}

fn put_all(
    perl: &mut Perl,
    state: &State,
    options: &Options,
    source: &mut Source,
    progress: &mut Progress,
) -> Result<(), Error> {
    let mut blocks = options
        .detect_zeroes
        .then(|| Blocks::new(source.position()));
    let mut wire = Wire { state, hole: 0 };
    let mut buffer = Vec::new();
    buffer
        .try_reserve_exact(CHUNK)
        .map_err(|_| exception(perl, libvirt::Error::memory(CHUNK)))?;
    buffer.resize(CHUNK, 0);
    loop {
        let most = match options.sparse {
            false => u64::MAX,
            true => match source.section(perl)? {
                None => break,
                Some(Section::Data(length)) => length,
                Some(Section::Hole(length)) => {
                    if let Some(blocks) = &mut blocks {
                        blocks.flush(&mut |run| wire.put(perl, progress, run))?;
                        blocks.skip(length);
                    }
                    source.skip(length);
                    progress.hole(length);
                    wire.hole += length;
                    progress.step(perl)?;
                    continue;
                }
            },
        };
        let count = source.read(perl, &mut buffer, most)?;
        if count == 0 {
            break;
        }
        progress.bytes += count as u64;
        let bytes = &buffer[..count];
        match &mut blocks {
            Some(blocks) => blocks.feed(bytes, &mut |run| wire.put(perl, progress, run))?,
            None => wire.send(perl, bytes)?,
        }
        progress.step(perl)?;
    }
    if let Some(blocks) = &mut blocks {
        blocks.flush(&mut |run| wire.put(perl, progress, run))?;
    }
    wire.place_hole(perl)
}

/// The stream that is sent to, and the hole that may not be over yet.
struct Wire<'s> {
    state: &'s State,
    hole: u64,
}

impl Wire<'_> {
    fn put(&mut self, perl: &mut Perl, progress: &mut Progress, run: Run<'_>) -> Result<(), Error> {
        match run {
            Run::Data(bytes) => self.send(perl, bytes),
            Run::Hole(length) => {
                progress.holes += length;
                self.hole += length;
                Ok(())
            }
        }
    }

    fn send(&mut self, perl: &mut Perl, bytes: &[u8]) -> Result<(), Error> {
        self.place_hole(perl)?;
        if !send::whole(perl, self.state, bytes)? {
            return Err(nonblocking(perl, SEND_FILE.name()));
        }
        Ok(())
    }

    fn place_hole(&mut self, perl: &mut Perl) -> Result<(), Error> {
        let length = std::mem::take(&mut self.hole) as i64;
        if length > 0 {
            send::hole(perl, self.state, length, 0)?;
        }
        Ok(())
    }
}
