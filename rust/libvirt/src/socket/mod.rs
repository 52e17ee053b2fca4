//! A stream as one end of a socket pair, where no event loop runs: threads move its data.

mod clock;
mod end;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod epoll;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod no_epoll;
mod nudger;
mod process;
mod pump;
mod table;
mod until;

pub use clock::{has_loop, is_taken};
pub use end::{Input, SocketEnd};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use epoll::Poller;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub use no_epoll::Poller;
pub use pump::{broken, send_whole};
pub use until::Until;

use self::pump::{Pumps, Shared};
use self::table::{Down, Entry, Slot, Up};
use crate::aside::PATIENCE;
use crate::reference::Process;
use crate::{Error, Stream, Ways};
use std::io::{self, Read};
use std::mem::ManuallyDrop;
use std::os::unix::io::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// Whether threads move the data of some socket. They have no interpreter, and call libvirt.
pub fn has_threads() -> bool {
    process::with(|pumps: &mut Pumps| pumps.count > 0)
}

/// A stream whose data threads move. Drop ends both sides of the socket, and leaves the stream
/// as it is.
pub struct Pumped(ManuallyDrop<Inner>);

struct Inner {
    shared: Arc<Shared>,
    number: u64,
    slot: Arc<Slot>,
    is_remote: bool,
    bell: Option<UnixStream>,
    process: Process,
}

/// How far the data has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// All that can be moved has been moved.
    Done,
    /// Some is under way.
    Moving,
    /// The program itself may still write.
    Open,
    Failed(Error),
}

/// Why there is no socket.
#[derive(Debug)]
pub enum NoSocket {
    System(io::Error),
    Libvirt(Error),
    /// A stream without a daemon, whose calls would wait for each other.
    TwoWays,
}

impl From<io::Error> for NoSocket {
    fn from(error: io::Error) -> NoSocket {
        NoSocket::System(error)
    }
}

impl Pumped {
    /// Moves data between the stream and `end`, beginning with `first`.
    pub fn start(
        stream: &Stream,
        end: SocketEnd,
        ways: Ways,
        first: Vec<u8>,
    ) -> Result<Pumped, NoSocket> {
        let is_remote = stream.is_remote();
        if !is_remote && ways.receives && ways.sends {
            return Err(NoSocket::TwoWays);
        }
        clock::register();
        let slot = Arc::new(Slot {
            stream: stream.clone(),
            end,
        });
        let (shared, number) = join(&slot, ways, first)?;
        let pumped = Pumped(ManuallyDrop::new(Inner {
            shared,
            number,
            slot,
            is_remote,
            bell: None,
            process: Process::this(),
        }));
        let inner = &pumped.0;
        if is_remote && ways.receives {
            clock::tell(stream, &inner.shared, number).map_err(NoSocket::Libvirt)?;
        }
        inner.shared.start(number);
        Ok(pumped)
    }

    /// How far it has come, for a stream that is to be finished.
    pub fn progress(&self) -> Progress {
        let mut table = self.0.shared.table();
        let entry = match table.get(self.0.number) {
            Some(entry) => entry,
            None => return Progress::Done,
        };
        if let Some(error) = &entry.failed {
            return Progress::Failed(error.clone());
        }
        let end = &entry.slot.end;
        match (entry.down, entry.up) {
            (_, Up::Open) if entry.sending || end.waiting() > 0 => Progress::Moving,
            (Down::None, Up::Open) if end.is_open_here() => Progress::Open,
            (Down::None, Up::Open) => Progress::Moving,
            (Down::Ended, Up::None) if end.was_left() => {
                let error = broken(&io::Error::from_raw_os_error(libc::EPIPE));
                entry.failed = Some(error.clone());
                Progress::Failed(error)
            }
            (Down::None | Down::Ended, _) | (_, Up::Open | Up::Ended) => Progress::Done,
            (_, Up::None) => Progress::Moving,
        }
    }

    /// A descriptor that is readable when `progress` may answer otherwise than it last did.
    pub fn bell(&mut self) -> io::Result<RawFd> {
        if self.0.bell.is_none() {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            theirs.set_nonblocking(true)?;
            if let Some(entry) = self.0.shared.table().get(self.0.number) {
                entry.watched = Some(theirs);
            }
            self.0.bell = Some(ours);
        }
        let mut bell = self.0.bell.as_ref();
        if let Some(bell) = &mut bell {
            while matches!(bell.read(&mut [0; 64]), Ok(1..)) {}
        }
        Ok(bell.map_or(-1, |bell| bell.as_raw_fd()))
    }
}

impl Drop for Pumped {
    fn drop(&mut self) {
        // In a child of a fork there are no threads, and locks may be held for ever.
        if self.0.process != Process::this() {
            return;
        }
        // SAFETY: once, and it is not used again.
        let inner = unsafe { ManuallyDrop::take(&mut self.0) };
        inner.shared.remove(inner.number);
        if inner.is_remote {
            clock::tell_no_more(&inner.slot.stream);
        }
        inner.slot.end.end();
        if !inner.is_remote {
            // libvirt does not guard a local stream against an end beside another call.
            let until = Instant::now() + PATIENCE;
            while Arc::strong_count(&inner.slot) > 1 && Instant::now() < until {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Has the pump of the stream's connection take it. A stream without a daemon, or of a
/// connection that is not known, has one of its own.
fn join(slot: &Arc<Slot>, ways: Ways, first: Vec<u8>) -> Result<(Arc<Shared>, u64), NoSocket> {
    let connection = slot.stream.connection().filter(|_| slot.stream.is_remote());
    let mut first = Some(first);
    loop {
        let known = connection.and_then(|connection| {
            process::with(|pumps: &mut Pumps| pumps.of.get(&connection).and_then(Weak::upgrade))
        });
        let shared = match known {
            Some(shared) => shared,
            None => Shared::new()?,
        };
        let entry = Entry {
            slot: Arc::clone(slot),
            down: match ways.receives {
                true => Down::Busy, // until all is ready
                false => Down::None,
            },
            readable: false,
            held: first.take().unwrap_or_default(),
            given: 0,
            up: match ways.sends {
                true => Up::Open,
                false => Up::None,
            },
            sending: false,
            failed: None,
            watched: None,
        };
        let held = entry.held.clone();
        match shared.add(entry)? {
            Some(number) => {
                if let Some(connection) = connection {
                    let weak = Arc::downgrade(&shared);
                    process::with(|pumps: &mut Pumps| {
                        pumps.of.retain(|_, pump| pump.strong_count() > 0);
                        pumps.of.insert(connection, weak);
                    });
                }
                return Ok((shared, number));
            }
            None => {
                // Its threads are ending.
                first = Some(held);
                if let Some(connection) = connection {
                    process::with(|pumps: &mut Pumps| pumps.of.remove(&connection));
                }
            }
        }
    }
}
