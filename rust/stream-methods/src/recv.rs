//! Receiving: `recv` and `recv_hole`, and the one way in which bytes are received.

use crate::calls;
use crate::errors::exception;
use crate::life::optional_flags;
use crate::state::{not_blessed, recognise, stream_of, State};
use crate::way::{Kind, Way};
use libvirt::{Call, Received, CHUNK};
use perlxs::{Answer, Args, Error, Object, Perl, Plain, PlainCall, Sv};
use std::mem::MaybeUninit;

/// The most that one `recv` delivers: far more than libvirt has ready at a time.
pub const LIMIT: usize = 16 << 20;

/// A `recv` for no more than SMALL bytes has libvirt asked for AHEAD bytes.
const SMALL: usize = 2 << 10;
const AHEAD: usize = 4 << 10;

const WOULD_BLOCK: i64 = -2;
const AT_HOLE: i64 = -3;

/// What the program gets.
fn count(got: Received) -> i64 {
    match got {
        Received::Data(len) => len as i64,
        Received::WouldBlock => WOULD_BLOCK,
        Received::AtHole => AT_HOLE,
    }
}

/// `recv(st, data, nbytes, flags=0)`
pub fn recv(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let want = args.get(2).uv(perl)?.min(LIMIT as u64) as usize;
    let object = Object::of(perl, args.get(0))?.ok_or_else(|| not_blessed("recv", "st"))?;
    let flags = optional_flags(perl, args, 3)?;
    let call = if flags == 0 {
        Call::Recv
    } else {
        Call::RecvFlags
    };
    let state = recognise(perl, &object).ok_or_else(|| exception(perl, call.refusal()))?;
    let data = args.get(1);
    if data.is_readonly() {
        return Err(Error::message(
            "Modification of a read-only value attempted",
        ));
    }
    if state.unread().is_empty() {
        match fill(perl, &state, want, flags)? {
            Received::Data(1..) => {}
            other => return Ok(Answer::Int(count(other))),
        }
    }
    let taken = state.unread().take(want, |bytes| {
        let value = Sv::copied(perl, bytes)?;
        Some((value, bytes.len()))
    });
    let (value, len) = taken.ok_or_else(|| exception(perl, libvirt::Error::memory(want)))?;
    if len == 0 {
        return Ok(Answer::Int(0)); // none were asked for
    }
    if let Err(error) = data.assign(perl, &value) {
        // The next call delivers what this scalar could not take.
        if let Some(bytes) = value.as_arg().plain_bytes(&perl.quiet()) {
            state.unread().put_back(bytes);
        }
        return Err(error);
    }
    Ok(Answer::Int(len as i64))
}

/// The same for a plain call: straight into the scalar's own buffer. (What was received
/// ahead C takes by itself.)
pub struct PlainRecv;

impl PlainCall<true> for PlainRecv {
    fn call(perl: &Perl, mut call: Plain<'_, true>) -> Option<Result<i64, Error>> {
        let state = call.object::<State>()?;
        if state.phase().is_over() {
            return None; // libvirt may wait for ever
        }
        let flags = call.flags();
        let space = call.space();
        let got = state.may_receive().and_then(|()| {
            let ahead = match Ask::ahead(&state, space.len(), flags, SMALL, AHEAD) {
                Some(ask) => {
                    let mut buffer = state.unread().buffer();
                    let got = state.stream.recv_onto(&mut buffer, ask.want, ask.flags);
                    state.unread().set(buffer);
                    ask.settle(&state, flags, got)?
                }
                None => None,
            };
            match ahead {
                Some(Received::Data(1..)) => {
                    Ok(Received::Data(state.unread().copy_to(space).unwrap_or(0)))
                }
                Some(got) => Ok(got),
                None => state.stream.recv(space, flags),
            }
        });
        Some(got.map(count).map_err(|e| exception(perl, e)))
    }
}

/// Receives into `space`: what has been received ahead first.
pub fn into(
    perl: &mut Perl,
    state: &State,
    space: &mut [MaybeUninit<u8>],
    flags: u32,
) -> Result<Received, Error> {
    if state.unread().is_empty() {
        if calls::way(perl, state, Kind::Moves) == Way::Here {
            state.may_receive().map_err(|e| exception(perl, e))?;
            return calls::here(perl, state, |stream| stream.recv(space, flags));
        }
        match fill(perl, state, space.len(), flags)? {
            Received::Data(1..) => {}
            other => return Ok(other),
        }
    }
    Ok(Received::Data(state.unread().copy_to(space).unwrap_or(0)))
}

