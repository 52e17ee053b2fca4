//! A stream's event callback: who holds what it holds, and when that is let go.
//!
//! libvirt knows a callback by a number. What Perl has behind that number
//! stands in a registry of the thread that runs it, so that no other thread
//! can call it, and nothing happens when libvirt comes back too late.

use libvirt::{Readable, Stream};
use perlxs::{Handler, Interpreter, Perl, Sv};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Whose callback it is: what belongs to the stream.
pub trait Owner {
    fn stream(&self) -> &Stream;

    fn callback(&self) -> &Callback;

    /// Whether there is data for the program that libvirt no longer has.
    fn has_unread(&self) -> bool;

    /// An event for the stream's socket.
    fn socket_event(&self, perl: &mut Perl);
}

/// What stands behind a callback's number.
pub struct Registration {
    pub interpreter: Interpreter,
    pub owner: Weak<dyn Owner>,
    pub code: Code,
}

pub enum Code {
    /// The program's, and the stream object, which this keeps alive.
    Program { this: Sv, code: Handler },
    /// The stream's socket.
    Socket,
}

#[derive(Default)]
struct Registry(HashMap<usize, Rc<Registration>>);

impl Drop for Registry {
    /// The thread ends, and its interpreter may be gone already, with the scalars.
    fn drop(&mut self) {
        for (_, registration) in self.0.drain() {
            if let Ok(registration) = Rc::try_unwrap(registration) {
                std::mem::forget(registration.code);
            }
        }
    }
}

thread_local! {
    static REGISTRY: RefCell<Registry> = RefCell::default();
}

thread_local! {
    /// Streams to be kept until the loop's turn is over. Not dropped with the thread.
    static LATER: RefCell<ManuallyDrop<Vec<Rc<dyn Owner>>>> =
        const { RefCell::new(ManuallyDrop::new(Vec::new())) };
}

fn registered(number: usize) -> Option<Rc<Registration>> {
    REGISTRY
        .try_with(|registry| registry.borrow().0.get(&number).cloned())
        .unwrap_or_default()
}

/// A number for libvirt, which no other code of ours has.
pub fn next_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Where a stream's callback is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    /// libvirt has it, for these events.
    Active(i32),
    /// Removed; libvirt has it until its frames have returned.
    Leaving,
    /// The stream's end has removed it. The next `remove` succeeds without doing anything.
    Gone,
}

/// A stream's side of its callback.
pub struct Callback {
    number: usize,
    place: Cell<Place>,
    /// How many times it is on the stack.
    running: Cell<usize>,
    /// It has run within itself. libvirt then takes the outer call for over, too, and would
    /// free the callback twice if it were removed before that has returned.
    nested: Cell<bool>,
    /// An abort is under way, and runs it a last time.
    aborting: Cell<bool>,
    /// A timer that tells of data in `unread`, of which libvirt knows nothing.
    readable: RefCell<Option<Readable>>,
}

impl Callback {
    pub fn new() -> Callback {
        libvirt::on_event(on_event);
        Callback {
            number: next_number(),
            place: Cell::new(Place::Nowhere),
            running: Cell::new(0),
            nested: Cell::new(false),
            aborting: Cell::new(false),
            readable: RefCell::default(),
        }
    }

    /// Whether there is a callback to be run.
    pub fn is_active(&self) -> bool {
        matches!(self.place.get(), Place::Active(_))
    }

    /// Whether it waits for one of these events.
    fn waits_for(&self, events: i32) -> bool {
        matches!(self.place.get(), Place::Active(mask) if mask & events != 0)
    }

    /// Lets go of what Perl has behind it.
    fn forget(&self, place: Place) {
        self.place.set(place);
        drop(self.readable.take());
        // Dropped outside the borrow of the registry, which its Drop may need.
        drop(REGISTRY.try_with(|r| r.borrow_mut().0.remove(&self.number)));
    }

    /// Takes it from libvirt, where libvirt still has it.
    fn uninstall(&self, stream: &Stream) {
        let installed = matches!(self.place.get(), Place::Active(_) | Place::Leaving);
        if installed && !stream.is_inherited() {
            // Both fail where the stream's end has taken it already.
            let nested = self.running.get() > 0 && self.nested.get();
            let _ = match nested && stream.is_remote() {
                true => stream.update_callback(0), // libvirt keeps it, and never calls it
                false => stream.remove_callback(),
            };
        }
        if self.place.get() == Place::Leaving {
            self.place.set(Place::Nowhere);
        }
    }

    /// Removes it for good; an error is ignored.
    pub fn release(&self, stream: &Stream) {
        self.uninstall(stream);
        self.forget(Place::Nowhere);
    }

