//! How a call of libvirt's is to be made. All that is decided about that is decided here.

use libvirt::PATIENCE;
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
    /// It aborts the stream, and nobody has asked for it: the stream is dropped, or a transfer
    /// has failed.
    Drops,
}

impl Kind {
    /// How long it may take in any state, where there is a limit.
    fn limit(self) -> Option<Duration> {
        match self {
            Kind::Moves | Kind::Finishes => None,
            Kind::Aborts => Some(ANSWER),
            Kind::Drops => Some(PATIENCE),
        }
    }
}

/// All that decides how a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    pub kind: Kind,
    /// Perl code may run under the call, which belongs on this thread: `reentrant`, or the
    /// stream's own callback under an abort.
    pub runs_perl: bool,
    /// The program has set a handler in %SIG, and the stream blocks.
    pub has_handlers: bool,
    /// The stream has ended, and a daemon is behind it: the client may have forgotten it,
    /// and wait for what never comes.
    pub is_late: bool,
    /// No call has opened the stream that is to end: libvirt answers by itself.
    pub is_unopened: bool,
    /// Another thread's call on the stream goes on, and no daemon is behind it: libvirt guards no
    /// call on such a stream against another.
    pub is_busy: bool,
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
    /// Not before the one that is under way has returned.
    NotNow,
}

impl Facts {
    pub fn way(self) -> Way {
        let limit = self.kind.limit().or(self.is_late.then_some(ANSWER));
        if self.is_busy {
            return Way::NotNow;
        }
        match self.runs_perl || self.is_unopened {
            true if self.is_late => Way::Never,
            true => Way::Here,
            false if limit.is_some() || self.has_handlers => Way::Aside {
                limit,
                runs_handlers: self.has_handlers,
            },
            false => Way::Here,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perl_code_stays_on_its_thread_and_what_may_hang_has_a_limit() {
        for kind in [Kind::Moves, Kind::Finishes, Kind::Aborts, Kind::Drops] {
            for bits in 0..32 {
                let bit = |at: u8| bits & (1 << at) != 0;
                let (runs_perl, has_handlers, is_late) = (bit(0), bit(1), bit(2));
                let facts = Facts {
                    kind,
                    runs_perl,
                    has_handlers,
                    is_late,
                    is_unopened: bit(3),
                    is_busy: bit(4),
                };
                let stays = runs_perl || facts.is_unopened;
                let may_hang = is_late || matches!(kind, Kind::Aborts | Kind::Drops);
                match facts.way() {
                    Way::Here => assert!(!is_late && (stays || !has_handlers && !may_hang)),
                    Way::NotNow => assert!(facts.is_busy),
                    _ if facts.is_busy => panic!("{:?}", facts),
                    Way::Never => assert!(stays && is_late),
                    Way::Aside {
                        limit,
                        runs_handlers,
                    } => {
                        assert!(!stays && (has_handlers || may_hang));
                        assert_eq!(limit.is_some(), may_hang);
                        assert_eq!(runs_handlers, has_handlers);
                    }
                }
            }
        }
    }
}
