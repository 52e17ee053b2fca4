//! A stream's beginning and end.

use crate::errors::exception;
use crate::guard;
use crate::io;
use crate::state::{not_blessed, recognise, stream_of, State};
use libvirt::{Call, Connection, Stream};
use perlxs::{Answer, Args, Error, Object, Perl, Sv, Xsub};
use std::ffi::CStr;

fn class() -> &'static CStr {
    CStr::from_bytes_with_nul(b"Sys::Virt::Stream\0").unwrap_or_default()
}

/// `_new_obj(con, flags=0)`
pub fn new_obj(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let object = Object::of(perl, args.get(0))?.ok_or_else(|| not_blessed("_new_obj", "con"))?;
    let flags = optional_flags(perl, args, 1)?;
    let connection = Connection::at(object.slot());
    // An event loop is registered before a connection is opened.
    libvirt::keep_to_one_thread(perl.watched());
    let stream = Stream::new(connection, flags).map_err(|e| exception(perl, e))?;
    let reference = Sv::object(perl, class(), stream.address());
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

/// What the relay around a call that opens streams asks: before it, which ends
/// what the stream was open for (libvirt would lose sight of that), and when it
/// has succeeded, with one argument more.
fn opens(perl: &mut Perl, args: Args<'_>, receives: bool, sends: bool) -> Result<Answer, Error> {
    let object = Object::of(perl, args.get(1))?;
    if let Some(state) = object.and_then(|object| recognise(perl, object)) {
        if args.optional(2).is_some() {
            state.opened(receives, sends);
        } else if state.stream.is_active() {
            guard::inside(perl, |_| {
                state.abandon();
                Ok(())
            })?;
        }
    }
    Ok(Answer::Int(0))
}

static RECEIVES: Xsub = perlxs::unnamed!(|perl, args| opens(perl, args, true, false));
static SENDS: Xsub = perlxs::unnamed!(|perl, args| opens(perl, args, false, true));
static BOTH: Xsub = perlxs::unnamed!(|perl, args| opens(perl, args, true, true));

/// `_opener(code, receives, sends)`: a code reference that calls `code`, an XSUB
/// that opens its second argument; `code` itself where it is no XSUB.
pub fn opener(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let way = match (args.get(1).uv(perl)? != 0, args.get(2).uv(perl)? != 0) {
        (_, false) => &RECEIVES,
        (false, true) => &SENDS,
        (true, true) => &BOTH,
    };
    guard::around(perl, args.get(0), way)
}

/// `finish(st)`
pub fn finish(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_of(perl, args.get(0), "finish", Call::Finish)?;
    complete(perl, &state)?;
    Ok(Answer::Empty)
}

/// Ends a transfer that is complete. One that a whole file has ended already stays so.
pub fn complete(perl: &mut Perl, state: &State) -> Result<(), Error> {
    let whole = state.is_whole();
    guard::inside(perl, |perl| {
        let call = || {
            io::call(perl, state, move |stream| match stream.finish() {
                Err(error) if whole && error.is_of_closed() => Ok(()),
                finished => finished,
            })
        };
        state.callback.ending(state, false, call)
    })
}

/// `abort(st)`
pub fn abort(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_of(perl, args.get(0), "abort", Call::Abort)?;
    // An abort may run the callback, which belongs on this thread.
    let here = state.callback.is_active();
    guard::inside(perl, |perl| {
        let call = || match here {
            true => io::call_here(perl, &state, |stream| stream.abort()),
            false => io::call(perl, &state, |stream| stream.abort()),
        };
        state.callback.ending(&state, true, call)
    })?;
    Ok(Answer::Empty)
}

/// `DESTROY(st_rv)`
pub fn destroy(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    if let Some(object) = Object::of(perl, args.get(0))? {
        if let Some(state) = recognise(perl, object) {
            object.detach::<State>();
            object.clear_slot();
            guard::inside(perl, |_| {
                state.callback.release(&state.stream);
                drop(state);
                Ok(())
            })?;
        }
    }
    Ok(Answer::Empty)
}
