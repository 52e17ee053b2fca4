//! The methods of event callbacks.

use crate::callback::{self, Code, Owner, Registration};
use crate::calls;
use crate::errors::exception;
use crate::state::{stream_behind, stream_of};
use libvirt::Call;
use perlxs::{Answer, Args, Error, Handler, Object, Perl, Sv};
use std::rc::Rc;

/// `add_callback(stref, events, cb)`
pub fn add_callback(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_behind(perl, args.get(0), Call::AddCallback)?;
    state.has_no_socket().map_err(|e| exception(perl, e))?;
    let events = args.get(1).int(perl)?;
    let this = match Object::of(perl, args.get(0))? {
        Some(object) => Sv::reference(perl, &object),
        None => args.get(0).copy(perl)?,
    };
    let registration = Registration {
        interpreter: perl.interpreter(),
        owner: Rc::downgrade(&(Rc::clone(&state) as Rc<dyn Owner>)),
        code: Code::Program {
            this,
            code: Handler::keep(perl, args.get(2)),
        },
    };
    calls::here(perl, &state, |stream| {
        let added = state.callback.add(stream, events, registration);
        state.callback.watch_unread(&*state);
        added
    })?;
    Ok(Answer::Empty)
}

/// `update_callback(st, events)`
pub fn update_callback(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let events = args.get(1).int(perl)?;
    let state = stream_of(perl, args.get(0), "update_callback", Call::UpdateCallback)?;
    state.has_no_socket().map_err(|e| exception(perl, e))?;
    calls::here(perl, &state, |stream| {
        let updated = state.callback.update(stream, events);
        state.callback.watch_unread(&*state);
        updated
    })?;
    Ok(Answer::Empty)
}

/// `remove_callback(st)`
pub fn remove_callback(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_of(perl, args.get(0), "remove_callback", Call::RemoveCallback)?;
    state.has_no_socket().map_err(|e| exception(perl, e))?;
    calls::here(perl, &state, |stream| state.callback.remove(stream))?;
    Ok(Answer::Empty)
}

/// `_release_callbacks()`: what this thread's callbacks hold, at the program's end,
/// and the threads that made calls for it.
pub fn release_all(perl: &mut Perl, _: Args<'_>) -> Result<Answer, Error> {
    perl.lend(callback::release_all)?;
    libvirt::end_idle();
    Ok(Answer::Empty)
}
