//! The threads that move the data of sockets: the same few for all sockets of a connection.
//!
//! libvirt reads a connection only while some thread waits for one of its streams. So the
//! *waiter* waits for any stream whose socket has room. What comes for the others meanwhile is
//! told by `clock`, and the *mover* receives it, without having to wait. The mover also gives
//! the rest where a socket was full. The *sender* sends what the program writes: libvirt may
//! keep it waiting.
//!
//! No lock of this module is held while libvirt is called.

use super::end::Input;
use super::nudger;
use super::process::{self, OfProcess, Place};
use super::table::{Down, Entry, Slot, Table, Up};
use super::until::Until;
use super::Poller;
use crate::aside::lock;
use crate::worker::without_signals;
use crate::{Error, Received, Sent, Stream, BLOCK, CHUNK};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::thread;

pub(crate) struct Shared {
    table: Mutex<Table>,
    /// There is a stream to wait for, or nothing more to do.
    work: Condvar,
    /// The mover's: sockets that were full.
    full: Poller,
    /// The sender's: sockets that the program may write to.
    written: Poller,
}

/// Stacks for calls of libvirt's.
const STACK: usize = 256 << 10;

/// The pumps of this process.
#[derive(Default)]
pub(crate) struct Pumps {
    /// Those of connections.
    pub of: HashMap<usize, Weak<Shared>>,
    /// How many there are.
    pub count: usize,
}

impl OfProcess for Pumps {
    fn place() -> &'static Place<Pumps> {
        static PLACE: Place<Pumps> = Place::new();
        &PLACE
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        process::with(|pumps: &mut Pumps| pumps.count -= 1);
    }
}

impl Shared {
    pub fn new() -> io::Result<Arc<Shared>> {
        let (full, written) = (Poller::new()?, Poller::new()?);
        process::with(|pumps: &mut Pumps| pumps.count += 1);
        Ok(Arc::new(Shared {
            table: Mutex::default(),
            work: Condvar::new(),
            full,
            written,
        }))
    }

    pub fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    /// Takes a stream in, and starts the threads that it needs; None where they have ended.
    pub fn add(self: &Arc<Self>, entry: Entry) -> io::Result<Option<u64>> {
        let is_nudged = nudger::is_needed(); // a call of libvirt's: see above
        let mut table = self.table();
        if table.is_over {
            return Ok(None);
        }
        let threads = |run: fn(&Arc<Shared>)| {
            let shared = Arc::clone(self);
            let spawn = || {
                thread::Builder::new()
                    .name("stream-socket".into())
                    .stack_size(STACK)
                    .spawn(move || run(&shared))
            };
            without_signals(spawn).map(drop)
        };
        let nudge = |shared: &Arc<Shared>| nudger::run(&shared.table);
        let receives = entry.down != Down::None;
        let sends = entry.up == Up::Open;
        let slot = Arc::clone(&entry.slot);
        let started = (|| {
            if receives && !table.receives {
                threads(Shared::wait_for_streams)?;
                threads(Shared::move_data)?;
                if is_nudged {
                    threads(nudge)?;
                    threads(nudge)?;
                }
                table.receives = true;
            }
            if sends && !table.sends {
                threads(Shared::send_data)?;
                table.sends = true;
            }
            let number = table.add(entry);
            if sends {
                self.written.watch(slot.end.fd(), number, Until::Readable)?;
            }
            Ok(number)
        })();
        match started {
            Ok(number) => Ok(Some(number)),
            Err(error) => {
                self.stop_if_empty(&mut table);
                Err(error)
            }
        }
    }

    /// Its data may move from now on.
    pub fn start(&self, number: u64) {
        let mut table = self.table();
        let starts = match table.get(number) {
            Some(entry) if entry.down == Down::Busy => {
                match entry.held.is_empty() {
                    true => entry.down = Down::Idle,
                    false => entry.down = Down::Full,
                }
                Some((Arc::clone(&entry.slot), entry.down))
            }
            _ => None,
        };
        match starts {
            Some((slot, Down::Full)) => self.wait_for_room(&mut table, number, &slot),
            Some(_) => self.rest(&mut table, number),
            None => {}
        }
    }

    /// Takes a stream out. A thread may still have it in hand.
    pub fn remove(&self, number: u64) -> Option<Entry> {
        let mut table = self.table();
        let entry = table.remove(number)?;
        let fd = entry.slot.end.fd();
        self.full.forget(fd);
        self.written.forget(fd);
        self.stop_if_empty(&mut table);
        Some(entry)
    }

    fn stop_if_empty(&self, table: &mut Table) {
        if table.is_empty() {
            table.is_over = true;
            self.work.notify_all();
            self.full.ring();
            self.written.ring();
        }
    }

    /// libvirt says whether it has something of a stream's.
    pub fn is_readable(&self, number: u64, readable: bool) {
        let mut table = self.table();
        if let Some(entry) = table.get(number) {
            entry.readable = readable;
            if readable && entry.down == Down::Idle {
                table.make_ready(number);
                self.full.ring();
            }
        }
    }

    /// Nothing is to be done for the stream until more comes.
    fn rest(&self, table: &mut Table, number: u64) {
        if let Some(entry) = table.get(number) {
            entry.down = Down::Idle;
            match entry.readable {
                true => {
                    table.make_ready(number);
                    self.full.ring();
                }
                false => {
                    table.make_idle(number);
                    self.work.notify_all();
                }
            }
        }
    }

