//! A socket whose data the program's event loop moves, on the loop's own thread: by the
//! stream's callback, and a watch on our end.

use crate::callback::{self, Code, Owner, Registration};
use crate::calls;
use crate::errors::no_socket;
use crate::state::{Settled, Socket, State};
use crate::way::Kind;
use libvirt::socket::{broken, send_whole, Input, Poller, SocketEnd, Until};
use libvirt::{Pulse, Received, Watch, Ways, BLOCK, EVENT_READABLE, EVENT_WRITABLE};
use perlxs::{Error, Interpreter, Perl, Woken};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::unix::io::RawFd;
use std::rc::{Rc, Weak};

pub struct Looped {
    state: Weak<State>,
    end: SocketEnd,
    number: usize,
    watch: RefCell<Option<Watch>>,
    pulse: RefCell<Option<Rc<Pulse>>>,
    /// The events that the stream's callback and the watch wait for.
    masks: Cell<(i32, i32)>,
    /// What the socket had no room for.
    held: RefCell<Vec<u8>>,
    /// The ways in which data still goes.
    ways: Cell<Ways>,
    failed: RefCell<Option<libvirt::Error>>,
}

thread_local! {
    /// The sockets behind the watches of this thread's loop.
    static WATCHED: RefCell<HashMap<usize, (Interpreter, Weak<Looped>)>> = RefCell::default();
    /// One for all of them, which they keep.
    static PULSE: RefCell<Weak<Pulse>> = RefCell::default();
}

/// How long a connection may be lost before a stream that receives is told, in milliseconds.
const PAUSE: i32 = 1000;

impl Looped {
    pub fn start(
        perl: &mut Perl,
        state: &Rc<State>,
        end: SocketEnd,
        ways: Ways,
        first: Vec<u8>,
    ) -> Result<(), Error> {
        libvirt::on_watch(on_watch);
        libvirt::on_pulse(on_pulse);
        let socket = Rc::new(Looped {
            state: Rc::downgrade(state),
            end,
            number: callback::next_number(),
            watch: RefCell::default(),
            pulse: RefCell::default(),
            masks: Cell::new((0, 0)),
            held: RefCell::new(first),
            ways: Cell::new(ways),
            failed: RefCell::default(),
        });
        let registration = Registration {
            interpreter: perl.interpreter(),
            owner: Rc::downgrade(&(Rc::clone(state) as Rc<dyn Owner>)),
            code: Code::Socket,
        };
        let watched = (perl.interpreter(), Rc::downgrade(&socket));
        if ways.receives {
            calls::here(perl, state, |stream| {
                state.callback.add(stream, 0, registration)
            })?;
        }
        WATCHED.with(|all| all.borrow_mut().insert(socket.number, watched));
        state.set_socket(Rc::clone(&socket) as Rc<dyn Socket>);
        socket.give();
        socket.arrange(perl, state);
        let _ = perl.lend(|| *socket.pulse.borrow_mut() = pulse());
        Ok(())
    }

    /// Has the loop wait for what can be moved next.
    fn arrange(&self, perl: &mut Perl, state: &State) {
        if !state.goes_through(self) {
            return; // what has run meanwhile has ended it
        }
        let ways = self.ways.get();
        let full = !self.held.borrow().is_empty();
        let wanted = |wanted, event| if wanted { event } else { 0 };
        let masks = (
            wanted(ways.receives && !full, EVENT_READABLE),
            wanted(ways.sends, EVENT_READABLE) | wanted(full, EVENT_WRITABLE),
        );
        let before = self.masks.replace(masks);
        // An exception of a loop's method comes out of the loop.
        let _ = perl.lend(|| {
            if !ways.receives && state.callback.is_active() {
                let _ = state.callback.remove(&state.stream);
            } else if masks.0 != before.0 {
                let _ = state.callback.update(&state.stream, masks.0);
            }
            if masks.1 != before.1 {
                self.watch(masks.1);
            }
        });
    }

    /// A watch for nothing would still be told when the program closes its end.
    fn watch(&self, events: i32) {
        let old = self.watch.take();
        let new = match (old, events) {
            (_, 0) => None,
            (Some(watch), events) => {
                watch.update(events);
                Some(watch)
            }
            (None, events) => Watch::new(self.end.fd(), events, self.number),
        };
        *self.watch.borrow_mut() = new;
    }

    fn stop_receiving(&self, error: Option<libvirt::Error>) {
        self.held.take();
        self.ways.set(Ways {
            receives: false,
            ..self.ways.get()
        });
        self.fail(error);
    }

    fn stop_sending(&self, error: Option<libvirt::Error>) {
        self.ways.set(Ways {
            sends: false,
            ..self.ways.get()
        });
        self.fail(error);
    }

    fn fail(&self, error: Option<libvirt::Error>) {
        let mut failed = self.failed.borrow_mut();
        *failed = failed.take().or(error);
    }

    /// Gives the program what is held, as far as there is room.
    fn give(&self) {
        let given = self.end.put(&self.held.borrow());
        match given {
            Ok(given) => drop(self.held.borrow_mut().drain(..given)),
            Err(error) => self.stop_receiving(Some(broken(&error))),
        }
    }

    /// Takes what a `recv` has brought.
    fn received(&self, got: Result<Received, libvirt::Error>, bytes: Vec<u8>) {
        match got {
            Ok(Received::Data(0)) => {
                self.end.end_output();
                self.stop_receiving(None);
            }
            Ok(Received::Data(_)) => {
                *self.held.borrow_mut() = bytes;
                self.give();
            }
            Ok(_) => {}
            Err(error) => {
                self.end.end_output();
                self.stop_receiving(Some(error));
            }
        }
    }

