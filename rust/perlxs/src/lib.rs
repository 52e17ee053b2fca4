//! Safe Rust types for the things a Perl extension handles: scalars, arguments,
//! callbacks, exceptions and objects.
//!
//! Perl code may run only where a function takes `&mut Perl`. Whoever borrows
//! from a scalar's own buffer borrows a [`Quiet`], which holds that token, so
//! that no Perl code can change the buffer under them.

#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod ahead;
mod error;
mod file;
mod handler;
mod layer;
mod object;
mod perl;
mod plain;
mod scalar;
mod scratch;
mod table;
#[cfg(test)]
mod tests;

pub use ahead::Ahead;
pub use error::Error;
pub use file::{Filehandle, Named};
pub use handler::{Handler, Returned};
pub use layer::{Layer, Refused};
pub use object::{Attach, Object};
pub use perl::{Interpreter, Perl, Quiet, Woken};
#[doc(hidden)]
pub use plain::enter as plain_entry;
pub use plain::{Plain, PlainCall};
pub use scalar::{Arg, Bytes, Sv};
pub use scratch::{Chunk, Scratch};
#[doc(hidden)]
pub use table::{enter, NEVER};
pub use table::{Answer, Args, Entry, Relay, Xsub};

/// For the macros of this crate only.
#[doc(hidden)]
pub use perl_sys as sys;