/// Receives a large piece into `buffer`, at most `want` bytes: what has been received ahead
/// first.
pub fn blocks(
    perl: &mut Perl,
    state: &State,
    mut buffer: Vec<u8>,
    want: usize,
    flags: u32,
) -> Result<(Received, Vec<u8>), Error> {
    buffer.clear();
    if !state.unread().is_empty() {
        state.unread().take(want, |bytes| {
            buffer.extend_from_slice(bytes);
            Some(())
        });
        return Ok((Received::Data(buffer.len()), buffer));
    }
    state.may_receive().map_err(|e| exception(perl, e))?;
    calls::make(perl, state, Kind::Moves, move |stream| {
        let got = stream.recv_blocks(&mut buffer, want, flags)?;
        Ok((got, buffer))
    })
}

/// Receives into `unread`, which is empty, for a caller who wants `want` bytes. The answer
/// says what came.
///
/// A small call costs nearly as much as a large one, so libvirt is asked for what many small
/// calls will want.
pub fn fill(perl: &mut Perl, state: &State, want: usize, flags: u32) -> Result<Received, Error> {
    state.may_receive().map_err(|e| exception(perl, e))?;
    let way = calls::way(perl, state, Kind::Moves);
    // A program may want no more than a stream's first bytes.
    let (small, most) = match way == Way::Here || state.unread().is_new() {
        true => (SMALL, AHEAD),
        false => (CHUNK, CHUNK),
    };
    let ask = Ask::ahead(state, want, flags, small, most);
    if let Some(ask) = ask {
        let got = receive(perl, state, way, ask)?;
        let settled = ask.settle(state, flags, got);
        if let Some(got) = settled.map_err(|e| exception(perl, e))? {
            return Ok(got);
        }
    }
    receive(perl, state, way, Ask { want, flags })?.map_err(|e| exception(perl, e))
}

/// Has libvirt fill the buffer of `unread`. The inner error is libvirt's. If a signal handler
/// has received meanwhile and left bytes in `unread`, those come first: the end, or a hole, is
/// reported by a later call.
fn receive(
    perl: &mut Perl,
    state: &State,
    way: Way,
    ask: Ask,
) -> Result<Result<Received, libvirt::Error>, Error> {
    let was_over = state.phase().is_over();
    let mut buffer = state.unread().buffer();
    let (got, buffer) = calls::make_so(perl, state, Kind::Moves, way, move |stream| {
        let got = stream.recv_onto(&mut buffer, ask.want, ask.flags);
        Ok((got, buffer))
    })?;
    if state.phase().is_over() && !was_over {
        // A signal handler has ended the stream, and what it had received went with that.
        return Ok(Err(libvirt::Error::closed()));
    }
    Ok(match state.unread().add(buffer) {
        0 => got,
        len => Ok(Received::Data(len)),
    })
}

/// What libvirt is asked for.
#[derive(Debug, Clone, Copy)]
struct Ask {
    want: usize,
    flags: u32,
}

impl Ask {
    /// A call for `most` bytes instead of one for `want`, which is no more than `small`.
    /// None where the call is to stay as it is: an event callback has to be called for what
    /// libvirt still has, and holes have to stay where they are.
    fn ahead(state: &State, want: usize, flags: u32, small: usize, most: usize) -> Option<Ask> {
        let holes = libvirt::RECV_STOP_AT_HOLE;
        let sole = state.is_blocking() && !state.callback.is_active() && state.tells_holes();
        let fits = (1..=small).contains(&want) && flags & !holes == 0;
        (fits && sole).then(|| Ask {
            want: most / want * want, // no count is short while libvirt has more
            flags: holes,
        })
    }

    /// What came of it, for a call with `flags`. None where that call has to be made after
    /// all: it wants a hole's zeroes, or the driver knows of no holes.
    fn settle(
        self,
        state: &State,
        flags: u32,
        got: Result<Received, libvirt::Error>,
    ) -> Result<Option<Received>, libvirt::Error> {
        match got {
            Ok(Received::AtHole) if flags == 0 => Ok(None),
            Err(error) if error.is_unsupported() => {
                state.tells_no_holes();
                Ok(None)
            }
            got => got.map(Some),
        }
    }
}

/// `recv_hole(st, flags=0)`
pub fn recv_hole(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_of(perl, args.get(0), "recv_hole", Call::RecvHole)?;
    state.has_no_socket().map_err(|e| exception(perl, e))?;
    let flags = optional_flags(perl, args, 1)?;
    let length = hole(perl, &state, flags)?;
    Ok(Answer::Sv(Sv::int(perl, length)))
}

/// The length of the hole that the stream is at.
pub fn hole(perl: &mut Perl, state: &State, flags: u32) -> Result<i64, Error> {
    calls::make(perl, state, Kind::Moves, move |stream| {
        stream.recv_hole(flags)
    })
}
