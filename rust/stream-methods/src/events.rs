//! Event callbacks: who holds what they hold, and when it is let go.
//!
//! libvirt knows a callback by a number. What Perl has behind that number
//! stands in a registry of the thread that runs it, so that no other thread
//! can call it, and nothing happens when libvirt comes back too late.

use crate::io;
use crate::state::{stream_behind, stream_of, State};
use libvirt::{Call, Readable, Stream};
use perlxs::{Answer, Args, Error, Handler, Object, Perl, Sv};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What Perl has behind a callback's number. It keeps the stream object alive.
struct Registration {
    perl: Perl,
    state: Weak<State>,
    this: Sv,
    code: Handler,
}

#[derive(Default)]
struct Registry(HashMap<usize, Rc<Registration>>);

impl Drop for Registry {
    /// The thread ends, and its interpreter may be gone already, with the scalars.
    fn drop(&mut self) {
        for (_, registration) in self.0.drain() {
            if let Ok(registration) = Rc::try_unwrap(registration) {
                std::mem::forget((registration.this, registration.code));
            }
        }
    }
}

thread_local! {
    static REGISTRY: RefCell<Registry> = RefCell::default();
}

thread_local! {
    /// Streams to be kept until the loop's turn is over. Not dropped with the thread.
    static LATER: RefCell<ManuallyDrop<Vec<Rc<State>>>> =
        const { RefCell::new(ManuallyDrop::new(Vec::new())) };
}

fn registered(number: usize) -> Option<Rc<Registration>> {
    REGISTRY
        .try_with(|registry| registry.borrow().0.get(&number).cloned())
        .unwrap_or_default()
}

/// A stream's side of its callback.
pub struct Callback {
    number: usize,
    /// libvirt has it. It may have it longer than Perl: see `remove`.
    installed: Cell<bool>,
    /// How many times it is on the stack.
    running: Cell<usize>,
    mask: Cell<i32>,
    /// The stream ended and took the callback along: `remove` has nothing to
    /// do, and says so to nobody.
    gone: Cell<bool>,
    /// An abort is under way, and runs the callback a last time.
    aborting: Cell<bool>,
    /// Says that there is something to read, while that is here and not with libvirt.
    readable: RefCell<Option<Readable>>,
}

impl Callback {
    pub fn new() -> Callback {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        Callback {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            installed: Cell::new(false),
            running: Cell::new(0),
            mask: Cell::new(0),
            gone: Cell::new(false),
            aborting: Cell::new(false),
            readable: RefCell::default(),
        }
    }

    /// Whether there is a callback to be run.
    pub fn is_active(&self) -> bool {
        registered(self.number).is_some()
    }

    /// Lets go of what Perl has behind it.
    fn forget(&self) -> bool {
        drop(self.readable.take());
        // Dropped outside the borrow: a destructor may come back here.
        let registration = REGISTRY.try_with(|r| r.borrow_mut().0.remove(&self.number));
        matches!(registration, Ok(Some(_)))
    }

    /// Takes it from libvirt, where libvirt still has it.
    fn uninstall(&self, stream: &Stream) {
        if self.installed.replace(false) && !stream.is_inherited() {
            // Fails where the stream's end has taken it already.
            let _ = stream.remove_callback();
        }
    }

    /// Removes it for good, without a word.
    pub fn release(&self, stream: &Stream) {
        self.uninstall(stream);
        self.forget();
    }

    fn add(
        &self,
        stream: &Stream,
        events: i32,
        registration: Registration,
    ) -> Result<(), libvirt::Error> {
        if self.installed.get() && !self.is_active() {
            // Removed by itself while it runs: libvirt 9 would not let go of the
            // stream if that were followed by an add before it has returned.
            stream.update_callback(events)?;
        } else {
            stream.add_callback(events, self.number)?;
        }
        self.installed.set(true);
        self.gone.set(false);
        self.mask.set(events);
        let old = REGISTRY.with(|r| r.borrow_mut().0.insert(self.number, Rc::new(registration)));
        drop(old);
        Ok(())
    }

    /// Sees to it that the callback is also called for what is here to be read.
    fn watch_ahead(&self, state: &State) {
        let wanted = self.is_active() && self.mask.get() & libvirt::EVENT_READABLE != 0;
        let readable = match wanted && !state.ahead().is_empty() {
            true => self.readable.take().or_else(|| Readable::new(self.number)),
            false => None,
        };
        drop(self.readable.replace(readable));
    }

    fn remove(&self, stream: &Stream) -> Result<(), libvirt::Error> {
        if self.gone.replace(false) {
            return Ok(());
        }
        if self.is_active() && self.running.get() > 0 {
            self.forget(); // libvirt is told when it has returned
            return Ok(());
        }
        if !self.is_active() {
            self.uninstall(stream); // so that libvirt has none, and says so
        }
        stream.remove_callback()?;
        self.installed.set(false);
        self.forget();
        Ok(())
    }

