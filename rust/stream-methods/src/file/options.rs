//! The options of `recv_file` and `send_file`.

use crate::file::digest::NAMES;
use perlxs::{Arg, Args, Error, Handler, Perl};
use std::ffi::CStr;

/// One of the two methods: what is said of it, and what it can be asked for.
pub struct Method {
    name: &'static [u8],
    options: &'static [&'static str],
}

pub static RECV_FILE: Method = Method {
    name: b"recv_file\0",
    options: &[
        "detect_zeroes",
        "digest",
        "length",
        "limit",
        "offset",
        "partial",
        "progress",
        "replace",
        "sparse",
        "sync",
    ],
};

pub static SEND_FILE: Method = Method {
    name: b"send_file\0",
    options: &[
        "detect_zeroes",
        "digest",
        "length",
        "limit",
        "offset",
        "progress",
        "sparse",
    ],
};

impl Method {
    pub fn c_name(&self) -> &'static CStr {
        CStr::from_bytes_with_nul(self.name).unwrap_or_default()
    }

    pub fn name(&self) -> &'static str {
        self.c_name().to_str().unwrap_or_default()
    }

    /// The exception that an argument deserves.
    pub fn misuse(&self, why: &str) -> Error {
        Error::message(format!("{}: {}", self.name(), why))
    }
}

/// What was asked for.
#[derive(Default)]
pub struct Options {
    pub detect_zeroes: bool,
    pub digest: bool,
    pub length: Option<u64>,
    pub limit: Option<u64>,
    pub offset: Option<u64>,
    pub partial: Option<Vec<u8>>,
    pub progress: Option<Handler>,
    pub replace: bool,
    pub sparse: bool,
    pub sync: bool,
}

impl Options {
    /// Refuses what a stream has no use of, in the place of a file.
    pub fn check_for_stream(&self, method: &Method) -> Result<(), Error> {
        let given = [
            ("offset", self.offset.is_some()),
            ("partial", self.partial.is_some()),
            ("replace", self.replace),
            ("sync", self.sync),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            Some((name, _)) => Err(method.misuse(&format!("a stream has no {}", name))),
            None => Ok(()),
        }
    }

    /// Reads pairs of a name and a value, of which the last of a name counts.
    pub fn read(perl: &mut Perl, method: &Method, args: Args<'_>) -> Result<Options, Error> {
        let mut options = Options::default();
        let pairs = args.rest(2);
        if pairs.len() % 2 != 0 {
            return Err(
                method.misuse("options are pairs of a name and a value, and one is left over")
            );
        }
        for pair in pairs.chunks_exact(2) {
            let name = pair[0].bytes(perl, method.c_name())?;
            let name = String::from_utf8_lossy(name.as_deref().unwrap_or(b"undef")).into_owned();
            if !method.options.contains(&&*name) {
                let known = method.options.join(", ");
                let why = format!("there is no option \"{}\"; there are {}", name, known);
                return Err(method.misuse(&why));
            }
            options.set(perl, method, &name, pair[1])?;
        }
        Ok(options)
    }

    fn set(
        &mut self,
        perl: &mut Perl,
        method: &Method,
        name: &str,
        value: Arg<'_>,
    ) -> Result<(), Error> {
        match name {
            "detect_zeroes" => self.detect_zeroes = value.truth(perl)?,
            "digest" => self.digest = digest(perl, method, value)?,
            "length" => self.length = size(perl, method, name, value)?,
            "limit" => {
                self.limit = size(perl, method, name, value)?;
                if self.limit == Some(0) {
                    return Err(method.misuse("a limit of 0 lets nothing through"));
                }
            }
            "offset" => self.offset = size(perl, method, name, value)?,
            "partial" => {
                let path = value.bytes(perl, method.c_name())?;
                self.partial = path.map(|bytes| bytes.to_vec());
            }
            "replace" => self.replace = value.truth(perl)?,
            "sparse" => self.sparse = value.truth(perl)?,
            "sync" => self.sync = value.truth(perl)?,
            _ => {
                let code = value.is_code(perl)?;
                if code == Some(false) {
                    return Err(method.misuse("progress is not a code reference"));
                }
                self.progress = code.map(|_| Handler::copy(perl, value)).transpose()?;
            }
        }
        Ok(())
    }
}

/// Whether a digest is wanted.
fn digest(perl: &mut Perl, method: &Method, value: Arg<'_>) -> Result<bool, Error> {
    let name = value.bytes(perl, method.c_name())?;
    match name.as_deref() {
        None => Ok(false),
        Some(name) if NAMES.iter().any(|known| known.as_bytes() == name) => Ok(true),
        Some(_) => Err(method.misuse(&format!("digest is none of: {}", NAMES.join(", ")))),
    }
}

/// A number of bytes; none where the value is undefined.
fn size(
    perl: &mut Perl,
    method: &Method,
    name: &str,
    value: Arg<'_>,
) -> Result<Option<u64>, Error> {
    match value.number(perl)? {
        None => Ok(None),
        Some(number) => match number.and_then(whole) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(method.misuse(&format!(
                "{} is not a whole number of bytes, from 0 up",
                name
            ))),
        },
    }
}

/// The number of bytes that a number is. Perl's own are exact to 2**53.
fn whole(number: f64) -> Option<u64> {
    const MOST: f64 = (1u64 << 53) as f64;
    ((0.0..=MOST).contains(&number) && number.fract() == 0.0).then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_are_sizes() {
        for (number, bytes) in [(0.0, 0), (1.0, 1), (5e9, 5_000_000_000), (-0.0, 0)] {
            assert_eq!(whole(number), Some(bytes));
        }
        assert_eq!(whole((1u64 << 53) as f64), Some(1 << 53));
        for none in [-1.0, 0.5, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(whole(none), None);
        }
    }

    #[test]
    fn each_method_has_a_name_and_knows_its_options() {
        for method in [&RECV_FILE, &SEND_FILE] {
            assert!(method.name().ends_with("_file"));
            let mut sorted = method.options.to_vec();
            sorted.sort_unstable();
            assert_eq!(method.options, sorted);
        }
    }
}
