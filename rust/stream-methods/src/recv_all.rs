//! `recv_all` and `sparse_recv_all`: libvirt's loops, with nothing of libvirt
//! under a handler.

use crate::errors::exception;
use crate::handlers::{
    blocking_only, call_on_hole, failed, failure, misuse, nonblocking, RECEIVER,
};
use crate::recv;
use crate::state::{stream_behind, State};
use crate::transfer;
use libvirt::{Call, Received, CHUNK};
use perlxs::{Answer, Args, Chunk, Error, Handler, Perl, Sv};

/// `recv_all(stref, handler)`
pub fn recv_all(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    run(perl, args, Call::RecvAll, 0, None)
}

/// `sparse_recv_all(stref, handler, hole_handler)`
pub fn sparse_recv_all(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let holes = Handler::keep(perl, args.get(2));
    let flags = libvirt::RECV_STOP_AT_HOLE;
    run(perl, args, Call::SparseRecvAll, flags, Some(holes))
}

fn run(
    perl: &mut Perl,
    args: Args<'_>,
    call: Call,
    flags: u32,
    holes: Option<Handler>,
) -> Result<Answer, Error> {
    let state = stream_behind(perl, args.get(0), call)?;
    let mut sink = Sink::new(perl, args, holes);
    transfer::run(perl, state, |perl, state| sink.run(perl, state, flags))?;
    Ok(Answer::Empty)
}

/// Where the data goes.
struct Sink {
    stref: Sv,
    handler: Handler,
    holes: Option<Handler>,
    chunk: Chunk,
}

impl Sink {
    fn new(perl: &Perl, args: Args<'_>, holes: Option<Handler>) -> Sink {
        Sink {
            stref: args.get(0).keep(perl),
            handler: Handler::keep(perl, args.get(1)),
            holes,
            chunk: Chunk::new(perl),
        }
    }

    fn run(&mut self, perl: &mut Perl, state: &State, flags: u32) -> Result<(), Error> {
        blocking_only(perl, state, RECEIVER)?;
        loop {
            match self.receive(perl, state, flags)? {
                Received::Data(0) => return Ok(()),
                Received::Data(len) => self.deliver(perl, len)?,
                Received::AtHole => self.hole(perl, state)?,
                // A stream made elsewhere: only now it shows.
                Received::WouldBlock => return Err(nonblocking(perl, RECEIVER)),
            }
        }
    }

    fn receive(&mut self, perl: &mut Perl, state: &State, flags: u32) -> Result<Received, Error> {
        let space = self.chunk.room(perl, CHUNK)?;
        let space = space.ok_or_else(|| exception(perl, libvirt::Error::memory(CHUNK)))?;
        let got = recv::into(perl, state, space, flags)?;
        if let Received::Data(len) = got {
            self.chunk.filled(len);
        }
        perl.run_signal_handlers()?;
        Ok(got)
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

    fn hole(&mut self, perl: &mut Perl, state: &State) -> Result<(), Error> {
        let length = recv::hole(perl, state, 0)?;
        let length = Sv::int(perl, length);
        if let Some(holes) = &self.holes {
            let stref = self.stref.as_arg();
            call_on_hole(perl, holes, stref, length.as_arg(), "recv holeHandler")?;
        }
        perl.run_signal_handlers()
    }
}