    /// A forked child has a copy of the watch. The descriptor may be another file there.
    fn forget(&self, perl: &mut Perl) {
        let watch = self.watch.take();
        let _ = perl.lend(|| drop(watch));
    }

    /// The program has written, or there is room, or the program has closed its end.
    fn socket_event(&self, perl: &mut Perl, state: &State) {
        self.give();
        if self.ways.get().sends {
            let mut bytes = Vec::new();
            match self.end.take(&mut bytes, BLOCK) {
                Input::Nothing => {}
                Input::End => self.stop_sending(None),
                Input::Data(_) => {
                    let mut sent = Ok(());
                    let _ = perl.lend(|| sent = send_whole(&state.stream, &bytes));
                    self.sent(sent);
                }
            }
        }
        self.arrange(perl, state);
    }

    fn sent(&self, sent: Result<(), libvirt::Error>) {
        if let Err(error) = sent {
            self.end.end_input();
            self.stop_sending(Some(error));
        }
    }
}

impl Socket for Looped {
    /// The stream has something. libvirt does not wait for it then.
    fn stream_event(&self, perl: &mut Perl) {
        let state = match self.state.upgrade() {
            // A forked child runs a copy of the loop. The stream is its parent's.
            Some(state) if state.stream.is_inherited() => return,
            Some(state) if self.ways.get().receives && self.held.borrow().is_empty() => state,
            _ => return,
        };
        let mut bytes = Vec::new();
        let mut got = Ok(Received::WouldBlock);
        let _ = perl.lend(|| got = state.stream.recv_onto(&mut bytes, BLOCK, 0));
        self.received(got, bytes);
        self.arrange(perl, &state);
    }

    /// The loop does not run meanwhile.
    fn settle(&self, perl: &mut Perl) -> Result<Settled, Error> {
        let state = match self.state.upgrade() {
            Some(state) => state,
            None => return Ok(Settled::Done),
        };
        let goes_both_ways = self.ways.get().receives && self.ways.get().sends;
        loop {
            if let Some(error) = self.failed.borrow().clone() {
                return Ok(Settled::Failed(error));
            }
            let ways = self.ways.get();
            if ways.sends {
                let mut bytes = Vec::new();
                match self.end.take(&mut bytes, BLOCK) {
                    Input::End => self.stop_sending(None),
                    Input::Data(_) => {
                        let sent = calls::make(perl, &state, Kind::Moves, move |stream| {
                            Ok(send_whole(stream, &bytes))
                        })?;
                        self.sent(sent);
                    }
                    Input::Nothing if goes_both_ways => return Ok(Settled::Done),
                    Input::Nothing if self.end.is_open_here() => return Ok(Settled::Open),
                    Input::Nothing => wait(perl, self.end.fd())?,
                }
            } else if goes_both_ways || !ways.receives {
                return Ok(match self.end.was_left() && !goes_both_ways {
                    true => Settled::Failed(broken(&std::io::ErrorKind::BrokenPipe.into())),
                    false => Settled::Done,
                });
            } else if !self.held.borrow().is_empty() {
                let room = Poller::new().and_then(|room| {
                    room.watch(self.end.fd(), 0, Until::Writable)?;
                    Ok(room)
                });
                let room = room.map_err(|error| no_socket(perl, &error))?;
                wait(perl, room.fd())?;
                self.give();
            } else {
                let (got, bytes) = calls::make(perl, &state, Kind::Moves, |stream| {
                    let mut bytes = Vec::new();
                    let got = stream.recv_onto(&mut bytes, BLOCK, 0);
                    Ok((got, bytes))
                })?;
                self.received(got, bytes);
            }
        }
    }
}

fn wait(perl: &mut Perl, fd: RawFd) -> Result<(), Error> {
    if perl.wait(fd, None)? == Woken::Signal {
        perl.run_signal_handlers()?;
    }
    Ok(())
}

impl Drop for Looped {
    fn drop(&mut self) {
        let watched = WATCHED.try_with(|all| all.borrow_mut().remove(&self.number));
        drop(watched);
        drop(self.watch.take());
        self.end.end();
    }
}

fn pulse() -> Option<Rc<Pulse>> {
    if let Some(pulse) = PULSE.with(|pulse| pulse.borrow().upgrade()) {
        return Some(pulse);
    }
    let pulse = Rc::new(Pulse::new(PAUSE)?);
    PULSE.with(|weak| weak.replace(Rc::downgrade(&pulse)));
    Some(pulse)
}

/// The stream of a socket, and what both are for, if the socket is still the stream's.
fn live(watched: &(Interpreter, Weak<Looped>)) -> Option<(Interpreter, Rc<Looped>, Rc<State>)> {
    let socket = watched.1.upgrade()?;
    let state = socket.state.upgrade()?;
    let is_live = state.goes_through(&*socket);
    is_live.then(|| (watched.0.clone(), socket, state))
}

/// libvirt tells no stream that its connection is lost. The next call on it does, at once.
fn on_pulse(_: usize, _: i32) {
    let all = WATCHED.try_with(|all| all.borrow().values().filter_map(live).collect::<Vec<_>>());
    for (interpreter, socket, state) in all.unwrap_or_default() {
        if state.stream.is_cut_off() && state.goes_through(&*socket) {
            interpreter.called_back(|perl| socket.stream_event(perl));
        }
    }
}

/// An event of a watch, from the loop.
fn on_watch(number: usize, _: i32) {
    let found = WATCHED.try_with(|all| all.borrow().get(&number).and_then(live));
    if let Ok(Some((interpreter, socket, state))) = found {
        interpreter.called_back(|perl| match state.stream.is_inherited() {
            true => socket.forget(perl),
            false => socket.socket_event(perl, &state),
        });
    }
}
