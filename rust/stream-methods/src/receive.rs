//! `recv_all` and `sparse_recv_all`: libvirt's loops, with nothing of libvirt
//! under a handler.

use crate::errors::exception;
use crate::io::{self, Transfer};
use crate::state::{stream_behind, State};
use libvirt::{reason, Call, Received};
use perlxs::{Answer, Arg, Args, Chunk, Error, Handler, Perl, Returned, Sv};

/// What a handler's errno says; EIO where it says nothing.
pub fn failure(perl: &Perl, what: &str, errno: i32) -> Error {
    let eio = 5;
    let errno = if errno == 0 { eio } else { errno };
    exception(perl, libvirt::Error::handler(what, &reason(errno)))
}

/// A failure that has no errno.
pub fn misuse(perl: &Perl, what: &str, why: &str) -> Error {
    exception(perl, libvirt::Error::handler(what, why.as_bytes()))
}

/// Whether the handler failed: it said so, or it returned undef with `$!` set.
/// ENOTTY is no failure of its own: Perl's `open` leaves it behind.
pub fn failed(returned: &Returned) -> bool {
    let enotty = 25;
    returned.value < 0 || (!returned.defined && returned.errno != 0 && returned.errno != enotty)
}

/// Refuses a non-blocking stream, as libvirt's loops do.
pub fn blocking_only(perl: &Perl, state: &State, call: Call) -> Result<(), Error> {
    if state.is_nonblocking() {
        return Err(exception(perl, call.nonblocking(&state.stream)));
    }
    Ok(())
}

/// `recv_all(stref, handler)`
pub fn recv_all(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_behind(perl, args.get(0), Call::RecvAll)?;
    let transfer = Transfer::new(state);
    let mut sink = Sink::new(perl, args);
    sink.run(perl, transfer.state(), 0, None)?;
    transfer.done();
    Ok(Answer::Empty)
}

/// `sparse_recv_all(stref, handler, hole_handler)`
pub fn sparse_recv_all(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_behind(perl, args.get(0), Call::SparseRecvAll)?;
    let transfer = Transfer::new(state);
    let mut sink = Sink::new(perl, args);
    let holes = Handler::keep(perl, args.get(2));
    sink.run(
        perl,
        transfer.state(),
        libvirt::RECV_STOP_AT_HOLE,
        Some(&holes),
    )?;
    transfer.done();
    Ok(Answer::Empty)
}

/// Where the data goes.
struct Sink {
    stref: Sv,
    handler: Handler,
    chunk: Chunk,
}

impl Sink {
    fn new(perl: &Perl, args: Args<'_>) -> Sink {
        Sink {
            stref: args.get(0).keep(perl),
            handler: Handler::keep(perl, args.get(1)),
            chunk: Chunk::new(perl),
        }
    }

    fn run(
        &mut self,
        perl: &mut Perl,
        state: &State,
        flags: u32,
        holes: Option<&Handler>,
    ) -> Result<(), Error> {
        blocking_only(perl, state, Call::RecvAll)?;
        let mut spare = Vec::new();
        loop {
            match io::recv_chunk(perl, state, &mut self.chunk, &mut spare, flags)? {
                Received::Data(0) => return Ok(()),
                Received::Data(len) => self.deliver(perl, len)?,
                Received::AtHole => self.hole(perl, state, holes)?,
                // A stream made elsewhere: only now it shows.
                Received::WouldBlock => {
                    return Err(exception(perl, Call::RecvAll.nonblocking(&state.stream)))
                }
            }
        }
    }

    /// Hands a chunk to the handler, until it has taken all of it.
    fn deliver(&mut self, perl: &mut Perl, len: usize) -> Result<(), Error> {
        let mut offset = 0;
        while offset < len {
            let count = Sv::int(perl, (len - offset) as i64);
            let data = self.chunk.from(perl, offset)?;
            let returned = self
                .handler
                .call(perl, &[self.stref.as_arg(), data, count.as_arg()])?;
            if failed(&returned) {
                return Err(failure(perl, "recv handler", returned.errno));
            }
            if !returned.defined {
                let why = "it returned undef, not the number of bytes it has processed";
                return Err(misuse(perl, "recv handler", why));
            }
            offset = offset.saturating_add(returned.value as usize);
            perl.run_signal_handlers()?;
        }
        Ok(())
    }

    fn hole(
        &mut self,
        perl: &mut Perl,
        state: &State,
        holes: Option<&Handler>,
    ) -> Result<(), Error> {
        let length = io::call(perl, state, |stream| stream.recv_hole(0))?;
        let length = Sv::int(perl, length);
        if let Some(holes) = holes {
            call_on_hole(
                perl,
                holes,
                self.stref.as_arg(),
                length.as_arg(),
                "recv holeHandler",
            )?;
        }
        perl.run_signal_handlers()
    }
}

/// A handler that is told of a hole, and says whether it could follow.
pub fn call_on_hole(
    perl: &mut Perl,
    handler: &Handler,
    stref: Arg<'_>,
    length: Arg<'_>,
    what: &str,
) -> Result<(), Error> {
    let returned = handler.call(perl, &[stref, length])?;
    if failed(&returned) {
        return Err(failure(perl, what, returned.errno));
    }
    Ok(())
}
