//! A thin safe wrapper of libvirt's stream calls.
//!
//! It knows nothing of Perl. Every call returns libvirt's own error as a value,
//! taken on the thread that made the call.

#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod aside;
mod call;
mod ends;
mod error;
mod event;
mod hook;
mod identity;
mod nudges;
mod processor;
mod reference;
mod sigpipe;
pub mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod timer;
mod under_way;
mod watch;
mod worker;

pub use aside::{end_idle, Deaf, Outcome, Wait, PATIENCE};
pub use call::Call;
pub use error::{reason, Error};
pub use event::{on_event, Readable};
pub use identity::Connection;
pub use nudges::Nudges;
pub use reference::{keeping_errno, Process, Taken};
pub use stream::{Received, Sent, Stream, Ways, BLOCK, CHUNK};
pub use timer::{on_pulse, Pulse};
pub use under_way::{calls_end_soon, calls_end_soon_on};
pub use watch::{on_watch, Watch};

pub const NONBLOCK: u32 = virt_sys::VIR_STREAM_NONBLOCK;
pub const RECV_STOP_AT_HOLE: u32 = virt_sys::VIR_STREAM_RECV_STOP_AT_HOLE;
pub const EVENT_READABLE: i32 = virt_sys::VIR_STREAM_EVENT_READABLE as i32;
pub const EVENT_WRITABLE: i32 = virt_sys::VIR_STREAM_EVENT_WRITABLE as i32;
pub const EVENT_ERROR: i32 = virt_sys::VIR_STREAM_EVENT_ERROR as i32;
pub const EVENT_HANGUP: i32 = virt_sys::VIR_STREAM_EVENT_HANGUP as i32;