    pub fn add(
        &self,
        stream: &Stream,
        events: i32,
        registration: Registration,
    ) -> Result<(), libvirt::Error> {
        match self.place.get() {
            // Removed by itself while it runs: libvirt 9 would not let go of the
            // stream if that were followed by an add before it has returned.
            Place::Leaving => stream.update_callback(events)?,
            // Asked for a second, libvirt refuses, and keeps the stream for good.
            Place::Active(_) if stream.is_remote() => return Err(libvirt::Error::second_callback()),
            _ => stream.add_callback(events, self.number)?,
        }
        self.place.set(Place::Active(events));
        let old = REGISTRY.with(|r| r.borrow_mut().0.insert(self.number, Rc::new(registration)));
        drop(old);
        Ok(())
    }

    /// Has the callback called also for data in `unread`.
    pub fn watch_unread(&self, owner: &dyn Owner) {
        let wanted = self.waits_for(libvirt::EVENT_READABLE) && owner.has_unread();
        let readable = match wanted {
            true => self.readable.take().or_else(|| Readable::new(self.number)),
            false => None,
        };
        drop(self.readable.replace(readable));
    }

    pub fn remove(&self, stream: &Stream) -> Result<(), libvirt::Error> {
        match self.place.get() {
            Place::Gone => self.place.set(Place::Nowhere),
            Place::Active(_) if self.running.get() > 0 => self.forget(Place::Leaving),
            Place::Active(_) => {
                stream.remove_callback()?;
                self.forget(Place::Nowhere);
            }
            Place::Leaving | Place::Nowhere => {
                self.uninstall(stream); // so that libvirt has none, and says so
                stream.remove_callback()?;
            }
        }
        Ok(())
    }

    pub fn update(&self, stream: &Stream, events: i32) -> Result<(), libvirt::Error> {
        match self.place.get() {
            Place::Gone => return Ok(()),
            Place::Active(_) => {}
            Place::Leaving | Place::Nowhere => self.uninstall(stream),
        }
        stream.update_callback(events)?;
        if self.is_active() {
            self.place.set(Place::Active(events));
        }
        Ok(())
    }

    /// Before a call that ends the stream; the answer is for `after_end`. An abort calls a
    /// local stream's callback a last time, if that waits for data. Any other callback is
    /// removed here, since libvirt would leave it in its event loop for ever.
    pub fn before_end(&self, stream: &Stream, aborts: bool) -> Ending {
        let runs = aborts && self.waits_for(libvirt::EVENT_READABLE | libvirt::EVENT_WRITABLE);
        let takes = self.is_active();
        self.aborting.set(runs);
        if !runs {
            self.uninstall(stream);
        }
        Ending { runs, takes }
    }

    /// After that call: the callback has gone with the stream.
    pub fn after_end(&self, stream: &Stream, ending: Ending) {
        self.aborting.set(false);
        if ending.runs {
            self.uninstall(stream);
        }
        if ending.takes {
            self.forget(Place::Gone);
        }
    }
}

/// What the end of a stream does to its callback.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    /// It calls the callback a last time.
    runs: bool,
    /// It removes a callback.
    takes: bool,
}

/// An event, from libvirt's event loop or from within an abort.
fn on_event(number: usize, events: i32) {
    let registration = match registered(number) {
        Some(registration) => registration,
        None => return, // removed, or another thread's
    };
    let owner = match registration.owner.upgrade() {
        Some(owner) => owner,
        None => return,
    };
    let callback = owner.callback();
    let running = callback.running.get();
    callback.nested.set(running > 0);
    callback.running.set(running + 1);
    registration.interpreter.called_back(|perl| {
        let (this, code) = match &registration.code {
            Code::Program { this, code } => (this, code),
            Code::Socket => return owner.socket_event(perl),
        };
        let events = Sv::int(perl, events.into());
        // The callback may do what it likes with its own copy. What it throws, C has kept.
        let _ = this.as_arg().copy(perl).and_then(|this| {
            let args = [this.as_arg(), events.as_arg()];
            code.call_discard(perl, &args)
        });
    });
    callback.running.set(running);

    if callback.aborting.get() {
        callback.uninstall(owner.stream());
    }
    callback.watch_unread(&*owner);
    // If the callback has run within itself, libvirt takes the outer call for over already. It would
    // free twice what is removed or dropped here.
    LATER.with(|later| later.borrow_mut().push(owner));
}

/// Lets go of the streams whose callbacks have run, with no frame of theirs left.
pub fn let_go() {
    let owners = LATER.with(|later| std::mem::take(&mut **later.borrow_mut()));
    let (left, running): (Vec<_>, Vec<_>) = owners
        .into_iter()
        .partition(|owner| owner.callback().running.get() == 0);
    for owner in &left {
        if !owner.callback().is_active() {
            owner.callback().uninstall(owner.stream());
        }
    }
    LATER.with(|later| later.borrow_mut().extend(running));
    drop(left);
}

/// Removes the callbacks of this thread's interpreter.
pub fn release_all() {
    let all: Vec<_> = REGISTRY.with(|r| r.borrow().0.values().cloned().collect());
    for registration in all {
        if let Some(owner) = registration.owner.upgrade() {
            owner.callback().release(owner.stream());
        }
    }
    let_go();
}
