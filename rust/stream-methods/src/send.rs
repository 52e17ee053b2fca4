//! Sending: `send` and `send_hole`, and the one way in which bytes are sent.

use crate::calls;
use crate::errors::exception;
use crate::life::optional_flags;
use crate::phase::Phase;
use crate::state::{stream_of, State};
use crate::way::{Kind, Way};
use libvirt::{Call, Sent, CHUNK};
use perlxs::{Answer, Args, Error, Perl, Plain, PlainCall};
use std::ffi::CStr;

const WOULD_BLOCK: i64 = -2;

/// What the program gets.
fn count(done: Sent) -> i64 {
    match done {
        Sent::Data(len) => len as i64,
        Sent::WouldBlock => WOULD_BLOCK,
    }
}

/// `send(st, data, nbytes)`
pub fn send(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let most = usize::try_from(args.get(2).uv(perl)?).unwrap_or(usize::MAX);
    let state = stream_of(perl, args.get(0), "send", Call::Send)?;
    let what = CStr::from_bytes_with_nul(b"send\0").unwrap_or_default();
    let data = args.get(1).bytes(perl, what)?;
    let data = data.as_deref().unwrap_or(&[]);
    let sent = bytes(perl, &state, &data[..most.min(data.len())])?;
    Ok(Answer::Int(count(sent)))
}

/// The same for a plain call: straight out of the scalar's own buffer.
pub struct PlainSend;

impl PlainCall<false> for PlainSend {
    fn call(perl: &Perl, call: Plain<'_, false>) -> Option<Result<i64, Error>> {
        let state = call.object::<State>()?;
        if call.bytes().is_empty() {
            return None; // `bytes` takes note of it
        }
        let sent = state
            .may_send()
            .and_then(|()| state.stream.send(call.bytes()));
        Some(sent.map(count).map_err(|e| exception(perl, e)))
    }
}

/// Sends from `bytes`, which no Perl code can change.
pub fn bytes(perl: &mut Perl, state: &State, bytes: &[u8]) -> Result<Sent, Error> {
    state.may_send().map_err(|e| exception(perl, e))?;
    let sent = match calls::way(perl, state, Kind::Moves) {
        Way::Here => calls::here(perl, state, |stream| stream.send(bytes))?,
        way => elsewhere(perl, state, way, bytes)?,
    };
    if bytes.is_empty() && sent == Sent::Data(0) {
        state.sent_end();
    }
    Ok(sent)
}

/// Has another thread send a copy of `bytes`.
fn elsewhere(perl: &mut Perl, state: &State, way: Way, bytes: &[u8]) -> Result<Sent, Error> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len())
        .map_err(|_| exception(perl, libvirt::Error::memory(bytes.len())))?;
    copy.extend_from_slice(bytes);
    calls::make_so(perl, state, Kind::Moves, way, move |stream| {
        stream.send(&copy)
    })
}

/// Sends all of `rest`, no more at a time than libvirt's loop does; false where the
/// stream turns out not to block.
pub fn whole(perl: &mut Perl, state: &State, mut rest: &[u8]) -> Result<bool, Error> {
    while !rest.is_empty() {
        match bytes(perl, state, &rest[..rest.len().min(CHUNK)])? {
            Sent::Data(len) => rest = &rest[len..],
            Sent::WouldBlock => return Ok(false),
        }
        perl.run_signal_handlers()?;
    }
    Ok(true)
}

/// `send_hole(st, lengthSV, flags=0)`
pub fn send_hole(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_of(perl, args.get(0), "send_hole", Call::SendHole)?;
    let flags = optional_flags(perl, args, 2)?;
    let length = args.get(1).integer(perl)?;
    hole(perl, &state, length, flags)?;
    Ok(Answer::Empty)
}

/// Has the other side skip `length` bytes.
pub fn hole(perl: &mut Perl, state: &State, length: i64, flags: u32) -> Result<(), Error> {
    let fails = |error| Err(exception(perl, error));
    if length < 0 {
        return fails(libvirt::Error::hole(length)); // the daemon would be left waiting
    }
    if let Err(refusal) = state.may_send() {
        return fails(refusal);
    }
    if matches!(state.phase(), Phase::Ended(_)) && !state.stream.is_remote() {
        // libvirt does not look whether a local stream has ended, and would crash. Another
        // call has the right error.
        if let Err(error) = state.stream.recv(&mut [], 0) {
            return fails(error);
        }
    }
    if flags != 0 && state.is_opened() {
        // A daemon's refusal would cost the connection, and could end the daemon.
        return fails(libvirt::Error::hole_flags(flags));
    }
    if state.takes_no_hole() {
        // A daemon's refusal of a hole costs the connection.
        return fails(libvirt::Error::one_way("write to"));
    }
    if length == 0 && state.is_opened() {
        return Ok(()); // nothing to skip; a daemon that is told may never answer again
    }
    calls::make(perl, state, Kind::Moves, move |stream| {
        stream.send_hole(length, flags)
    })
}
