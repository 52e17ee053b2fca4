//! How a call of libvirt's is made: on this thread, or on another one, so that signal
//! handlers run meanwhile, or so that a call can be left that is not answered.

use crate::callback;
use crate::errors::exception;
use crate::phase::{Phase, Step};
use crate::reentrant;
use crate::state::State;
use libvirt::{Nudges, Outcome, Process, Stream};
use perlxs::{Error, Perl, Woken};
use std::os::unix::io::RawFd;
use std::time::Duration;

/// How long a call may take that libvirt may never return from.
const ANSWER: Duration = Duration::from_secs(10);

/// What a call does, as far as that decides how it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It moves data, or a hole. An abort makes it return.
    Moves,
    /// It asks the other side to complete the stream. An abort on its way beside it
    /// would lose the connection: two answers come, and libvirt expects one.
    Finishes,
    /// It aborts the stream, which may run the stream's callback. A daemon that has lost
    /// sight of a stream never answers.
    Aborts,
}

/// All that decides how a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Facts {
    kind: Kind,
    /// Perl code may run under the call, which belongs on this thread: `reentrant`, or the
    /// stream's own callback under an abort.
    runs_perl: bool,
    /// The program has set a handler in %SIG, and the stream blocks.
    has_handlers: bool,
    /// The stream has ended, and a daemon is behind it: the client may have forgotten it,
    /// and wait for what never comes.
    is_late: bool,
}

/// How a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Here,
    Aside {
        limit: Option<Duration>,
        runs_handlers: bool,
    },
    /// Not at all, since it might never return.
    Never,
}

impl Facts {
    fn way(self) -> Way {
        let may_hang = self.is_late || self.kind == Kind::Aborts;
        match self.runs_perl {
            true if self.is_late => Way::Never,
            true => Way::Here,
            false if may_hang || self.has_handlers => Way::Aside {
                limit: may_hang.then_some(ANSWER),
                runs_handlers: self.has_handlers,
            },
            false => Way::Here,
        }
    }
}

/// How a call on the stream is made now.
pub fn way(perl: &Perl, state: &State, kind: Kind) -> Way {
    let is_late = matches!(state.phase(), Phase::Ended(_)) && state.stream.is_remote();
    let facts = Facts {
        kind,
        runs_perl: reentrant::is_set() || kind == Kind::Aborts && state.abort_calls_back(),
        has_handlers: !state.is_nonblocking() && perl.has_signal_handlers(),
        is_late,
    };
    facts.way()
}

/// Whether a call that moves data is made on this thread, and no Perl code runs under it.
pub fn is_quiet(perl: &Perl, state: &State) -> bool {
    !reentrant::is_set() && way(perl, state, Kind::Moves) == Way::Here
}

/// Makes a call. What a callback threw meanwhile comes first.
pub fn make<T: Send + 'static>(
    perl: &mut Perl,
    state: &State,
    kind: Kind,
    work: impl FnOnce(&Stream) -> Result<T, libvirt::Error> + Send + 'static,
) -> Result<T, Error> {
    let way = way(perl, state, kind);
    make_so(perl, state, kind, way, work)
}

/// Makes a call in the way that `way` has found.
pub fn make_so<T: Send + 'static>(
    perl: &mut Perl,
    state: &State,
    kind: Kind,
    way: Way,
    work: impl FnOnce(&Stream) -> Result<T, libvirt::Error> + Send + 'static,
) -> Result<T, Error> {
    let (limit, runs_handlers) = match way {
        Way::Never => return Err(exception(perl, libvirt::Error::closed())),
        Way::Here => return here(perl, state, work),
        Way::Aside {
            limit,
            runs_handlers,
        } => (limit, runs_handlers),
    };
    let stream = &state.stream;
    // A signal handler may have ended the stream meanwhile.
    let alone = || kind != Kind::Moves || state.phase().is_over();
    let outcome = if runs_handlers {
        let mut wait = Handlers::new(perl, stream, kind);
        stream.aside(work, limit, alone, &mut wait)
    } else {
        let made = stream.aside(work, limit, alone, &mut libvirt::Deaf);
        made.map(|outcome| match outcome {
            Outcome::Done(done) => Outcome::Done(done),
            Outcome::Unanswered => Outcome::Unanswered,
            Outcome::Interrupted(never) => match never {},
        })
    };
    match outcome {
        Ok(Outcome::Done(done)) => done.map_err(|e| exception(perl, e)),
        Ok(Outcome::Unanswered) => {
            state.step(Step::Cut);
            Err(exception(perl, libvirt::Error::unanswered()))
        }
        Ok(Outcome::Interrupted(error)) => {
            state.step(Step::Cut);
            Err(error)
        }
        Err(e) => Err(Error::message(format!(
            "no thread to call libvirt from: {}",
            e
        ))),
    }
}

/// Makes a call on this thread, whatever signals may come.
pub fn here<T>(
    perl: &mut Perl,
    state: &State,
    work: impl FnOnce(&Stream) -> Result<T, libvirt::Error>,
) -> Result<T, Error> {
    let done = perl.lend(|| work(&state.stream))?;
    callback::let_go();
    done.map_err(|e| exception(perl, e))
}

/// Perl's signal handlers, run while a call waits.
struct Handlers<'a> {
    perl: &'a mut Perl,
    stream: &'a Stream,
    /// A daemon may mistake another call for an answer while a stream ends.
    may_nudge: bool,
    process: Process,
}

impl<'a> Handlers<'a> {
    fn new(perl: &'a mut Perl, stream: &'a Stream, kind: Kind) -> Handlers<'a> {
        Handlers {
            perl,
            stream,
            may_nudge: kind == Kind::Moves,
            process: Process::this(),
        }
    }
}

impl libvirt::Wait for Handlers<'_> {
    type Error = Error;

    fn wait(&mut self, fd: RawFd, limit: Option<Duration>) -> Result<(), Error> {
        if self.perl.wait(fd, limit)? == Woken::Signal {
            let _nudges = self.may_nudge.then(|| Nudges::start(self.stream));
            self.perl.run_signal_handlers()?;
        }
        if self.process != Process::this() {
            // A handler has forked and returned in the child, which lacks the other thread.
            return Err(exception(self.perl, libvirt::Error::inherited()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perl_code_stays_on_its_thread_and_what_may_hang_has_a_limit() {
        for kind in [Kind::Moves, Kind::Finishes, Kind::Aborts] {
            for bits in 0..8 {
                let (runs_perl, has_handlers, is_late) =
                    (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
                let facts = Facts {
                    kind,
                    runs_perl,
                    has_handlers,
                    is_late,
                };
                let may_hang = is_late || kind == Kind::Aborts;
                match facts.way() {
                    Way::Here => assert!(!is_late && (runs_perl || !has_handlers && !may_hang)),
                    Way::Never => assert!(runs_perl && is_late),
                    Way::Aside {
                        limit,
                        runs_handlers,
                    } => {
                        assert!(!runs_perl && (has_handlers || may_hang));
                        assert_eq!(limit.is_some(), may_hang);
                        assert_eq!(runs_handlers, has_handlers);
                    }
                }
            }
        }
    }
}
