//! Keeping Perl's exceptions off libvirt's frames, where Perl code runs under them.
//!
//! An event loop written in Perl is called by libvirt in the middle of its own
//! work, and an event callback by libvirt's loop. What they throw is kept, and
//! raised when those frames have returned: after our own call (`inside`), or
//! after the XSUB of Sys::Virt that ran the loop (`relay`).

use perlxs::{Answer, Args, Error, Handler, Perl, Xsub};
use std::cell::Cell;

thread_local! {
    /// How many of our calls into libvirt are on the stack.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// One of our calls into libvirt, counted as long as this lives.
struct Inside;

impl Inside {
    fn enter() -> Inside {
        DEPTH.with(|depth| depth.set(depth.get() + 1));
        Inside
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(depth.get() - 1));
    }
}

/// Makes a call into libvirt under which Perl code may run. What that threw is
/// the error.
pub fn inside<T>(perl: &mut Perl, work: impl FnOnce() -> T) -> Result<T, Error> {
    let mark = perlxs::deferred();
    let result = {
        let _inside = Inside::enter();
        work()
    };
    perlxs::raise_deferred(perl, mark)?;
    Ok(result)
}

/// `_guarded(code, ...)`: calls `code` for libvirt. Under one of our calls what
/// it throws is kept, and the answer is -1.
pub fn guarded(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let code = Handler::keep(perl, args.get(0));
    match code.call(perl, &args.rest(1)) {
        Ok(returned) => Ok(Answer::Int(returned.value)),
        Err(error) if DEPTH.with(Cell::get) == 0 => Err(error),
        Err(error) => {
            perlxs::defer(perl, error);
            Ok(Answer::Int(-1))
        }
    }
}

fn raise(perl: &mut Perl, _: Args<'_>) -> Result<Answer, Error> {
    perlxs::raise_deferred(perl, 0).map(|()| Answer::Empty)
}

static RAISE: Xsub = perlxs::unnamed!(raise);

/// `_relay(code)`: a code reference that calls `code`, an XSUB that runs event
/// callbacks, and raises what those threw; `code` itself where it is no XSUB.
pub fn relay(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let code = args.get(0);
    Ok(Answer::Sv(
        perl.relay(code, &RAISE).unwrap_or_else(|| code.copy(perl)),
    ))
}