    fn wait_for_room(&self, table: &mut Table, number: u64, slot: &Slot) {
        let watched = self.full.watch(slot.end.fd(), number, Until::Writable);
        if watched.is_err() {
            table.ends_down(number, Some(Error::memory(0)));
        }
    }

    /// Receives for a stream that was made Busy, and gives it to the program.
    fn receive(&self, number: u64, slot: &Slot, buffer: &mut Vec<u8>, goes_on: bool) {
        loop {
            buffer.clear();
            let got = slot.stream.recv_onto(buffer, BLOCK, 0);
            let given = match got {
                Ok(Received::Data(0)) => {
                    slot.end.end_output();
                    return self.table().ends_down(number, None);
                }
                Ok(Received::Data(_)) => slot.end.put(buffer),
                Ok(_) => Ok(0), // not from a stream that blocks
                Err(error) => {
                    slot.end.end_output();
                    return self.table().ends_down(number, Some(error));
                }
            };
            let mut table = self.table();
            let given = match given {
                Ok(given) => given,
                Err(error) => return table.ends_down(number, Some(broken(&error))),
            };
            let entry = match table.get(number) {
                Some(entry) => entry,
                None => return,
            };
            if given < buffer.len() {
                entry.held = std::mem::take(buffer);
                entry.given = given;
                entry.down = Down::Full;
                *buffer = table.take_buffer();
                return self.wait_for_room(&mut table, number, slot);
            }
            if !(entry.readable && goes_on) {
                return self.rest(&mut table, number);
            }
        }
    }

    fn wait_for_streams(self: &Arc<Self>) {
        let mut buffer = Vec::new();
        loop {
            let mut table = self.table();
            let (number, slot) = loop {
                if table.is_over {
                    return;
                }
                if let Some(found) = table.take_idle() {
                    break found;
                }
                let woken = self.work.wait(table);
                table = woken.unwrap_or_else(|poisoned| poisoned.into_inner());
            };
            table.waits_for = Some(Arc::clone(&slot));
            drop(table);
            self.receive(number, &slot, &mut buffer, true);
            self.table().waits_for = None;
        }
    }

    fn move_data(self: &Arc<Self>) {
        let mut buffer = Vec::new();
        let mut writable = Vec::new();
        loop {
            let waits = {
                let table = self.table();
                if table.is_over {
                    return;
                }
                !table.has_ready()
            };
            self.full.wait(waits, |number| writable.push(number));
            for number in writable.drain(..) {
                self.give_rest(number);
            }
            let ready = self.table().take_ready();
            if let Some((number, slot)) = ready {
                self.receive(number, &slot, &mut buffer, false);
            }
        }
    }

    fn give_rest(&self, number: u64) {
        let mut table = self.table();
        let entry = match table.get(number) {
            Some(entry) if entry.down == Down::Full => entry,
            _ => return,
        };
        let slot = Arc::clone(&entry.slot);
        // Short, since it never waits.
        match slot.end.put(&entry.held[entry.given..]) {
            Ok(given) if entry.given + given < entry.held.len() => entry.given += given,
            Ok(_) => {
                let buffer = std::mem::take(&mut entry.held);
                table.put_buffer(buffer);
                self.full.forget(slot.end.fd());
                self.rest(&mut table, number);
            }
            Err(error) => {
                self.full.forget(slot.end.fd());
                table.ends_down(number, Some(broken(&error)));
            }
        }
    }

    fn send_data(self: &Arc<Self>) {
        let mut buffer = Vec::new();
        let mut readable = Vec::new();
        loop {
            if self.table().is_over {
                return;
            }
            self.written.wait(true, |number| readable.push(number));
            for number in readable.drain(..) {
                self.send(number, &mut buffer);
            }
        }
    }

    fn send(&self, number: u64, buffer: &mut Vec<u8>) {
        let mut table = self.table();
        let (slot, taken) = match table.get(number) {
            Some(entry) if entry.up == Up::Open => {
                let taken = entry.slot.end.take(buffer, BLOCK);
                entry.sending = taken != Input::Nothing;
                (Arc::clone(&entry.slot), taken)
            }
            _ => return,
        };
        drop(table);
        let ended = match taken {
            Input::Nothing => return,
            Input::End => Some(None),
            Input::Data(_) => send_whole(&slot.stream, buffer).err().map(Some),
        };
        let mut table = self.table();
        if let Some(error) = ended {
            self.written.forget(slot.end.fd());
            if error.is_some() {
                slot.end.end_input();
            }
            table.ends_up(number, error);
        }
        table.has_sent(number);
    }
}

/// Sends all of it.
pub fn send_whole(stream: &Stream, mut rest: &[u8]) -> Result<(), Error> {
    while !rest.is_empty() {
        match stream.send(&rest[..rest.len().min(CHUNK)])? {
            Sent::Data(len) => rest = &rest[len..],
            Sent::WouldBlock => return Err(Error::nonblocking("sockets")),
        }
    }
    Ok(())
}

/// Nobody reads the socket any more.
pub fn broken(error: &io::Error) -> Error {
    let errno = match error.raw_os_error() {
        Some(libc::ECONNRESET) | None => libc::EPIPE,
        Some(errno) => errno,
    };
    Error::handler("socket", &crate::reason(errno))
}
