//! A stream's beginning and end.

use crate::calls;
use crate::errors::exception;
use crate::phase::{End, Phase};
use crate::socket;
use crate::state::{not_blessed, recognise, stream_of, State};
use crate::way::{Kind, Way};
use libvirt::{Call, Connection, Stream};
use perlxs::{Answer, Args, Error, Object, Perl, Sv};
use std::ffi::CStr;

fn class() -> &'static CStr {
    CStr::from_bytes_with_nul(b"Sys::Virt::Stream\0").unwrap_or_default()
}

/// `_new_obj(con, flags=0)`
pub fn new_obj(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let object = Object::of(perl, args.get(0))?.ok_or_else(|| not_blessed("_new_obj", "con"))?;
    let flags = optional_flags(perl, args, 1)?;
    let connection = Connection::at(object.slot());
    let stream = Stream::new(connection, flags).map_err(|e| exception(perl, e))?;
    let reference = Sv::object(perl, class(), stream.0.address());
    if let Some(object) = Object::of(perl, reference.as_arg())? {
        object.attach(perl, State::new(stream, Some(flags)));
    }
    Ok(Answer::Sv(reference))
}

/// An optional argument of C's type `unsigned int`.
pub fn optional_flags(perl: &mut Perl, args: Args<'_>, at: usize) -> Result<u32, Error> {
    args.optional(at)
        .map_or(Ok(0), |flags| flags.uv(perl).map(|flags| flags as u32))
}

/// `finish(st)`
pub fn finish(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_of(perl, args.get(0), "finish", Call::Finish)?;
    complete(perl, &state)?;
    Ok(Answer::Empty)
}

/// Ends a transfer that is complete. Where `recv_file` or `send_file` has done so already,
/// libvirt's error that the stream is closed is ignored.
pub fn complete(perl: &mut Perl, state: &State) -> Result<(), Error> {
    socket::settle(perl, state)?;
    let whole = state.phase() == Phase::Ended(End::File);
    let call = |perl: &mut Perl, way| {
        calls::make_so(
            perl,
            state,
            Kind::Finishes,
            way,
            move |stream| match stream.finish() {
                Err(error) if whole && error.is_of_closed() => Ok(()),
                finished => finished,
            },
        )
    };
    end(perl, state, Kind::Finishes, End::Finished, call)
}

/// `abort(st)`
pub fn abort(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_of(perl, args.get(0), "abort", Call::Abort)?;
    let call =
        |perl: &mut Perl, way| calls::make_so(perl, &state, Kind::Aborts, way, Stream::abort);
    end(perl, &state, Kind::Aborts, End::Aborted, call)?;
    Ok(Answer::Empty)
}

/// Makes a call that ends the stream, and lets its callback go with it.
fn end(
    perl: &mut Perl,
    state: &State,
    kind: Kind,
    how: End,
    call: impl FnOnce(&mut Perl, Way) -> Result<(), Error>,
) -> Result<(), Error> {
    state.may_end().map_err(|e| exception(perl, e))?;
    let way = calls::way(perl, state, kind);
    if way == Way::NotNow {
        return call(perl, way); // it is refused, and nothing ends
    }
    let (stream, callback) = (&state.stream, &state.callback);
    // An exception of an event loop's goes on when all this is done.
    let mut ending = None;
    let _ = perl.lend(|| {
        state.ends(how);
        ending = Some(callback.before_end(stream, kind == Kind::Aborts));
    });
    let ended = match way {
        Way::Aside { .. } => state.while_ending(|| call(perl, way)),
        _ => call(perl, way),
    };
    let _ = perl.lend(|| ending.map(|ending| callback.after_end(stream, ending)));
    ended
}

/// `DESTROY(st_rv)`
pub fn destroy(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    if let Some(object) = Object::of(perl, args.get(0))? {
        if let Some(state) = recognise(perl, &object) {
            object.detach::<State>();
            object.clear_slot();
            perl.lend(|| {
                state.callback.release(&state.stream);
                drop(state);
            })?;
        }
    }
    Ok(Answer::Empty)
}
