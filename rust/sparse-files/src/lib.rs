//! The system's calls on files that the standard library lacks: holes, extended
//! attributes, and calls that a signal may interrupt. It knows neither Perl nor libvirt.

#![deny(unsafe_op_in_unsafe_fn)]

mod attributes;
mod holes;

pub use attributes::copy_attributes;
pub use holes::{data_from, hole_from, punch};

use libc::c_int;
use std::ffi::CString;
use std::fs::File;
use std::io::{Error, ErrorKind, Result, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::io::{AsRawFd, FromRawFd, IntoRawFd};
use std::path::Path;

/// The result of a call that returns -1 and sets `errno` where it fails.
pub(crate) fn check<T: PartialEq + From<i8>>(result: T) -> Result<T> {
    if result == T::from(-1) {
        return Err(Error::last_os_error());
    }
    Ok(result)
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    Read,
    /// As it is.
    Write,
    /// Made with this mode, less the umask, where there is none.
    Make(u32),
    /// Made with this mode, less the umask; an error where there is one.
    New(u32),
}

/// Opens a file, once: unlike `File::open` it comes back where a signal interrupts
/// it, which a pipe without another end may wait for.
pub fn open(path: &Path, how: Open) -> Result<File> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let (flags, mode) = match how {
        Open::Read => (libc::O_RDONLY, 0),
        Open::Write => (libc::O_WRONLY, 0),
        Open::Make(mode) => (libc::O_WRONLY | libc::O_CREAT, mode),
        Open::New(mode) => (libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, mode),
    };
    let flags = flags | libc::O_CLOEXEC | libc::O_NOCTTY;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    use libc::open;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    use libc::open64 as open;
    // SAFETY: the path is a C string that outlives the call; the new descriptor is
    // nobody else's.
    unsafe { check(open(path.as_ptr(), flags, mode)).map(|fd| File::from_raw_fd(fd)) }
}

/// Closes a file: the last chance for some file systems to say that what was
/// written is not kept.
pub fn close(file: File) -> Result<()> {
    // SAFETY: the descriptor was the file's own, and is given up here.
    let closed = check(unsafe { libc::close(file.into_raw_fd()) });
    match closed {
        // Closed all the same.
        Err(error) if error.raw_os_error() != Some(libc::EINTR) => Err(error),
        _ => Ok(()),
    }
}

/// The result of a read or a write. A pipe or a socket may have been made non-blocking by
/// another process that shares it. Then this waits a while for the file, and the call counts
/// as interrupted, so that it is made again.
pub fn blocking<T>(file: &File, writes: bool, done: Result<T>) -> Result<T> {
    const PAUSE: c_int = 500; // milliseconds; a signal just before must not wait for more
    match done {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            let mut ready = libc::pollfd {
                fd: file.as_raw_fd(),
                events: if writes { libc::POLLOUT } else { libc::POLLIN },
                revents: 0,
            };
            // SAFETY: the one structure is ours, and the descriptor is open as long as
            // `file` lives.
            check(unsafe { libc::poll(&mut ready, 1, PAUSE) })?;
            Err(ErrorKind::Interrupted.into())
        }
        done => done,
    }
}

/// Gives the file to another user and group, where that is allowed.
pub fn give(file: &File, uid: u32, gid: u32) -> Result<()> {
    // SAFETY: the descriptor is open as long as `file` lives.
    check(unsafe { libc::fchown(file.as_raw_fd(), uid, gid) }).map(drop)
}

/// Keeps others from locking the file, as long as it is open; an error where another has.
pub fn lock(file: &File) -> Result<()> {
    // SAFETY: the descriptor is open as long as `file` lives.
    match check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(Error::new(
            ErrorKind::Other,
            "another transfer writes to it",
        )),
        locked => locked.map(drop),
    }
}

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Regular,
    Block,
    Directory,
    /// Pipes, terminals, sockets: bytes in their order, and no positions.
    Sequence,
}

/// What there is to know of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    pub kind: Kind,
    /// In bytes; 0 where there are no positions.
    pub size: u64,
    /// What the next read or write by order would use; 0 where there are none.
    pub position: u64,
    pub reads: bool,
    pub writes: bool,
    pub appends: bool,
}

/// Looks at an open file; leaves it at its position.
pub fn about(mut file: &File) -> Result<About> {
    let meta = file.metadata()?;
    let kind = match meta.file_type() {
        t if t.is_file() => Kind::Regular,
        t if t.is_block_device() => Kind::Block,
        t if t.is_dir() => Kind::Directory,
        _ => Kind::Sequence,
    };
    // SAFETY: the descriptor is open as long as `file` lives.
    let flags: c_int = check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) })?;
    let mode = flags & libc::O_ACCMODE;
    let (size, position) = match kind {
        Kind::Regular => (meta.size(), file.stream_position()?),
        Kind::Block => {
            let position = file.stream_position()?;
            let size = file.seek(SeekFrom::End(0))?;
            file.seek(SeekFrom::Start(position))?;
            (size, position)
        }
        Kind::Directory | Kind::Sequence => (0, 0),
    };
    Ok(About {
        kind,
        size,
        position,
        reads: mode == libc::O_RDONLY || mode == libc::O_RDWR,
        writes: mode == libc::O_WRONLY || mode == libc::O_RDWR,
        appends: flags & libc::O_APPEND != 0,
    })
}

/// What the system says of a directory that is used as a file.
pub fn is_a_directory() -> Error {
    Error::from_raw_os_error(libc::EISDIR)
}

/// What the system says of a symbolic link that leads in a circle.
pub fn too_many_links() -> Error {
    Error::from_raw_os_error(libc::ELOOP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::io::OwnedFd;
    use std::os::unix::net::UnixStream;

    /// A folder of the test's own; gone with the value.
    pub(crate) struct Folder(pub std::path::PathBuf);

    impl Folder {
        pub fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("files-{}-{}", name, std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_new_file_is_never_one_that_is_there() {
        let folder = Folder::new("open");
        let path = folder.0.join("file");
        let missing = open(&path, Open::Write).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        let mut file = open(&path, Open::New(0o600)).unwrap();
        file.write_all(b"text").unwrap();
        close(file).unwrap();
        let there = open(&path, Open::New(0o600)).unwrap_err();
        assert_eq!(there.kind(), ErrorKind::AlreadyExists);
        let file = open(&path, Open::Make(0o600)).unwrap();
        let about = about(&file).unwrap();
        assert_eq!(
            (about.kind, about.size, about.position),
            (Kind::Regular, 4, 0)
        );
        assert!(about.writes && !about.reads && !about.appends);
    }

    #[test]
    fn what_does_not_block_is_waited_for() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let file = File::from(OwnedFd::from(ours));
        let again = |done: Result<usize>| done.unwrap_err().kind() == ErrorKind::Interrupted;
        assert!(again(blocking(&file, false, (&file).read(&mut [0; 9]))));
        theirs.write_all(b"text").unwrap();
        assert!(again(blocking(
            &file,
            false,
            Err(ErrorKind::WouldBlock.into())
        )));
        assert_eq!(
            blocking(&file, false, (&file).read(&mut [0; 9])).unwrap(),
            4
        );
        let other = blocking::<()>(&file, true, Err(ErrorKind::NotFound.into()));
        assert_eq!(other.unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn what_has_no_positions_is_a_sequence() {
        let null = open(Path::new("/dev/null"), Open::Read).unwrap();
        assert_eq!(about(&null).unwrap().kind, Kind::Sequence);
        let folder = open(Path::new("/"), Open::Read).unwrap();
        assert_eq!(about(&folder).unwrap().kind, Kind::Directory);
    }
}
