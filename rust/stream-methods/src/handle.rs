//! What the filehandle over a stream (lib/Sys/Virt/Stream/Handle.pm) cannot say in Perl.

use crate::handlers::misuse;
use crate::state::stream_of;
use libvirt::Call;
use perlxs::{Answer, Args, Error, Perl};

/// `_check_blocking(st)`
pub fn check_blocking(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_of(perl, args.get(0), "handle", Call::Recv)?;
    match state.is_nonblocking() {
        true => Err(misuse(perl, "handle", "the stream does not block")),
        false => Ok(Answer::Empty),
    }
}

/// `_abandon(st)`
pub fn abandon(perl: &mut Perl, args: Args<'_>) -> Result<Answer, Error> {
    let state = stream_of(perl, args.get(0), "abort", Call::Abort)?;
    perl.lend_after_error(|| state.abandon());
    Ok(Answer::Empty)
}

/// `_under_sysread()`
pub fn under_sysread(perl: &mut Perl, _: Args<'_>) -> Result<Answer, Error> {
    Ok(Answer::Int(perl.under_sysread().into()))
}
