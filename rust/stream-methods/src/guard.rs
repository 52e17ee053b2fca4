//! Keeping Perl's exceptions off libvirt's frames, where Perl code runs under them.
//!
//! An event loop written in Perl is called by libvirt in the middle of its own
//! work, and an event callback by libvirt's loop. What they throw is kept, and
//! raised when those frames have returned: after our own call (`inside`), or
//! after the XSUB of Sys::Virt that ran the loop (`relay`).

use crate::events;
use perlxs::{Answer, Arg, Args, Error, Handler, Perl, Xsub};

/// Makes calls into libvirt under which Perl code may run. What that threw is
/// the error.
pub fn inside<T>(
    perl: &mut Perl,
    work: impl FnOnce(&mut Perl) -> Result<T, Error>,
) -> Result<T, Error> {
    let mark = perlxs::deferred();
    let result = work(perl);
    perlxs::raise_deferred(perl, mark)?;
    result
}

fn guarded<T>(perl: &mut Perl, result: Result<T, Error>, failed: T) -> T {
    result.unwrap_or_else(|error| {
        perlxs::defer(perl, error);
        failed
    })
}

/// Calls `code` for libvirt, which wants a number; -1 where it threw something.
fn number(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let code = Handler::keep(perl, args.get(0));
    let result = code
        .call(perl, &args.rest(1))
        .map(|returned| returned.value);
    Ok(Answer::Int(guarded(perl, result, -1)))
}

/// Calls `code` for libvirt, which wants nothing.
fn nothing(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let code = Handler::keep(perl, args.get(0));
    let result = code.call_discard(perl, &args.rest(1));
    guarded(perl, result, ());
    Ok(Answer::Empty)
}

static NUMBER: Xsub = perlxs::unnamed!(number);
static NOTHING: Xsub = perlxs::unnamed!(nothing);

/// `_guarded(code, wants)`: a code reference that calls `code` for libvirt, which
/// wants a number of it or nothing.
pub fn guard(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let entry = match args.get(1).uv(perl)? {
        0 => &NOTHING,
        _ => &NUMBER,
    };
    Ok(Answer::Sv(perl.bound(args.get(0), entry)))
}

/// What a relay asks: before the XSUB, given how many relays are on the stack,
/// and after it, given what was answered before and one argument more. The
/// second argument is the XSUB's own.
///
/// What was kept until no relay was on the stack is raised first of all; one
/// that runs within another leaves alone what that has to raise.
fn raise(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let number = args.get(0).uv(perl)? as usize;
    let mark = match args.optional(2) {
        Some(_) => number,
        None if number == 0 => 0,
        None => return Ok(Answer::Int(perlxs::deferred() as i64)),
    };
    if mark == 0 {
        events::let_go();
    }
    perlxs::raise_deferred(perl, mark)?;
    Ok(Answer::Int(mark as i64))
}

static RAISE: Xsub = perlxs::unnamed!(raise);

/// `_relay(code)`: a code reference that calls `code`, an XSUB that runs event
/// callbacks, and raises what those threw; `code` itself where it is no XSUB.
pub fn relay(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    around(perl, args.get(0), &RAISE)
}

/// A relay of `code` that asks `xsub`; `code` itself where it is no XSUB.
pub fn around(perl: &mut Perl, code: Arg<'_>, xsub: &'static Xsub) -> Result<Answer, Error> {
    match perl.relay(code, xsub) {
        Some(relay) => Ok(Answer::Sv(relay)),
        None => code.copy(perl).map(Answer::Sv),
    }
}
