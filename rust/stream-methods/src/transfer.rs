//! One `recv`, one `send`, and holes.

use crate::errors::exception;
use crate::io;
use crate::life::optional_flags;
use crate::state::{stream_of, State};
use libvirt::{Call, Received, Sent};
use perlxs::{Answer, Args, Error, Perl, Plain, PlainCall, Sv};
use std::ffi::CStr;

/// The most that one `recv` delivers: far more than libvirt has ready at a time.
pub const LIMIT: usize = 16 << 20;

/// What counts as a small `recv`, and how much is received ahead of such.
const SMALL: usize = 2 << 10;
const AHEAD: usize = 4 << 10;

const WOULD_BLOCK: i64 = -2;
const AT_HOLE: i64 = -3;

/// `recv(st, data, nbytes, flags=0)`
pub fn recv(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_of(perl, args.get(0), "recv", Call::Recv)?;
    let data = args.get(1);
    let want = args.get(2).uv(perl)?.min(LIMIT as u64) as usize;
    let flags = optional_flags(perl, args, 3)?;
    if data.is_readonly() {
        return Err(Error::message(
            "Modification of a read-only value attempted",
        ));
    }
    let unread = state.ahead().take(want);
    let (got, bytes) = match unread.len() {
        0 => io::recv_owned(perl, &state, unread, want, flags)?,
        len => (Received::Data(len), unread),
    };
    if !bytes.is_empty() {
        let value = Sv::bytes(perl, &bytes);
        if let Err(error) = data.assign(perl, value) {
            state.ahead().put_back(&bytes);
            return Err(error);
        }
    }
    Ok(Answer::Int(received(got)))
}

/// The same for a plain call: straight into the scalar's own buffer, or out of
/// what was received ahead.
pub struct PlainRecv;

impl PlainCall<true> for PlainRecv {
    fn call(perl: &Perl, mut call: Plain<'_, true>) -> Option<Result<i64, Error>> {
        let state: &State = call.object()?;
        let flags = call.flags();
        let space = call.space();
        if let Some(len) = state.ahead().copy_to(space) {
            return Some(Ok(len as i64));
        }
        let got = receive_ahead(state, space.len(), flags).and_then(|got| match got {
            Some(Received::Data(_)) => Ok(Received::Data(
                state.ahead().copy_to(space).unwrap_or_default(),
            )),
            Some(got) => Ok(got),
            None => state.stream.recv(space, flags),
        });
        Some(got.map(received).map_err(|e| exception(perl, e)))
    }
}

/// Most of what a small `recv` costs is libvirt's, once a call, however little it
/// is asked for: so it is asked for what many such calls will want. None where
/// `recv` is to ask for itself.
///
/// An event callback has to be called for what libvirt still has, and holes have
/// to stay where they are.
fn receive_ahead(
    state: &State,
    want: usize,
    flags: u32,
) -> Result<Option<Received>, libvirt::Error> {
    let holes = libvirt::RECV_STOP_AT_HOLE;
    let sole = state.is_blocking() && !state.callback.is_active() && state.stream.tells_holes();
    if !(1..=SMALL).contains(&want) || flags & !holes != 0 || !sole {
        return Ok(None);
    }
    let whole = AHEAD / want * want; // short counts only where libvirt has no more
    match state
        .stream
        .recv_owned(state.ahead().buffer(), whole, holes)
    {
        Ok((Received::AtHole, _)) if flags == 0 => Ok(None), // it wants zeros
        Ok((got, bytes)) => {
            state.ahead().set(bytes);
            Ok(Some(got))
        }
        Err(_) if !state.stream.tells_holes() => Ok(None),
        Err(error) => Err(error),
    }
}

fn received(got: Received) -> i64 {
    match got {
        Received::Data(len) => len as i64,
        Received::WouldBlock => WOULD_BLOCK,
        Received::AtHole => AT_HOLE,
    }
}

/// `send(st, data, nbytes)`
pub fn send(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_of(perl, args.get(0), "send", Call::Send)?;
    let most = usize::try_from(args.get(2).uv(perl)?).unwrap_or(usize::MAX);
    let what = CStr::from_bytes_with_nul(b"send\0").unwrap_or_default();
    let bytes = args.get(1).bytes(perl, what)?;
    let bytes = bytes.as_deref().unwrap_or(&[]);
    Ok(Answer::Int(sent(io::send(
        perl,
        &state,
        &bytes[..most.min(bytes.len())],
    )?)))
}

/// The same for a plain call: straight out of the scalar's own buffer.
pub struct PlainSend;

impl PlainCall<false> for PlainSend {
    fn call(perl: &Perl, call: Plain<'_, false>) -> Option<Result<i64, Error>> {
        let state: &State = call.object()?;
        let done = state.stream.send(call.bytes());
        Some(done.map(sent).map_err(|e| exception(perl, e)))
    }
}

fn sent(done: Sent) -> i64 {
    match done {
        Sent::Data(len) => len as i64,
        Sent::WouldBlock => WOULD_BLOCK,
    }
}

/// `recv_hole(st, flags=0)`
pub fn recv_hole(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_of(perl, args.get(0), "recv_hole", Call::RecvHole)?;
    let flags = optional_flags(perl, args, 1)?;
    let length = io::call(perl, &state, move |stream| stream.recv_hole(flags))?;
    Ok(Answer::Sv(Sv::int(perl, length)))
}

/// `send_hole(st, lengthSV, flags=0)`
pub fn send_hole(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_of(perl, args.get(0), "send_hole", Call::SendHole)?;
    let flags = optional_flags(perl, args, 2)?;
    let length = args.get(1).integer(perl)?;
    io::call(perl, &state, move |stream| stream.send_hole(length, flags))?;
    Ok(Answer::Empty)
}
