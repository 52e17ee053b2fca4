//! One `recv`, one `send`, and holes.

use crate::errors::exception;
use crate::io;
use crate::life::optional_flags;
use crate::state::{stream_of, State};
use libvirt::{Call, Received, Sent};
use perlxs::{Answer, Args, Error, Perl, Sv};
use std::ffi::CStr;

/// The most that one `recv` delivers: far more than libvirt has ready at a time.
const LIMIT: u64 = 16 << 20;

const WOULD_BLOCK: i64 = -2;
const AT_HOLE: i64 = -3;

/// `recv(st, data, nbytes, flags=0)`
pub fn recv(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    if let Some(got) = recv_in_place(perl, args) {
        return answer(got.map_err(|e| exception(perl, e))?);
    }
    let state = stream_of(perl, args.get(0), "recv", Call::Recv)?;
    let data = args.get(1);
    let want = args.get(2).uv(perl)?.min(LIMIT) as usize;
    let flags = optional_flags(perl, args, 3)?;
    if data.is_readonly() {
        return Err(Error::message(
            "Modification of a read-only value attempted",
        ));
    }
    let (got, bytes) = io::recv_owned(perl, &state, Vec::new(), want, flags)?;
    if !bytes.is_empty() {
        let value = Sv::bytes(perl, &bytes);
        drop(bytes);
        data.assign(perl, value)?;
    }
    answer(got)
}

/// The usual call: a stream of ours, a plain scalar to receive into its own
/// buffer, plain numbers, and nothing that could run Perl code meanwhile.
/// None if any of that is not so.
fn recv_in_place(perl: &mut Perl, args: Args<'_>) -> Option<Result<Received, libvirt::Error>> {
    let quiet = perl.quiet()?;
    let state: &State = args.get(0).attached(&quiet)?;
    let want = args.get(2).plain_uv()?.min(LIMIT) as usize;
    let flags = match args.optional(3) {
        Some(flags) => flags.plain_uv()? as u32,
        None => 0,
    };
    let mut room = args.get(1).room(quiet, want)?;
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
    let sent = match send_in_place(perl, args) {
        Some(sent) => sent.map_err(|e| exception(perl, e))?,
        None => send_copy(perl, args)?,
    };
    Ok(Answer::Int(match sent {
        Sent::Data(len) => len as i64,
        Sent::WouldBlock => WOULD_BLOCK,
    }))
}

/// The usual call, as for `recv`: straight out of the scalar's buffer.
fn send_in_place(perl: &mut Perl, args: Args<'_>) -> Option<Result<Sent, libvirt::Error>> {
    let quiet = perl.quiet()?;
    let state: &State = args.get(0).attached(&quiet)?;
    let most = usize::try_from(args.get(2).plain_uv()?).unwrap_or(usize::MAX);
    let bytes = args.get(1).plain_bytes(&quiet)?;
    Some(state.stream.send(&bytes[..most.min(bytes.len())]))
}

fn send_copy(perl: &mut Perl, args: Args<'_>) -> Result<Sent, Error> {
    let state = stream_of(perl, args.get(0), "send", Call::Send)?;
    let most = usize::try_from(args.get(2).uv(perl)?).unwrap_or(usize::MAX);
    let what = CStr::from_bytes_with_nul(b"send\0").unwrap_or_default();
    let bytes = args.get(1).bytes(perl, what)?;
    let bytes = bytes.as_deref().unwrap_or(&[]);
    io::send(perl, &state, &bytes[..most.min(bytes.len())])
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
