//! Why a method does not return.

use crate::{Perl, Sv};
use perl_sys::Verdict;

/// C raises it once no Rust frame is left. It owns the exception.
pub enum Error {
    /// A message; Perl appends "at FILE line N.".
    Message(String),
    /// A new exception object.
    Object(Sv),
    /// Perl code has thrown something, or called `exit`. C has kept it, and goes on
    /// with it when the method returns, whatever that answers.
    Left,
    /// No exception: a warning with this message, and undef.
    Declined(String),
}

impl Error {
    /// An exception with this text, which need not end with a line break.
    pub fn message(text: impl Into<String>) -> Error {
        Error::Message(text.into())
    }

    /// What C is to do, and with which scalar.
    pub(crate) fn into_verdict(self, perl: &Perl) -> (Verdict, Option<Sv>) {
        match self {
            Error::Message(text) => (Verdict::Croak, Some(Sv::bytes(perl, text.as_bytes()))),
            Error::Object(sv) => (Verdict::Croak, Some(sv)),
            Error::Left => (Verdict::Empty, None),
            Error::Declined(text) => (Verdict::Decline, Some(Sv::bytes(perl, text.as_bytes()))),
        }
    }
}
