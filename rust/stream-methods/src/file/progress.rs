//! How far a transfer has come: for the program to show, and what it returns; and how
//! fast it may be.

use crate::file::digest::Digest;
use crate::file::options::Options;
use perlxs::{Answer, Error, Handler, Perl, Sv};
use std::time::{Duration, Instant};

/// How often the program is told, at most.
const PAUSE: Duration = Duration::from_millis(250);

/// What a pause of the other side can be made good for, where there is a limit.
const CREDIT: Duration = Duration::from_secs(1);

/// The descriptor that nothing is read from: a wait for a signal, or for time.
const NO_FILE: i32 = -1;

pub struct Progress {
    handler: Option<Handler>,
    /// All bytes that there will be, as far as is known.
    pub total: Option<u64>,
    began: Instant,
    told: Instant,
    /// All bytes so far, also those in holes.
    pub bytes: u64,
    pub holes: u64,
    digest: Option<Digest>,
    /// Bytes in a second, and when the next of them is due.
    limit: Option<u64>,
    due: Instant,
}

impl Progress {
    pub fn new(total: Option<u64>, options: &mut Options) -> Progress {
        let now = Instant::now();
        Progress {
            handler: options.progress.take(),
            total,
            began: now,
            told: now,
            bytes: 0,
            holes: 0,
            digest: options.digest.then(Digest::default),
            limit: options.limit,
            due: now,
        }
    }

    /// Bytes have come.
    pub fn data(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if let Some(digest) = &mut self.digest {
            digest.data(bytes);
        }
        if let Some(limit) = self.limit {
            let takes = Duration::from_secs_f64(bytes.len() as f64 / limit as f64);
            self.due += takes;
        }
    }

    /// Bytes of a hole have been passed over.
    pub fn hole(&mut self, length: u64) {
        self.bytes = self.bytes.saturating_add(length);
        self.holes = self.holes.saturating_add(length);
        if let Some(digest) = &mut self.digest {
            digest.zeroes(length);
        }
    }

    /// How much of a hole to pass over at a time, so that signals and the program need
    /// not wait for its digest.
    pub fn stride(&self, length: u64) -> u64 {
        const MOST: u64 = 16 << 20;
        match self.digest {
            Some(_) => length.min(MOST),
            None => length,
        }
    }

    /// Runs signal handlers, tells the program if it is time to, and keeps to the limit.
    pub fn step(&mut self, perl: &mut Perl) -> Result<(), Error> {
        self.tell_now_and_then(perl)?;
        if self.limit.is_none() {
            return Ok(());
        }
        let now = Instant::now();
        let earliest = now.checked_sub(CREDIT).unwrap_or(now);
        self.due = self.due.max(earliest);
        loop {
            let wait = self.due.saturating_duration_since(Instant::now());
            if wait == Duration::ZERO {
                return Ok(());
            }
            perl.wait(NO_FILE, Some(wait.min(PAUSE)))?;
            self.tell_now_and_then(perl)?;
        }
    }

    fn tell_now_and_then(&mut self, perl: &mut Perl) -> Result<(), Error> {
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
        let mut fields = vec![
            ("bytes", Sv::int(perl, self.bytes as i64)),
            ("holes", Sv::int(perl, self.holes as i64)),
            ("seconds", Sv::number(perl, seconds)),
        ];
        if let Some(digest) = &self.digest {
            fields.push(("digest", Sv::bytes(perl, digest.text().as_bytes())));
        }
        Answer::Sv(Sv::hash(perl, None, fields))
    }
}
