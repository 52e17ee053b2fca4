//! Holes: stretches of a file that read as zeroes and take no space.

use libc::c_int;
use std::fs::File;
use std::io::{Error, Result};
use std::os::unix::io::AsRawFd;

#[cfg(target_os = "freebsd")]
use libc::{lseek, off_t};
#[cfg(any(target_os = "linux", target_os = "android"))]
use libc::{lseek64 as lseek, off64_t as off_t};

/// Where the data at or after `at` begins; None where there is none up to the end.
/// An error where the file's system keeps no account of holes. The file's position
/// is another one afterwards.
pub fn data_from(file: &File, at: u64) -> Result<Option<u64>> {
    match next(file, at, false) {
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        found => found.map(Some),
    }
}

/// Where the hole at or after `at` begins; the end counts as one. See [`data_from`].
pub fn hole_from(file: &File, at: u64) -> Result<u64> {
    next(file, at, true)
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn next(file: &File, at: u64, hole: bool) -> Result<u64> {
    let whence: c_int = if hole {
        libc::SEEK_HOLE
    } else {
        libc::SEEK_DATA
    };
    // SAFETY: the descriptor is open as long as `file` lives.
    crate::check(unsafe { lseek(file.as_raw_fd(), offset(at)?, whence) }).map(|found| found as u64)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn next(_: &File, _: u64, _: bool) -> Result<u64> {
    Err(Error::from_raw_os_error(libc::EINVAL))
}

/// Makes a hole of what the file has there. An error where its system can't.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn punch(file: &File, at: u64, len: u64) -> Result<()> {
    let how = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: the descriptor is open as long as `file` lives.
    let done = unsafe { libc::fallocate64(file.as_raw_fd(), how, offset(at)?, offset(len)?) };
    crate::check(done).map(drop)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn punch(_: &File, _: u64, _: u64) -> Result<()> {
    Err(Error::from_raw_os_error(libc::ENOSYS))
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn offset(at: u64) -> Result<off_t> {
    off_t::try_from(at).map_err(|_| Error::from_raw_os_error(libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Folder;
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_punched_hole_is_found() {
        let folder = Folder::new("holes");
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(folder.0.join("file"))
            .unwrap();
        file.write_all_at(&vec![b'x'; 3 * MIB as usize], 0).unwrap();
        if let Err(error) = punch(&file, MIB, MIB) {
            let code = error.raw_os_error();
            assert!([Some(libc::EOPNOTSUPP), Some(libc::ENOSYS)].contains(&code));
            let said = "not tested: the temporary folder's file system has no holes";
            assert!(
                std::env::var_os("SYS_VIRT_STREAM_TEST_ALL").is_none(),
                "{}",
                said
            );
            // Unlike eprintln, this is seen of a test that passes.
            writeln!(std::io::stderr(), "{}", said).unwrap();
            return;
        }
        assert_eq!(data_from(&file, 0).unwrap(), Some(0));
        assert_eq!(hole_from(&file, 0).unwrap(), MIB);
        assert_eq!(data_from(&file, MIB).unwrap(), Some(2 * MIB));
        assert_eq!(hole_from(&file, 2 * MIB).unwrap(), 3 * MIB);
        assert_eq!(data_from(&file, 3 * MIB).unwrap(), None);
        let mut byte = [1];
        file.read_exact_at(&mut byte, MIB + 5).unwrap();
        assert_eq!(byte, [0]);
    }

    #[test]
    fn a_position_that_no_file_has_is_an_error() {
        let null = File::open("/dev/null").unwrap();
        assert!(punch(&null, u64::MAX, 1).is_err());
    }
}
