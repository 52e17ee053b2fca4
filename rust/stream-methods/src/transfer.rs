//! A transfer either succeeds or aborts its stream.

use crate::errors::exception;
use crate::state::State;
use perlxs::{Error, Perl};
use std::rc::Rc;

/// The duty to abort a stream; Drop does it, unless the transfer is `done`.
struct Duty<'s> {
    state: &'s State,
    done: bool,
}

impl Drop for Duty<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.state.abandon();
        }
    }
}

/// Runs `work`, and aborts the stream unless that succeeds. A stream whose data goes through a
/// socket stays as it is.
pub fn run<T>(
    perl: &mut Perl,
    state: Rc<State>,
    work: impl FnOnce(&mut Perl, &State) -> Result<T, Error>,
) -> Result<T, Error> {
    state.has_no_socket().map_err(|e| exception(perl, e))?;
    let mut duty = Duty {
        state: &state,
        done: false,
    };
    let result = work(perl, &state);
    match result {
        Ok(_) => duty.done = true,
        Err(_) => perl.lend_after_error(|| drop(duty)),
    }
    result
}
