//! How far a transfer has come: for the program to show, and what it returns.

use perlxs::{Answer, Error, Handler, Perl, Sv};
use std::time::{Duration, Instant};

/// How often the program is told, at most.
const PAUSE: Duration = Duration::from_millis(250);

pub struct Progress {
    handler: Option<Handler>,
    /// All bytes that there will be, as far as is known.
    pub total: Option<u64>,
    began: Instant,
    told: Instant,
    /// All bytes so far, also those in holes.
    pub bytes: u64,
    pub holes: u64,
}

impl Progress {
    pub fn new(handler: Option<Handler>, total: Option<u64>) -> Progress {
        let now = Instant::now();
        Progress {
            handler,
            total,
            began: now,
            told: now,
            bytes: 0,
            holes: 0,
        }
    }

    /// Bytes of a hole have been passed over.
    pub fn hole(&mut self, length: u64) {
        self.bytes = self.bytes.saturating_add(length);
        self.holes = self.holes.saturating_add(length);
    }

    /// Runs signal handlers, and tells the program if it is time to.
    pub fn step(&mut self, perl: &mut Perl) -> Result<(), Error> {
        perl.run_signal_handlers()?;
        if self.handler.is_some() && self.told.elapsed() >= PAUSE {
            self.tell(perl)?;
            self.told = Instant::now();
        }
        Ok(())
    }

    /// Tells the program how far it has come.
    pub fn tell(&self, perl: &mut Perl) -> Result<(), Error> {
        if let Some(handler) = &self.handler {
            let count = |count: u64| Sv::int(perl, count as i64);
            let (bytes, holes) = (count(self.bytes), count(self.holes));
            let total = self.total.map_or_else(|| Sv::undef(perl), count);
            handler.call_discard(perl, &[bytes.as_arg(), holes.as_arg(), total.as_arg()])?;
        }
        Ok(())
    }

    /// What the transfer returns.
    pub fn answer(&self, perl: &Perl) -> Answer {
        let seconds = self.began.elapsed().as_secs_f64();
        let fields = vec![
            ("bytes", Sv::int(perl, self.bytes as i64)),
            ("holes", Sv::int(perl, self.holes as i64)),
            ("seconds", Sv::number(perl, seconds)),
        ];
        Answer::Sv(Sv::hash(perl, None, fields))
    }
}
