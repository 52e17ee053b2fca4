//! Makes calls of libvirt's, in the way that `way` decides: on this thread, or on another one, so
//! that signal handlers run meanwhile, or so that a call can be left that is not answered.

use crate::callback;
use crate::errors::exception;
use crate::phase::{Phase, Step};
use crate::reentrant;
use crate::state::State;
use crate::way::{Facts, Kind, Way};
use libvirt::{Nudges, Outcome, Process, Stream};
use perlxs::{Error, Perl, Woken};
use std::os::unix::io::RawFd;
use std::time::Duration;

/// How a call on the stream is made now.
pub fn way(perl: &Perl, state: &State, kind: Kind) -> Way {
    let is_late = matches!(state.phase(), Phase::Ended(_)) && state.stream.is_remote();
    let facts = Facts {
        kind,
        runs_perl: reentrant::is_set() || kind == Kind::Aborts && state.abort_calls_back(),
        has_handlers: !state.is_nonblocking() && perl.has_signal_handlers(),
        is_late,
        is_busy: state.stream.is_busy(),
        is_unopened: kind != Kind::Moves && !state.is_opened(),
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
        Way::NotNow => {
            let why = "another call on the stream is under way";
            return Err(exception(perl, libvirt::Error::invalid(why)));
        }
        Way::Here => return here(perl, state, work),
        Way::Aside {
            limit,
            runs_handlers,
        } => (limit, runs_handlers),
    };
    let stream = &state.stream;
    // A signal handler may have ended the stream meanwhile. Without a daemon nothing is made
    // beside a call: see `is_busy`.
    let alone = || kind != Kind::Moves || state.phase().is_over() || !stream.is_remote();
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
