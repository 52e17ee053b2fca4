//! What the threads of a pump know of each stream.

use super::end::SocketEnd;
use crate::{Error, Stream};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// Where the data of a stream is on its way to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Down {
    /// The stream does not receive.
    None,
    /// There is room, and libvirt has nothing: the waiter may wait for it.
    Idle,
    /// libvirt has something: the mover's turn.
    Ready,
    /// A thread has it in hand.
    Busy,
    /// The socket is full.
    Full,
    /// The end has been given, or none will come.
    Ended,
}

/// Where the program's data is on its way to the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Up {
    /// The stream does not send.
    None,
    Open,
    Ended,
}

/// A stream, and our end of its socket.
pub(crate) struct Slot {
    pub stream: Stream,
    pub end: SocketEnd,
}

pub(crate) struct Entry {
    pub slot: Arc<Slot>,
    pub down: Down,
    /// libvirt has something of the stream's.
    pub readable: bool,
    /// What the socket had no room for: the bytes from `given` on.
    pub held: Vec<u8>,
    pub given: usize,
    pub up: Up,
    /// The sender has something in hand.
    pub sending: bool,
    /// The first error.
    pub failed: Option<Error>,
    /// Who waits for something to change here.
    pub watched: Option<UnixStream>,
}

impl Entry {
    fn changed(&self) {
        if let Some(bell) = &self.watched {
            let _ = (&*bell).write(b"!");
        }
    }
}

#[derive(Default)]
pub(crate) struct Table {
    entries: HashMap<u64, Entry>,
    idle: BTreeSet<u64>,
    ready: VecDeque<u64>,
    next: u64,
    /// What the waiter waits for, or has just received.
    pub waits_for: Option<Arc<Slot>>,
    /// Buffers that were used before: a new one of that size costs more.
    spare: Vec<Vec<u8>>,
    /// Which threads have been started.
    pub receives: bool,
    pub sends: bool,
    /// The threads are to end, and no stream comes any more.
    pub is_over: bool,
}

impl Table {
    pub fn add(&mut self, entry: Entry) -> u64 {
        self.next += 1;
        self.entries.insert(self.next, entry);
        self.next
    }

    pub fn get(&mut self, number: u64) -> Option<&mut Entry> {
        self.entries.get_mut(&number)
    }

    pub fn remove(&mut self, number: u64) -> Option<Entry> {
        self.idle.remove(&number);
        self.entries.remove(&number)
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn make_idle(&mut self, number: u64) {
        self.idle.insert(number);
    }

    /// The stream, which is idle, is the mover's next.
    pub fn make_ready(&mut self, number: u64) {
        self.idle.remove(&number);
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.down = Down::Ready;
            self.ready.push_back(number);
        }
    }

    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next that is ready, Busy from now on.
    pub fn take_ready(&mut self) -> Option<(u64, Arc<Slot>)> {
        while let Some(number) = self.ready.pop_front() {
            if let Some(entry) = self.entries.get_mut(&number) {
                entry.down = Down::Busy;
                return Some((number, Arc::clone(&entry.slot)));
            }
        }
        None
    }

    /// Any that is idle, Busy from now on.
    pub fn take_idle(&mut self) -> Option<(u64, Arc<Slot>)> {
        let number = *self.idle.iter().next()?;
        self.idle.remove(&number);
        let entry = self.entries.get_mut(&number)?;
        entry.down = Down::Busy;
        Some((number, Arc::clone(&entry.slot)))
    }

    pub fn take_buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// The threads that receive have two buffers in hand at most.
    pub fn put_buffer(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < 2 {
            self.spare.push(buffer);
        }
    }

    pub fn ends_down(&mut self, number: u64, error: Option<Error>) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.down = Down::Ended;
            entry.held = Vec::new();
            entry.failed = entry.failed.take().or(error);
            entry.changed();
        }
    }

    pub fn ends_up(&mut self, number: u64, error: Option<Error>) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.up = Up::Ended;
            entry.failed = entry.failed.take().or(error);
        }
    }

    pub fn has_sent(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.sending = false;
            entry.changed();
        }
    }
}
