//! What belongs to a stream object, and how an argument is found to be one.

use crate::callback::{Callback, Owner};
use crate::errors::exception;
use crate::phase::{End, Phase, Refusal, Step};
use crate::reentrant;
use crate::way::{Facts, Kind, Way};
use libvirt::{Call, Stream, Taken, Ways};
use perlxs::{Ahead, Arg, Attach, Error, Object, Perl};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// What moves a stream's data through a socket. Drop ends both sides of it.
pub trait Socket {
    /// An event of the stream's callback, where that is the socket's.
    fn stream_event(&self, _: &mut Perl) {}

    /// Waits until the data of a stream that is to be finished has gone through.
    fn settle(&self, perl: &mut Perl) -> Result<Settled, Error>;
}

/// How far the data of a stream that is to be finished has come.
pub enum Settled {
    Done,
    /// The program could still write.
    Open,
    Failed(libvirt::Error),
}

/// What hangs on a stream object.
pub struct State {
    pub stream: Stream,
    pub callback: Callback,
    phase: Cell<Phase>,
    /// Another thread makes a call that ends the stream. No second one may be made meanwhile.
    ending: Cell<bool>,
    /// What has been received and the program has not had. It goes when the stream ends.
    ahead: Ahead,
    /// Its driver knows of no holes.
    has_no_holes: Cell<bool>,
    /// No bytes were sent, which a daemon takes for the end of an upload.
    sent_end: Cell<bool>,
    /// Where its data goes instead of to the program.
    socket: RefCell<Option<Rc<dyn Socket>>>,
    /// The flags it was made with, where it was made here.
    flags: Option<u32>,
    _taken: Taken,
}

impl Attach for State {
    fn ahead(&self) -> Option<&Ahead> {
        Some(&self.ahead)
    }
}

impl Owner for State {
    fn stream(&self) -> &Stream {
        &self.stream
    }

    fn callback(&self) -> &Callback {
        &self.callback
    }

    fn has_unread(&self) -> bool {
        !self.ahead.is_empty()
    }

    fn socket_event(&self, perl: &mut Perl) {
        if let Some(socket) = self.socket() {
            socket.stream_event(perl);
        }
    }
}

impl State {
    pub fn new((stream, taken): (Stream, Taken), flags: Option<u32>) -> Rc<State> {
        Rc::new(State {
            stream,
            callback: Callback::new(),
            phase: Cell::new(Phase::New),
            ending: Cell::new(false),
            ahead: Ahead::default(),
            has_no_holes: Cell::new(false),
            sent_end: Cell::new(false),
            socket: RefCell::default(),
            flags,
            _taken: taken,
        })
    }

    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// The one place where the phase changes.
    pub fn step(&self, step: Step) {
        let after = self.phase.get().after(step);
        self.phase.set(after);
        if !after.is_open() || matches!(step, Step::Open(_)) {
            self.ahead.clear();
            self.end_socket();
        }
    }

    /// The socket that its data goes through.
    pub fn socket(&self) -> Option<Rc<dyn Socket>> {
        self.socket.borrow().clone()
    }

    /// Whether it goes through this very one.
    pub fn goes_through(&self, socket: &impl Socket) -> bool {
        let this = socket as *const _ as *const ();
        let own = self.socket.borrow();
        own.as_ref()
            .map_or(false, |own| Rc::as_ptr(own) as *const () == this)
    }

    pub fn has_no_socket(&self) -> Result<(), libvirt::Error> {
        match *self.socket.borrow() {
            None => Ok(()),
            Some(_) => Err(libvirt::Error::invalid("the stream has a socket")),
        }
    }

    /// Its data goes through `socket` from now on.
    pub fn set_socket(&self, socket: Rc<dyn Socket>) {
        self.ahead.clear();
        *self.socket.borrow_mut() = Some(socket);
    }

    /// Ends both sides of the socket, if there is one.
    fn end_socket(&self) {
        if let Some(socket) = self.socket.take() {
            self.callback.release(&self.stream);
            drop(socket);
        }
    }

    /// Another call has opened it.
    pub fn opened(&self, ways: Ways) {
        self.has_no_holes.set(false);
        self.sent_end.set(false);
        self.step(Step::Open(Ways {
            // A stream that does not block can be asked at any time: it has nothing then.
            receives: ways.receives || !self.is_blocking(),
            ..ways
        }));
    }

    /// Notes that it ends, if some call has opened it. Otherwise it stays New: libvirt's own
    /// error is better than a refusal.
    pub fn ends(&self, end: End) {
        if self.is_opened() {
            self.step(Step::End(end));
        }
    }

    /// Whether some call has opened it.
    pub fn is_opened(&self) -> bool {
        self.phase.get() != Phase::New || self.stream.is_opened()
    }

    pub fn may_receive(&self) -> Result<(), libvirt::Error> {
        self.has_no_socket()?;
        refused(self.phase.get().may_receive(), "read from")
    }

