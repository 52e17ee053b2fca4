//! `recv_file` and `send_file`: whole files, with no Perl code for a chunk.

mod blocks;
mod digest;
mod named;
mod options;
mod progress;
mod replace;
mod source;
mod target;
mod wire;

use self::blocks::Blocks;
use self::options::{Method, Options, RECV_FILE, SEND_FILE};
use self::progress::Progress;
use self::source::{Section, Source};
use self::target::Target;
use self::wire::{put, Sink, Wire};
use crate::errors::exception;
use crate::handlers::nonblocking;
use crate::life;
use crate::phase::{End, Step};
use crate::recv;
use crate::state::{recognise, stream_behind, State};
use crate::transfer;
use libvirt::{Call, Received, CHUNK};
use perlxs::{Answer, Arg, Args, Error, Object, Perl};
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
    if let Some(to) = other_stream(perl, &RECV_FILE, args.get(1), &state, &options)? {
        return copy(perl, &RECV_FILE, state, to, options);
    }
    let mut target = Target::open(perl, args.get(1), &options)?;
    let mut progress = Progress::new(options.length, &mut options);
    transfer::run(perl, state, |perl, state| {
        let (to, told) = (&mut target, &mut progress);
        let received = receive(perl, &RECV_FILE, state, &options, to, told);
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
    method: &Method,
    state: &State,
    options: &Options,
    target: &mut impl Sink,
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
                progress.data(&bytes[..len]);
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
                    let now = progress.stride(target.stride(length));
                    target.skip(perl, now)?;
                    progress.hole(now);
                    progress.step(perl)?;
                    length -= now;
                }
            }
            // A stream made elsewhere: only now it shows.
            Received::WouldBlock => {
                return Err(nonblocking(perl, method.name()));
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
            let error = libvirt::Error::handler(method.name(), why.as_bytes());
            Err(exception(perl, error))
        }
        _ => target.complete(perl),
    }
}

/// `send_file(stref, source, ...)`
pub fn send_file(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let (state, mut options) = begin(perl, args, &SEND_FILE, Call::SendAll)?;
    if options.detect_zeroes && !options.sparse {
        let why = "detect_zeroes needs sparse, since only a sparse stream has holes";
        return Err(SEND_FILE.misuse(why));
    }
    if let Some(from) = other_stream(perl, &SEND_FILE, args.get(1), &state, &options)? {
        return copy(perl, &SEND_FILE, from, state, options);
    }
    let mut source = Source::open(perl, args.get(1), &options)?;
    let mut progress = Progress::new(source.total(), &mut options);
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
    let mut wire = Wire::new(state);
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
                    let length = progress.stride(length);
                    if let Some(blocks) = &mut blocks {
                        blocks.flush(&mut |run| put(perl, &mut wire, progress, run))?;
                        blocks.skip(length);
                    }
                    source.skip(length);
                    progress.hole(length);
                    wire.skip(perl, length)?;
                    progress.step(perl)?;
                    continue;
                }
            },
        };
        let count = source.read(perl, &mut buffer, most)?;
        if count == 0 {
            break;
        }
        let bytes = &buffer[..count];
        progress.data(bytes);
        match &mut blocks {
            Some(blocks) => blocks.feed(bytes, &mut |run| put(perl, &mut wire, progress, run))?,
            None => wire.write(perl, bytes)?,
        }
        progress.step(perl)?;
    }
    if let Some(blocks) = &mut blocks {
        blocks.flush(&mut |run| put(perl, &mut wire, progress, run))?;
    }
    wire.complete(perl)
}

/// The stream that stands in the place of a file, if it is one.
fn other_stream(
    perl: &mut Perl,
    method: &Method,
    arg: Arg<'_>,
    one: &Rc<State>,
    options: &Options,
) -> Result<Option<Rc<State>>, Error> {
    let other = match Object::of(perl, arg)?.and_then(|object| recognise(perl, &object)) {
        Some(other) => other,
        None => return Ok(None),
    };
    options.check_for_stream(method)?;
    if Rc::ptr_eq(one, &other) {
        return Err(method.misuse("a stream has no use of itself"));
    }
    if other.is_nonblocking() {
        return Err(nonblocking(perl, method.name()));
    }
    Ok(Some(other))
}

/// From one stream to another: both are finished, or both are aborted.
fn copy(
    perl: &mut Perl,
    method: &Method,
    from: Rc<State>,
    to: Rc<State>,
    mut options: Options,
) -> Result<Answer, Error> {
    let mut progress = Progress::new(options.length, &mut options);
    transfer::run(perl, from, |perl, from| {
        transfer::run(perl, to, |perl, to| {
            let mut wire = Wire::new(to);
            receive(perl, method, from, &options, &mut wire, &mut progress)?;
            finish(perl, from)?;
            finish(perl, to)
        })
    })?;
    progress.tell(perl)?;
    Ok(progress.answer(perl))
}
