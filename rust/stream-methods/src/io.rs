//! One libvirt call: made here, or from a second thread where this one has to
//! see to signals meanwhile.

use crate::errors::exception;
use crate::guard;
use crate::state::State;
use libvirt::{Received, Sent, Stream};
use perlxs::{Chunk, Error, Perl};
use std::rc::Rc;

/// Whether a call on this stream may block while the program has signal
/// handlers to run. An event loop written in Perl rules a second thread out:
/// libvirt would call it from there.
fn needs_watch(perl: &Perl, state: &State) -> bool {
    !state.is_nonblocking() && perl.has_signal_handlers() && !perl.watched()
}

/// Makes a call. What a callback threw meanwhile comes first.
pub fn call<T: Send + 'static>(
    perl: &mut Perl,
    state: &State,
    work: impl FnOnce(&Stream) -> Result<T, libvirt::Error> + Send + 'static,
) -> Result<T, Error> {
    if !needs_watch(perl, state) {
        return call_here(perl, state, work);
    }
    watched(perl, &state.stream, work)?.map_err(|e| exception(perl, e))
}

/// Makes a call on this thread, whatever signals may come.
pub fn call_here<T>(
    perl: &mut Perl,
    state: &State,
    work: impl FnOnce(&Stream) -> Result<T, libvirt::Error>,
) -> Result<T, Error> {
    guard::inside(perl, |perl| {
        work(&state.stream).map_err(|e| exception(perl, e))
    })
}

/// Perl's signal handlers, run while a call waits.
struct Handlers<'p>(&'p mut Perl);

impl libvirt::Meanwhile for Handlers<'_> {
    type Error = Error;

    fn pending(&mut self) -> bool {
        self.0.has_pending_signals()
    }

    fn run(&mut self) -> Result<(), Error> {
        self.0.run_signal_handlers()
    }
}

fn watched<T: Send + 'static>(
    perl: &mut Perl,
    stream: &Stream,
    work: impl FnOnce(&Stream) -> T + Send + 'static,
) -> Result<T, Error> {
    let (theirs, to_cut, to_nudge) = (stream.clone(), stream.clone(), stream.clone());
    libvirt::watched(
        move || work(&theirs),
        Handlers(perl),
        move || to_cut.cut(),
        move || to_nudge.nudge(),
    )
    .map_err(|e| Error::message(format!("no thread to call libvirt from: {}", e)))?
}

/// Receives at most `want` bytes into a buffer of its own.
pub fn recv_owned(
    perl: &mut Perl,
    state: &State,
    buffer: Vec<u8>,
    want: usize,
    flags: u32,
) -> Result<(Received, Vec<u8>), Error> {
    call(perl, state, move |stream| {
        stream.recv_owned(buffer, want, flags)
    })
}

/// The same for a whole file: what was received ahead first, and then in large pieces.
pub fn recv_blocks(
    perl: &mut Perl,
    state: &State,
    buffer: Vec<u8>,
    want: usize,
    flags: u32,
) -> Result<(Received, Vec<u8>), Error> {
    if !state.ahead().is_empty() {
        let unread = state.ahead().take(want);
        return Ok((Received::Data(unread.len()), unread));
    }
    call(perl, state, move |stream| {
        stream.recv_blocks(buffer, want, flags)
    })
}

/// Receives into `chunk`, straight into its buffer where no second thread is in play.
pub fn recv_chunk(
    perl: &mut Perl,
    state: &State,
    chunk: &mut Chunk,
    spare: &mut Vec<u8>,
    flags: u32,
) -> Result<Received, Error> {
    let unread = state.ahead().take(libvirt::CHUNK);
    let got = if !unread.is_empty() {
        chunk.set(perl, &unread);
        Received::Data(unread.len())
    } else if needs_watch(perl, state) {
        let buffer = std::mem::take(spare);
        let (got, buffer) = recv_owned(perl, state, buffer, libvirt::CHUNK, flags)?;
        if let Received::Data(_) = got {
            chunk.set(perl, &buffer);
        }
        *spare = buffer;
        got
    } else {
        let space = chunk.room(perl, libvirt::CHUNK)?;
        let space = space.ok_or_else(|| exception(perl, libvirt::Error::memory(libvirt::CHUNK)))?;
        let got = call_here(perl, state, |stream| stream.recv(space, flags))?;
        if let Received::Data(len) = got {
            chunk.filled(len);
        }
        got
    };
    perl.run_signal_handlers()?;
    Ok(got)
}

/// Sends from `bytes`, which no Perl code can change.
pub fn send(perl: &mut Perl, state: &State, bytes: &[u8]) -> Result<Sent, Error> {
    if needs_watch(perl, state) {
        let mut copy = Vec::new();
        copy.try_reserve_exact(bytes.len())
            .map_err(|_| exception(perl, libvirt::Error::memory(bytes.len())))?;
        copy.extend_from_slice(bytes);
        let bytes = copy;
        return call(perl, state, move |stream| stream.send(&bytes));
    }
    call_here(perl, state, |stream| stream.send(bytes))
}

/// Sends all of `bytes`, no more at a time than libvirt's loop does; false where the
/// stream does not block, which not every stream says beforehand.
pub fn send_whole(perl: &mut Perl, state: &State, mut bytes: &[u8]) -> Result<bool, Error> {
    while !bytes.is_empty() {
        match send(perl, state, &bytes[..bytes.len().min(libvirt::CHUNK)])? {
            Sent::Data(len) => bytes = &bytes[len..],
            Sent::WouldBlock => return Ok(false),
        }
        perl.run_signal_handlers()?;
    }
    Ok(true)
}

/// A stream in a transfer: aborted by Drop, unless it is `done`.
pub struct Transfer {
    state: Rc<State>,
    done: bool,
}

impl Transfer {
    pub fn new(state: Rc<State>) -> Transfer {
        Transfer { state, done: false }
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if !self.done {
            self.state.abandon();
        }
    }
}
