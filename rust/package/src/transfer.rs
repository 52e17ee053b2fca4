//! One `recv`, one `send`, and holes.

use crate::errors::exception;
use crate::io;
use crate::life::optional_flags;
use crate::state::{stream_of, State};
use libvirt::{Call, Received, Sent};
use perlxs::{Answer, Arg, Args, Error, Perl, Sv};
use std::ffi::CStr;

/// The most that one `recv` delivers: far more than libvirt has ready at a time.
const LIMIT: u64 = 16 << 20;

const WOULD_BLOCK: i64 = -2;
const AT_HOLE: i64 = -3;

/// `recv(st, data, nbytes, flags=0)`
pub fn recv(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_of(perl, args.get(0), "recv", Call::Recv)?;
    let data = args.get(1);
    let want = args.get(2).uv(perl)?.min(LIMIT) as usize;
    let flags = optional_flags(perl, args, 3)?;
    if data.is_readonly() {
        return Err(Error::message(
            "Modification of a read-only value attempted",
        ));
    }
    match recv_in_place(perl, &state, data, want, flags) {
        Some(got) => answer(got.map_err(|e| exception(perl, e))?),
        None => {
            let (got, bytes) = io::recv_owned(perl, &state, Vec::new(), want, flags)?;
            if got != Received::Data(0) && !bytes.is_empty() {
                let value = Sv::bytes(perl, &bytes);
                drop(bytes);
                data.assign(perl, value)?;
            }
            answer(got)
        }
    }
}

/// Straight into the scalar's buffer, if that is possible.
fn recv_in_place(
    perl: &mut Perl,
    state: &State,
    data: Arg<'_>,
    want: usize,
    flags: u32,
) -> Option<Result<Received, libvirt::Error>> {
    let mut quiet = perl.quiet()?;
    let mut room = data.room(&mut quiet, want)?;
    let got = state.stream.recv(room.space(), flags);
    if let Ok(Received::Data(len)) = got {
        if len > 0 {
            room.filled(len);
        }
    }
    Some(got)
}

fn answer(got: Received) -> Result<Answer, Error> {
    Ok(Answer::Int(match got {
        Received::Data(len) => len as i64,
        Received::WouldBlock => WOULD_BLOCK,
        Received::AtHole => AT_HOLE,
    }))
}

/// `send(st, data, nbytes)`
pub fn send(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_of(perl, args.get(0), "send", Call::Send)?;
    let data = args.get(1);
    let most = usize::try_from(args.get(2).uv(perl)?).unwrap_or(usize::MAX);
    let sent = match send_in_place(perl, &state, data, most) {
        Some(sent) => sent.map_err(|e| exception(perl, e))?,
        None => {
            let what = CStr::from_bytes_with_nul(b"send\0").unwrap_or_default();
            let bytes = data.bytes(perl, what)?;
            let bytes = bytes.as_deref().unwrap_or(&[]);
            io::send(perl, &state, &bytes[..most.min(bytes.len())])?
        }
    };
    Ok(Answer::Int(match sent {
        Sent::Data(len) => len as i64,
        Sent::WouldBlock => WOULD_BLOCK,
    }))
}

/// Straight out of the scalar's buffer, if that is possible.
fn send_in_place(
    perl: &mut Perl,
    state: &State,
    data: Arg<'_>,
    most: usize,
) -> Option<Result<Sent, libvirt::Error>> {
    let quiet = perl.quiet()?;
    let bytes = data.plain_bytes(&quiet)?;
    Some(state.stream.send(&bytes[..most.min(bytes.len())]))
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
