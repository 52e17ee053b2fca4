//! The barrier for panics: none leaves Rust.

use crate::Error;
use perl_sys as sys;
use std::any::Any;
use std::ffi::CStr;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// A panic as an exception.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Error::Message(bug(&*panic))))
}

/// What a panic's exception says.
fn bug(panic: &(dyn Any + Send)) -> String {
    let what = panic
        .downcast_ref::<&str>()
        .map(|s| s.to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown panic".into());
    // SAFETY: C has the name from the table, which lives as long as the program.
    let package = unsafe { CStr::from_ptr(sys::plx_package()) }.to_string_lossy();
    format!("This is a bug in {package}, please report it: {what}")
}