    pub fn may_send(&self) -> Result<(), libvirt::Error> {
        self.has_no_socket()?;
        refused(self.phase.get().may_send(), "write to")
    }

    pub fn may_end(&self) -> Result<(), libvirt::Error> {
        match self.ending.get() {
            true => Err(libvirt::Error::closed()),
            false => refused(self.phase.get().may_end(), "end"),
        }
    }

    /// Makes a call that ends the stream. Signal handlers may run meanwhile.
    pub fn while_ending<T>(&self, call: impl FnOnce() -> T) -> T {
        self.ending.set(true);
        let ended = call();
        self.ending.set(false);
        ended
    }

    /// Whether `recv` can be asked to stop at holes, as far as is known.
    pub fn tells_holes(&self) -> bool {
        !self.has_no_holes.get()
    }

    /// Its driver has refused to tell of holes.
    pub fn tells_no_holes(&self) {
        self.has_no_holes.set(true);
    }

    /// No bytes were sent.
    pub fn sent_end(&self) {
        self.sent_end.set(true);
    }

    /// Whether a daemon takes no hole any more. `recv_hole` sends nothing, and succeeds only on a
    /// sparse stream. Any other stream has an error of libvirt's to come.
    pub fn takes_no_hole(&self) -> bool {
        self.sent_end.get() && self.stream.recv_hole(0).is_ok()
    }

    /// Whether it is known not to block.
    pub fn is_nonblocking(&self) -> bool {
        self.flags
            .map_or(false, |flags| flags & libvirt::NONBLOCK != 0)
    }

    /// Whether it is known to block.
    pub fn is_blocking(&self) -> bool {
        self.flags
            .map_or(false, |flags| flags & libvirt::NONBLOCK == 0)
    }

    /// What has been received and the program has not had.
    pub fn unread(&self) -> &Ahead {
        &self.ahead
    }

    /// Whether an abort calls the stream's callback: only a local stream's.
    pub fn abort_calls_back(&self) -> bool {
        self.callback.is_active() && !self.stream.is_remote()
    }

    /// Aborts the stream, whatever comes of it: an error has nobody to go to, since the
    /// stream ends with one already. A forked child leaves it to its parent.
    pub fn abandon(&self) {
        if self.stream.is_inherited() || self.phase.get().is_over() || !self.is_opened() {
            return;
        }
        let facts = Facts {
            kind: Kind::Drops,
            runs_perl: reentrant::is_set() || self.abort_calls_back(),
            has_handlers: false,
            is_late: false,
            is_unopened: false,
            is_busy: self.stream.is_busy(),
        };
        let limit = match facts.way() {
            Way::NotNow => return self.step(Step::Cut),
            Way::Here | Way::Never => None,
            Way::Aside { limit, .. } => limit,
        };
        self.step(Step::End(End::Aborted));
        let ending = self.callback.before_end(&self.stream, true);
        match limit {
            None => drop(self.stream.abort()),
            Some(limit) => self.stream.abort_aside(limit),
        }
        self.callback.after_end(&self.stream, ending);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        libvirt::keeping_errno(|| {
            self.callback.release(&self.stream);
            self.abandon();
            self.end_socket();
        });
    }
}

fn refused(answer: Result<(), Refusal>, doing: &str) -> Result<(), libvirt::Error> {
    answer.map_err(|refusal| match refusal {
        Refusal::OneWay => libvirt::Error::one_way(doing),
        Refusal::Closed => libvirt::Error::closed(),
    })
}

/// The stream that `object` is, if it is one: made here, or by other code that
/// keeps to the same layout.
pub fn recognise(perl: &Perl, object: &Object) -> Option<Rc<State>> {
    let slot = object.slot();
    if let Some(state) = object.attached::<State>() {
        if state.stream.address() == slot {
            return Some(state);
        }
    }
    let state = State::new(Stream::adopt(slot)?, None);
    object.attach(perl, Rc::clone(&state));
    Some(state)
}

/// The invocant of a method that takes a stream as the C binding's typemap does:
/// no object at all is a warning and undef, another object is libvirt's error.
pub fn stream_of(perl: &mut Perl, st: Arg<'_>, name: &str, call: Call) -> Result<Rc<State>, Error> {
    match Object::of(perl, st)? {
        Some(object) => recognise(perl, &object).ok_or_else(|| exception(perl, call.refusal())),
        None => Err(not_blessed(name, "st")),
    }
}

/// The invocant of a method that takes a reference to a stream. Anything else is libvirt's
/// error.
pub fn stream_behind(perl: &mut Perl, stref: Arg<'_>, call: Call) -> Result<Rc<State>, Error> {
    let found = Object::of(perl, stref)?.and_then(|object| recognise(perl, &object));
    found.ok_or_else(|| exception(perl, call.refusal()))
}

/// What the C binding's typemap says of an argument that is no object.
pub fn not_blessed(name: &str, what: &str) -> Error {
    Error::Declined(format!(
        "Sys::Virt::Stream::{}() -- {} is not a blessed SV reference",
        name, what
    ))
}
