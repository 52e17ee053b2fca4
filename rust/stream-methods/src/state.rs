//! What belongs to a stream object, and how an argument is found to be one.

use crate::ahead::Ahead;
use crate::errors::exception;
use crate::events::Callback;
use libvirt::{Call, Stream};
use perlxs::{Arg, Error, Object, Perl};
use std::cell::Cell;
use std::rc::Rc;

/// What hangs on a stream object.
pub struct State {
    pub stream: Stream,
    pub callback: Callback,
    ahead: Ahead,
    /// The flags it was made with, where it was made here.
    flags: Option<u32>,
    /// Its transfer was that of a whole file, which has finished it.
    whole: Cell<bool>,
}

impl State {
    pub fn new(stream: Stream, flags: Option<u32>) -> Rc<State> {
        Rc::new(State {
            stream,
            callback: Callback::new(),
            ahead: Ahead::default(),
            flags,
            whole: Cell::new(false),
        })
    }

    /// It is finished, and a `finish` by habit is to be harmless.
    pub fn set_whole(&self) {
        self.whole.set(true);
    }

    /// Whether `set_whole` was the last of its ends.
    pub fn is_whole(&self) -> bool {
        self.whole.get() && self.stream.has_ended()
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

    /// Another call has opened the stream, to receive or to send.
    pub fn opened(&self, receives: bool, sends: bool) {
        self.ahead.clear();
        // One that does not block has an answer where there is nothing to receive.
        self.stream.opened(receives || !self.is_blocking(), sends);
    }

    /// What libvirt has given and the program has not had; the stream's end drops it.
    pub fn ahead(&self) -> &Ahead {
        if self.stream.is_over() {
            self.ahead.clear();
        }
        &self.ahead
    }

    /// Aborts the stream, whatever comes of it. A forked child leaves it to its parent.
    pub fn abandon(&self) {
        if self.stream.is_inherited() || self.stream.has_ended() {
            return;
        }
        // An abort may run the callback, which belongs on this thread. An error
        // has nobody to go to: the stream ends with one already.
        let here = self.callback.is_active();
        self.callback.ending(self, true, || match here {
            true => drop(self.stream.abort()),
            false => self.stream.abandon(),
        });
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.callback.release(&self.stream);
    }
}

/// The stream that `object` is, if it is one: made here, or by other code that
/// keeps to the same layout.
pub fn recognise(perl: &Perl, object: Object<'_>) -> Option<Rc<State>> {
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
        Some(object) => recognise(perl, object).ok_or_else(|| exception(perl, call.refusal())),
        None => Err(not_blessed(name, "st")),
    }
}

/// The invocant of a method that takes a reference to a stream: what is none is
/// libvirt's error.
pub fn stream_behind(perl: &mut Perl, stref: Arg<'_>, call: Call) -> Result<Rc<State>, Error> {
    let found = Object::of(perl, stref)?.and_then(|object| recognise(perl, object));
    found.ok_or_else(|| exception(perl, call.refusal()))
}

/// What the C binding's typemap says of an argument that is no object.
pub fn not_blessed(name: &str, what: &str) -> Error {
    Error::Declined(format!(
        "Sys::Virt::Stream::{}() -- {} is not a blessed SV reference",
        name, what
    ))
}
