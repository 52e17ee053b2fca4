//! What the handlers of the transfers return, and what is said when they fail.

use crate::errors::exception;
use crate::state::State;
use libvirt::reason;
use perlxs::{Arg, Error, Handler, Perl, Returned};

/// What a handler's errno says; EIO where it says nothing.
pub fn failure(perl: &Perl, what: &str, errno: i32) -> Error {
    let eio = 5;
    let errno = if errno == 0 { eio } else { errno };
    exception(perl, libvirt::Error::handler(what, &reason(errno)))
}

/// A failure that has no errno.
pub fn misuse(perl: &Perl, what: &str, why: &str) -> Error {
    exception(perl, libvirt::Error::handler(what, why.as_bytes()))
}

/// Whether the handler failed: it said so, or it returned undef with `$!` set.
/// ENOTTY is no failure of its own: Perl's `open` leaves it behind.
pub fn failed(returned: &Returned) -> bool {
    let enotty = 25;
    // libvirt takes the value as a C int, which is negative there.
    let negative = i64::from(i32::MAX) + 1..=u32::MAX.into();
    returned.value < 0
        || negative.contains(&returned.value)
        || (!returned.defined && returned.errno != 0 && returned.errno != enotty)
}

/// libvirt's names for a program that receives by handlers, and for one that sends.
pub const RECEIVER: &str = "data sinks";
pub const SENDER: &str = "data sources";

/// What is said of a stream that does not block.
pub fn nonblocking(perl: &Perl, who: &str) -> Error {
    exception(perl, libvirt::Error::nonblocking(who))
}

/// Refuses a non-blocking stream, as libvirt's loops do.
pub fn blocking_only(perl: &Perl, state: &State, who: &str) -> Result<(), Error> {
    match state.is_nonblocking() {
        true => Err(nonblocking(perl, who)),
        false => Ok(()),
    }
}

/// A handler that is told of a hole, and says whether it could follow.
pub fn call_on_hole(
    perl: &mut Perl,
    handler: &Handler,
    stref: Arg<'_>,
    length: Arg<'_>,
    what: &str,
) -> Result<(), Error> {
    let returned = handler.call(perl, &[stref, length])?;
    if failed(&returned) {
        return Err(failure(perl, what, returned.errno));
    }
    Ok(())
}