    fn update(&self, stream: &Stream, events: i32) -> Result<(), libvirt::Error> {
        if self.gone.get() {
            return Ok(());
        }
        if !self.is_active() {
            self.uninstall(stream);
        }
        stream.update_callback(events)?;
        self.mask.set(events);
        Ok(())
    }

    /// Runs `end`, which ends the stream, and lets the callback go with it.
    ///
    /// An abort runs a local stream's callback a last time, if it waits for
    /// anything; otherwise libvirt must not have it when the stream ends, since
    /// it would never take it out of its event loop.
    pub fn ending<T>(&self, state: &State, abort: bool, end: impl FnOnce() -> T) -> T {
        let mask = libvirt::EVENT_READABLE | libvirt::EVENT_WRITABLE;
        let active = self.is_active();
        if !(abort && active && self.mask.get() & mask != 0) {
            self.uninstall(&state.stream);
        }
        self.aborting.set(abort);
        let result = end();
        self.aborting.set(false);
        self.uninstall(&state.stream);
        if active {
            self.gone.set(true);
            self.forget();
        }
        result
    }
}

/// An event, from libvirt's event loop or from within an abort.
fn on_event(number: usize, events: i32) {
    let registration = match registered(number) {
        Some(registration) => registration,
        None => return, // removed, or another thread's
    };
    let state = match registration.state.upgrade() {
        Some(state) => state,
        None => return,
    };
    let callback = &state.callback;
    let mut perl = registration.perl.for_callback();
    let events = Sv::int(&perl, events.into());

    callback.running.set(callback.running.get() + 1);
    // The callback may do what it likes with its own copy.
    let result = registration.this.as_arg().copy(&mut perl).and_then(|this| {
        let args = [this.as_arg(), events.as_arg()];
        registration.code.call_discard(&mut perl, &args)
    });
    callback.running.set(callback.running.get() - 1);

    if let Err(error) = result {
        perlxs::defer(&perl, error);
    }
    if callback.aborting.get() {
        callback.uninstall(&state.stream);
    }
    callback.watch_ahead(&state);
    // libvirt's own frame may still use the stream when this has returned.
    LATER.with(|later| later.borrow_mut().push(state));
}

/// Lets go of the streams whose callbacks have run, with no frame of theirs left.
pub fn let_go() {
    let streams = LATER.with(|later| std::mem::take(&mut **later.borrow_mut()));
    for state in &streams {
        let callback = &state.callback;
        // Not while libvirt calls it: after a turn of the loop within the callback, libvirt
        // takes the outer call for over, and would free the callback's data twice.
        if callback.running.get() == 0 && !callback.is_active() {
            callback.uninstall(&state.stream);
        }
    }
    drop(streams);
}

/// `add_callback(stref, events, cb)`
pub fn add_callback(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    libvirt::on_event(on_event);
    let state = stream_behind(perl, args.get(0), Call::AddCallback)?;
    let events = args.get(1).int(perl)?;
    let this = match Object::of(perl, args.get(0))? {
        Some(object) => Sv::reference(perl, object),
        None => args.get(0).copy(perl)?,
    };
    let registration = Registration {
        perl: perl.for_callback(),
        state: Rc::downgrade(&state),
        this,
        code: Handler::copy(perl, args.get(2))?,
    };
    io::call_here(perl, &state, |stream| {
        let added = state.callback.add(stream, events, registration);
        state.callback.watch_ahead(&state);
        added
    })?;
    Ok(Answer::Empty)
}

/// `update_callback(st, events)`
pub fn update_callback(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_of(perl, args.get(0), "update_callback", Call::UpdateCallback)?;
    let events = args.get(1).int(perl)?;
    io::call_here(perl, &state, |stream| {
        let updated = state.callback.update(stream, events);
        state.callback.watch_ahead(&state);
        updated
    })?;
    Ok(Answer::Empty)
}

/// `remove_callback(st)`
pub fn remove_callback(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_of(perl, args.get(0), "remove_callback", Call::RemoveCallback)?;
    io::call_here(perl, &state, |stream| state.callback.remove(stream))?;
    Ok(Answer::Empty)
}

/// `_release_callbacks()`: what this thread's callbacks hold, at the program's end,
/// and the threads that made calls for it.
pub fn release_all(_: &mut Perl, _: Args<'_>) -> Result<Answer, Error> {
    let all: Vec<_> = REGISTRY.with(|r| r.borrow().0.values().cloned().collect());
    for registration in all {
        if let Some(state) = registration.state.upgrade() {
            state.callback.release(&state.stream);
        }
    }
    let_go();
    libvirt::end_idle();
    Ok(Answer::Empty)
}
