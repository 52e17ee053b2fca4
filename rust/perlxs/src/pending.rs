//! Exceptions that came up under somebody else's frames, and wait until those
//! have returned.

use crate::{Error, Perl};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem::ManuallyDrop;

type Queue = VecDeque<(usize, Error)>;

thread_local! {
    /// Not dropped when the thread ends: its interpreter is gone by then.
    static DEFERRED: RefCell<ManuallyDrop<Queue>> = RefCell::new(ManuallyDrop::new(Queue::new()));
}

/// Keeps an exception for [`raise_deferred`].
pub fn defer(perl: &Perl, error: Error) {
    let key = perl.raw() as usize;
    DEFERRED.with(|queue| queue.borrow_mut().push_back((key, error)));
}

/// How many exceptions wait on this thread: a mark for [`raise_deferred`].
pub fn deferred() -> usize {
    DEFERRED.with(|queue| queue.borrow().len())
}

/// The oldest exception of this interpreter that was kept after `mark`, if any.
/// An exit goes before all.
pub fn raise_deferred(perl: &Perl, mark: usize) -> Result<(), Error> {
    let key = perl.raw() as usize;
    DEFERRED.with(|queue| {
        let mut queue = queue.borrow_mut();
        if queue.len() <= mark {
            return Ok(()); // as after nearly every call
        }
        let ours = |e: &(usize, Error)| e.0 == key;
        let exit = queue
            .iter()
            .skip(mark)
            .position(|e| ours(e) && matches!(e.1, Error::Exit));
        let next = exit.or_else(|| queue.iter().skip(mark).position(ours));
        match next.and_then(|at| queue.remove(mark + at)) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    })
}

/// Drops the exceptions that were kept after `mark`, since they have nobody to go
/// to. An exit stays for the next call that can raise it.
pub(crate) fn forget_deferred(mark: usize) {
    let taken = DEFERRED.with(|queue| {
        let mut queue = queue.borrow_mut();
        let after = mark.min(queue.len());
        let (exits, others): (Vec<_>, Vec<_>) = queue
            .drain(after..)
            .partition(|e| matches!(e.1, Error::Exit));
        queue.extend(exits);
        others
    });
    drop(taken); // their destructors may come here again
}
