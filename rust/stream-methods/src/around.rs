//! What is put around subs of Sys::Virt's other packages: those that open streams, those
//! that run the program's callbacks, those that register some, and the event loop's.

use crate::callback;
use crate::errors::exception;
use crate::reentrant;
use crate::state::recognise;
use libvirt::{socket, Ways};
use perlxs::{Answer, Args, Error, Object, Perl, Relay, Xsub};
use std::ffi::CString;

/// Subs that open the stream in their second argument, and whether that receives and sends.
/// (A static: no constant refers to statics before Rust 1.83.)
static OPENERS: &[(&str, &Xsub, &Xsub)] = &[
    ("Domain::open_console", &OPENS, &OPENED_BOTH_WAYS),
    ("Domain::open_channel", &OPENS, &OPENED_BOTH_WAYS),
    ("Domain::screenshot", &OPENS, &OPENED_TO_RECEIVE),
    ("StorageVol::download", &OPENS, &OPENED_TO_RECEIVE),
    ("StorageVol::upload", &OPENS, &OPENED_TO_SEND),
];

/// Subs that run callbacks, and whether libvirt counts on their not being called for the
/// same watch or timer again before they have returned: a loop in Perl may be run from
/// within a callback. (What it inherits is in EventImpl since Sys::Virt 9.5, and before
/// that in Event.)
const TURNS: &[(&str, bool)] = &[
    ("Event::run_default", false),
    ("Event::_run_handle_callback_helper", true),
    ("Event::_run_timeout_callback_helper", true),
    ("EventImpl::_run_handle_callback_helper", true),
    ("EventImpl::_run_timeout_callback_helper", true),
];

/// Subs that libvirt calls in the middle of its own work.
const LOOP: &[&str] = &[
    "Event::_add_handle",
    "Event::_update_handle",
    "Event::_remove_handle",
    "Event::_add_timeout",
    "Event::_update_timeout",
    "Event::_remove_timeout",
];

/// Subs that hand code to libvirt, and which argument that is.
const REGISTER: &[(&str, u8)] = &[
    ("_open_auth", 2),
    ("domain_event_register", 1),
    ("domain_event_register_any", 3),
    ("network_event_register_any", 3),
    ("storage_pool_event_register_any", 3),
    ("node_device_event_register_any", 3),
    ("secret_event_register_any", 3),
    ("Event::add_handle", 2),
    ("Event::add_timeout", 1),
];

/// `_surround()`: once Sys::Virt has been booted.
pub fn surround(perl: &mut Perl, _: Args<'_>) -> Result<Answer, Error> {
    for (name, before, after) in OPENERS {
        let relay = Relay {
            before: Some(before),
            after: Some(after),
            ..Relay::default()
        };
        perl.relay(&full(name), &relay);
    }
    for (name, once) in TURNS {
        let relay = Relay {
            before: Some(&LETS_GO),
            after: Some(&LETS_GO),
            runs_callbacks: true,
            once: *once,
            ..Relay::default()
        };
        perl.relay(&full(name), &relay);
    }
    for (name, guards) in REGISTER {
        let relay = Relay {
            guards: Some(*guards),
            ..Relay::default()
        };
        perl.relay(&full(name), &relay);
    }
    // libvirt calls it on the thread that finds the connection broken, under any call.
    let relay = Relay {
        before: Some(&REGISTERS_CLOSE_CALLBACK),
        guards: Some(1),
        ..Relay::default()
    };
    perl.relay(&full("register_close_callback"), &relay);
    let relay = Relay {
        before: Some(&REGISTERS_LOOP_IN_PERL),
        ..Relay::default()
    };
    perl.relay(&full("Event::_register_impl"), &relay);
    let relay = Relay {
        before: Some(&REGISTERS_LOOP),
        ..Relay::default()
    };
    perl.relay(&full("Event::register_default"), &relay);
    for name in LOOP {
        perl.guard(&full(name));
    }
    Ok(Answer::Empty)
}

fn full(name: &str) -> CString {
    CString::new(format!("Sys::Virt::{}", name)).unwrap_or_default()
}

static OPENS: Xsub = perlxs::unnamed!(opens);
static OPENED_TO_RECEIVE: Xsub = perlxs::unnamed!(|perl, args| opened(perl, args, true, false));
static OPENED_TO_SEND: Xsub = perlxs::unnamed!(|perl, args| opened(perl, args, false, true));
static OPENED_BOTH_WAYS: Xsub = perlxs::unnamed!(|perl, args| opened(perl, args, true, true));
static LETS_GO: Xsub = perlxs::unnamed!(lets_go);
static REGISTERS_CLOSE_CALLBACK: Xsub = perlxs::unnamed!(registers_close_callback);
static REGISTERS_LOOP: Xsub = perlxs::unnamed!(registers_loop);
static REGISTERS_LOOP_IN_PERL: Xsub = perlxs::unnamed!(registers_loop_in_perl);

/// Aborts what the stream is open for: libvirt would lose sight of it. A call that was left
/// must not meet what it will be open for.
fn opens(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    if let Some(stream) = args.optional(1) {
        let object = Object::of(perl, stream)?;
        if let Some(state) = object.and_then(|object| recognise(perl, &object)) {
            let why = "an earlier call on the stream is under way";
            refuse(perl, !state.stream.calls_end_soon(), why)?;
            if state.phase().is_open() {
                perl.lend(|| state.abandon())?;
                refuse(perl, !state.stream.calls_end_soon(), why)?;
            }
        }
    }
    Ok(Answer::Empty)
}

fn refuse(perl: &Perl, is_refused: bool, why: &str) -> Result<(), Error> {
    match is_refused {
        true => Err(exception(perl, libvirt::Error::invalid(why))),
        false => Ok(()),
    }
}

/// The call has succeeded. libvirt itself does not always look which way the data of a
/// stream goes, and then waits for ever, loses what is sent, or crashes.
fn opened(perl: &mut Perl, args: Args<'_>, receives: bool, sends: bool) -> Result<Answer, Error> {
    if let Some(stream) = args.optional(1) {
        let object = Object::of(perl, stream)?;
        if let Some(state) = object.and_then(|object| recognise(perl, &object)) {
            state.opened(Ways { receives, sends });
        }
    }
    Ok(Answer::Empty)
}

fn lets_go(perl: &mut Perl, _: Args<'_>) -> Result<Answer, Error> {
    perl.lend(callback::let_go)?;
    Ok(Answer::Empty)
}

/// Another thread that is in a call, or that moves data, would call it there.
fn registers_close_callback(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    refuse(
        perl,
        socket::has_threads(),
        "a close callback must be registered before the first socket of a stream",
    )?;
    if let Some(conn) = args.optional(0) {
        if let Some(object) = Object::of(perl, conn)? {
            let why = "a stream's call is under way on the connection: the close callback can be \
                registered when that has ended";
            refuse(perl, !libvirt::calls_end_soon_on(object.slot()), why)?;
        }
    }
    reentrant::set();
    Ok(Answer::Empty)
}

/// libvirt takes one event loop for the life of the process, and ignores another.
fn registers_loop(perl: &mut Perl, _: Args<'_>) -> Result<Answer, Error> {
    let why = "the event loop must be registered before the first socket of a stream";
    refuse(perl, socket::is_taken(), why)?;
    Ok(Answer::Empty)
}

/// Another thread that is in a call would call it there.
fn registers_loop_in_perl(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    registers_loop(perl, args)?;
    let why = "a stream's call is under way: the event loop can be registered when that has ended";
    refuse(perl, !libvirt::calls_end_soon(), why)?;
    reentrant::set();
    Ok(Answer::Empty)
}
