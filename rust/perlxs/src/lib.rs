//! Safe Rust types for the things a Perl extension handles: scalars, arguments,
//! callbacks, exceptions and objects.
//!
//! Perl code may run only where a function takes `&mut Perl`. Whoever borrows
//! from a scalar's own buffer borrows a [`Quiet`], which holds that token, so
//! that no Perl code can change the buffer under them.
//!
//! # Ownership
//!
//! [`Sv`], [`Bytes`], [`Handler`], [`Object`] and [`Filehandle`] hold a count of a scalar, and
//! give it back by Drop. An [`Arg`] holds none: the method's frame, or whoever lent it, does. What
//! is taken by value is given up, all else is borrowed. None of these types is Send: a value
//! belongs to the thread of its interpreter.
//!
//! # Exceptions and panics
//!
//! What Perl code throws is an [`Error`], to be returned by `?`. C raises it when no frame of Rust
//! is left. A panic in a method, a plain call or a layer is caught where C has entered, and the
//! program gets an exception that says so; one in the Drop of what hangs on an object is ignored.
//! No function here panics by itself, unless its documentation says when.
//!
//! # An extension

#![cfg_attr(
    doc,
    doc = concat!("```ignore\n", include_str!("../../../examples/perlxs-hello/src/lib.rs"), "```")
)]
#![warn(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod ahead;
mod barrier;
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
