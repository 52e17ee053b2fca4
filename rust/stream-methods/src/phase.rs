//! What state a stream is in. Nothing here calls Perl or libvirt.

use self::Phase::{Cut, Ended, New, Open};
use libvirt::Ways;

/// The state of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No call was seen that opened it. Other code may have opened it.
    New,
    Open(Ways),
    Ended(End),
    /// An abort has interrupted a call, or a call that ends the stream was left
    /// unanswered: nothing more is asked of libvirt.
    Cut,
}

/// How a stream has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Finished,
    Aborted,
    /// Finished by `recv_file` or `send_file`, without an error.
    File,
}

/// What happens to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Open(Ways),
    End(End),
    Cut,
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its data goes the other way: libvirt would wait for ever, or lose what is sent.
    OneWay,
    Closed,
}

impl Phase {
    pub fn after(self, step: Step) -> Phase {
        match (self, step) {
            (_, Step::Open(ways)) => Open(ways),
            (_, Step::Cut) | (Cut, Step::End(_)) => Cut,
            (Ended(End::Finished), Step::End(End::File)) => Ended(End::File),
            (Ended(end), Step::End(_)) => Ended(end),
            (New | Open(_), Step::End(end)) => Ended(end),
        }
    }

    pub fn may_receive(self) -> Result<(), Refusal> {
        match self {
            Open(Ways {
                receives: false, ..
            }) => Err(Refusal::OneWay),
            other => other.may_end(),
        }
    }

    pub fn may_send(self) -> Result<(), Refusal> {
        match self {
            Open(Ways { sends: false, .. }) => Err(Refusal::OneWay),
            other => other.may_end(),
        }
    }

    /// Whether `finish`, `abort` and the like may be asked of libvirt.
    pub fn may_end(self) -> Result<(), Refusal> {
        match self {
            Cut => Err(Refusal::Closed),
            New | Open(_) | Ended(_) => Ok(()),
        }
    }

    pub fn is_open(self) -> bool {
        matches!(self, Open(_))
    }

    /// Whether there is nothing left to abort.
    pub fn is_over(self) -> bool {
        matches!(self, Ended(_) | Cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOWN: Ways = Ways {
        receives: true,
        sends: false,
    };
    const UP: Ways = Ways {
        receives: false,
        sends: true,
    };
    const BOTH: Ways = Ways {
        receives: true,
        sends: true,
    };
    const PHASES: [Phase; 8] = [
        New,
        Open(DOWN),
        Open(UP),
        Open(BOTH),
        Ended(End::Finished),
        Ended(End::Aborted),
        Ended(End::File),
        Cut,
    ];
    const ENDS: [End; 3] = [End::Finished, End::Aborted, End::File];

    #[test]
    fn every_stream_can_be_opened_and_cut() {
        for phase in PHASES {
            for ways in [DOWN, UP, BOTH] {
                assert_eq!(phase.after(Step::Open(ways)), Open(ways));
            }
            assert_eq!(phase.after(Step::Cut), Cut);
        }
    }

    #[test]
    fn the_first_end_counts_and_a_cut_stream_stays_cut() {
        for phase in PHASES {
            for end in ENDS {
                let expected = match phase {
                    Ended(End::Finished) if end == End::File => Ended(end),
                    Ended(first) => Ended(first),
                    Cut => Cut,
                    New | Open(_) => Ended(end),
                };
                assert_eq!(phase.after(Step::End(end)), expected);
            }
        }
    }

    #[test]
    fn only_what_is_open_one_way_or_cut_is_refused() {
        for phase in PHASES {
            let cut = if phase == Cut {
                Err(Refusal::Closed)
            } else {
                Ok(())
            };
            let one_way = |ways| match phase == Open(ways) {
                true => Err(Refusal::OneWay),
                false => cut,
            };
            assert_eq!(phase.may_receive(), one_way(UP));
            assert_eq!(phase.may_send(), one_way(DOWN));
            assert_eq!(phase.may_end(), cut);
        }
    }

    #[test]
    fn a_stream_is_open_or_over_or_new() {
        for phase in PHASES {
            let kinds = [phase == New, phase.is_open(), phase.is_over()];
            assert_eq!(kinds.iter().filter(|kind| **kind).count(), 1, "{:?}", phase);
        }
    }
}
