//! libvirt's errors as exceptions.

use perlxs::{Error, Perl, Sv};
use std::ffi::CStr;

fn class() -> &'static CStr {
    CStr::from_bytes_with_nul(b"Sys::Virt::Error\0").unwrap_or_default()
}

/// Why a stream has no socket.
pub fn no_socket(perl: &Perl, error: &std::io::Error) -> Error {
    let errno = error.raw_os_error().unwrap_or(0);
    let why = libvirt::reason(errno);
    exception(perl, libvirt::Error::handler("socket", &why))
}

/// A `Sys::Virt::Error`, ready to be thrown.
pub fn exception(perl: &Perl, error: libvirt::Error) -> Error {
    let number = |n: i32| Sv::int(perl, n.into());
    Error::Object(Sv::hash(
        perl,
        Some(class()),
        vec![
            ("level", number(error.level)),
            ("code", number(error.code)),
            ("domain", number(error.domain)),
            ("message", Sv::bytes(perl, &error.message)),
        ],
    ))
}
