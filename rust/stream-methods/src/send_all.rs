//! `send_all` and `sparse_send_all`: libvirt's loops, with nothing of libvirt
//! under a handler.

use crate::calls;
use crate::errors::exception;
use crate::handlers::{blocking_only, call_on_hole, failed, failure, misuse, nonblocking, SENDER};
use crate::send;
use crate::state::{stream_behind, State};
use crate::transfer;
use libvirt::{Call, Sent, CHUNK};
use perlxs::{Answer, Args, Error, Handler, Perl, Scratch, Sv};
use std::ffi::CStr;

/// `send_all(stref, handler)`
pub fn send_all(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_behind(perl, args.get(0), Call::SendAll)?;
    let mut source = Source::new(perl, args);
    transfer::run(perl, state, |perl, state| {
        blocking_only(perl, state, SENDER)?;
        while source.step(perl, state, CHUNK)? > 0 {}
        Ok(Answer::Empty)
    })
}

/// `sparse_send_all(stref, handler, hole_handler, skip_handler)`
pub fn sparse_send_all(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_behind(perl, args.get(0), Call::SparseSendAll)?;
    let mut source = Source::new(perl, args);
    let holes = Handler::keep(perl, args.get(2));
    let skip = Handler::keep(perl, args.get(3));
    transfer::run(perl, state, |perl, state| {
        blocking_only(perl, state, SENDER)?;
        source.sparse(perl, state, &holes, &skip)?;
        Ok(Answer::Empty)
    })
}

/// Where the data comes from.
struct Source {
    stref: Sv,
    handler: Handler,
    data: Scratch,
}

impl Source {
    fn new(perl: &Perl, args: Args<'_>) -> Source {
        Source {
            stref: args.get(0).keep(perl),
            handler: Handler::keep(perl, args.get(1)),
            data: Scratch::new(perl),
        }
    }

    fn sparse(
        &mut self,
        perl: &mut Perl,
        state: &State,
        holes: &Handler,
        skip: &Handler,
    ) -> Result<(), Error> {
        let mut section: u64 = 0;
        loop {
            if section == 0 {
                let (in_data, length) = holes
                    .call_pair(perl, &[self.stref.as_arg()])?
                    .map_err(|errno| failure(perl, "send holeHandler", errno))?;
                if length < 0 {
                    let why = format!("it returned a length of {}", length);
                    return Err(misuse(perl, "send holeHandler", &why));
                }
                if in_data as i32 == 0 && length != 0 {
                    self.hole(perl, state, skip, length)?;
                    continue;
                }
                section = length as u64;
            }
            let want = section.min(CHUNK as u64) as usize;
            let sent = self.step(perl, state, want)?;
            if sent == 0 {
                return Ok(());
            }
            if sent > want {
                let why = format!("it returned {}, where {} bytes were asked for", sent, want);
                return Err(misuse(perl, "send handler", &why));
            }
            section -= sent as u64;
        }
    }

    fn hole(
        &mut self,
        perl: &mut Perl,
        state: &State,
        skip: &Handler,
        length: i64,
    ) -> Result<(), Error> {
        send::hole(perl, state, length, 0)?;
        let length = Sv::int(perl, length);
        call_on_hole(
            perl,
            skip,
            self.stref.as_arg(),
            length.as_arg(),
            "send skipHandler",
        )?;
        perl.run_signal_handlers()
    }

    /// Has the handler supply data, and sends it: `want` bytes are asked for.
    /// Returns how many were sent; 0 at the end of the source.
    fn step(&mut self, perl: &mut Perl, state: &State, want: usize) -> Result<usize, Error> {
        let count = Sv::int(perl, want as i64);
        let data = self.data.empty(perl)?;
        let returned = self
            .handler
            .call(perl, &[self.stref.as_arg(), data, count.as_arg()])?;
        if failed(&returned) {
            return Err(failure(perl, "send handler", returned.errno));
        }
        perl.run_signal_handlers()?;
        let claimed = u64::try_from(returned.value).unwrap_or(u64::MAX);
        if want == 0 || claimed == 0 {
            return Ok(0);
        }
        let sent = self.send(perl, state, claimed)?;
        self.data.used(perl);
        Ok(sent)
    }

    /// Sends the first `claimed` bytes of what the handler supplied.
    fn send(&self, perl: &mut Perl, state: &State, claimed: u64) -> Result<usize, Error> {
        if calls::is_quiet(perl, state) {
            let quiet = perl.quiet();
            let sent = self.data.plain_bytes(&quiet).map(|bytes| {
                pieces(bytes, claimed, |piece| {
                    let sent = state.may_send().and_then(|()| state.stream.send(piece));
                    sent.map_err(Wrong::Libvirt)
                })
            });
            if let Some(sent) = sent {
                return sent.map_err(|wrong| wrong.raise(perl));
            }
        }
        let what = CStr::from_bytes_with_nul(b"send handler\0").unwrap_or_default();
        let bytes = self.data.bytes(perl, what)?;
        let bytes = bytes.as_deref().unwrap_or(&[]);
        let sent = pieces(bytes, claimed, |piece| {
            send::bytes(perl, state, piece).map_err(Wrong::Raised)
        });
        sent.map_err(|wrong| wrong.raise(perl))
    }
}

/// Why what a handler supplied can't be sent.
enum Wrong {
    Claim { claimed: u64, holds: usize },
    NonBlocking,
    Libvirt(libvirt::Error),
    Raised(Error),
}

impl Wrong {
    fn raise(self, perl: &Perl) -> Error {
        match self {
            Wrong::Claim { claimed, holds } => {
                let why = format!(
                    "it returned {}, but its scalar holds {} bytes",
                    claimed, holds
                );
                misuse(perl, "send handler", &why)
            }
            // A stream made elsewhere: only now it shows.
            Wrong::NonBlocking => nonblocking(perl, SENDER),
            Wrong::Libvirt(error) => exception(perl, error),
            Wrong::Raised(error) => error,
        }
    }
}

/// Sends the first `claimed` of `bytes`, no more at a time than libvirt's loop does.
fn pieces(
    bytes: &[u8],
    claimed: u64,
    mut send: impl FnMut(&[u8]) -> Result<Sent, Wrong>,
) -> Result<usize, Wrong> {
    let holds = bytes.len();
    let all = usize::try_from(claimed)
        .ok()
        .and_then(|len| bytes.get(..len))
        .ok_or(Wrong::Claim { claimed, holds })?;
    let mut left = all;
    while !left.is_empty() {
        match send(&left[..left.len().min(CHUNK)])? {
            Sent::Data(len) => left = &left[len..],
            Sent::WouldBlock => return Err(Wrong::NonBlocking),
        }
    }
    Ok(all.len())
}
