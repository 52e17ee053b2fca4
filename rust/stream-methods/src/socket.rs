//! A stream as one end of a socket pair: who moves its data, and what `finish` waits for.

use crate::callback::Owner;
use crate::errors::{exception, no_socket};
use crate::handlers::misuse;
use crate::phase::Phase;
use crate::reentrant;
use crate::socket_looped::Looped;
use crate::socket_pumped::Pump;
use crate::state::{stream_of, Settled, State};
use libvirt::socket::SocketEnd;
use libvirt::{Call, Ways};
use perlxs::{Answer, Args, Error, Perl};

/// `_open_socket(st, ours, theirs)`: the descriptors of the two ends. The first is duplicated.
pub fn open(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_of(perl, args.get(0), "socket", Call::Recv)?;
    let (ours, theirs) = (args.get(1).int(perl)?, args.get(2).int(perl)?);
    let ways = allowed(&state).map_err(|error| exception(perl, error))?;
    let has_loop = perl.lend(libvirt::socket::has_loop)?;
    if !has_loop && reentrant::is_set() {
        let why = "a stream's socket needs an event loop where a close callback is registered";
        return Err(exception(perl, libvirt::Error::invalid(why)));
    }
    let end = SocketEnd::new(ours, theirs).map_err(|error| no_socket(perl, &error))?;
    // What was received ahead comes first.
    let first = state.unread().take_vec(usize::MAX);
    state.unread().put_back(&first);
    match has_loop {
        true => Looped::start(perl, &state, end, ways, first)?,
        false => Pump::start(perl, &state, end, ways, first)?,
    }
    Ok(Answer::Empty)
}

/// Which ways the data goes, if the stream may have a socket.
fn allowed(state: &State) -> Result<Ways, libvirt::Error> {
    state.has_no_socket()?;
    if state.stream.is_inherited() {
        return Err(libvirt::Error::inherited());
    }
    if state.is_nonblocking() {
        return Err(libvirt::Error::nonblocking("sockets"));
    }
    if state.phase().is_over() {
        return Err(libvirt::Error::closed());
    }
    if !state.is_opened() {
        state.stream.recv(&mut [], 0)?; // libvirt's own error
    }
    if state.callback().is_active() {
        return Err(libvirt::Error::invalid("the stream has a callback"));
    }
    Ok(match state.phase() {
        Phase::Open(ways) => ways,
        _ => Ways {
            receives: true,
            sends: true,
        },
    })
}

/// Before a stream is finished: waits until its data has gone through the socket, if there is
/// one. If that fails, the stream is aborted.
pub fn settle(perl: &mut Perl, state: &State) -> Result<(), Error> {
    let settled = match state.socket() {
        None => return Ok(()),
        Some(_) if state.stream.is_inherited() => {
            return Err(exception(perl, libvirt::Error::inherited()))
        }
        Some(socket) => socket.settle(perl),
    };
    let error = match settled {
        Ok(Settled::Done) => return Ok(()),
        Ok(Settled::Open) => return Err(misuse(perl, "finish", OPEN)),
        Ok(Settled::Failed(error)) => exception(perl, error),
        Err(error) => error,
    };
    perl.lend_after_error(|| libvirt::keeping_errno(|| state.abandon()));
    Err(error)
}

const OPEN: &str = "the socket is open for writing; shut it down or close it first";
