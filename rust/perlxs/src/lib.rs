//! Safe Rust types for the things a Perl extension handles: scalars, arguments,
//! callbacks, exceptions and objects.
//!
//! Perl code may run only where a function takes `&mut Perl`. Whoever borrows
//! from a scalar's own buffer borrows a [`Quiet`], which holds that token, so
//! that no Perl code can change the buffer under them.

#![deny(unsafe_op_in_unsafe_fn)]

mod error;
mod file;
mod handler;
mod object;
mod pending;
mod perl;
mod plain;
mod scalar;
mod scratch;
mod table;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use file::{Filehandle, Named};
pub use handler::{Handler, Returned};
pub use object::Object;
pub use pending::{defer, deferred, raise_deferred};
pub use perl::{Perl, Quiet};
#[doc(hidden)]
pub use plain::enter as plain_entry;
pub use plain::{Plain, PlainCall, PlainEntry};
pub use scalar::{Arg, Bytes, Sv};
pub use scratch::{Chunk, Scratch};
#[doc(hidden)]
pub use table::enter;
pub use table::{Answer, Args, Entry, Xsub};

/// For the macros of this crate only.
#[doc(hidden)]
pub use perl_sys as sys;
