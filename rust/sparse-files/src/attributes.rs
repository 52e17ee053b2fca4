//! Extended attributes of files, among which are their access control lists.

use std::fs::File;
use std::io::Result;
use std::path::Path;

/// Gives `to` the extended attributes of the file at `from`. What the system sets by
/// itself, as a security label, is only tried.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn copy_attributes(from: &Path, to: &File) -> Result<()> {
    use std::ffi::{CStr, CString};
    use std::io::{Error, ErrorKind};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::io::AsRawFd;

    let path = CString::new(from.as_os_str().as_bytes())?;
    let names = match whole(|space, len| {
        // SAFETY: the path is a C string, and `space` has room for `len` bytes.
        unsafe { libc::listxattr(path.as_ptr(), space.cast(), len) }
    }) {
        // A file system without any.
        Err(error) if error.raw_os_error() == Some(libc::ENOTSUP) => return Ok(()),
        names => names?,
    };
    for name in names.split_inclusive(|byte| *byte == 0) {
        let name =
            CStr::from_bytes_with_nul(name).map_err(|_| Error::from(ErrorKind::InvalidData))?;
        let set = whole(|space, len| {
            // SAFETY: path and name are C strings, and `space` has room for `len` bytes.
            unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), space.cast(), len) }
        })
        .and_then(|value| {
            let (fd, bytes) = (to.as_raw_fd(), value.as_ptr().cast());
            // SAFETY: the descriptor is open as long as `to` lives, the name is a C string,
            // and the value has as many bytes.
            crate::check(unsafe { libc::fsetxattr(fd, name.as_ptr(), bytes, value.len(), 0) })
        });
        let name = name.to_bytes();
        let is_owners = name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_");
        if is_owners {
            set?;
        }
    }
    Ok(())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn copy_attributes(_: &Path, _: &File) -> Result<()> {
    Ok(())
}

/// All that a call gives. Without space the call says how long that is.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn whole(mut call: impl FnMut(*mut u8, usize) -> libc::ssize_t) -> Result<Vec<u8>> {
    loop {
        let len = crate::check(call(std::ptr::null_mut(), 0))? as usize;
        let mut bytes = vec![0; len];
        match crate::check(call(bytes.as_mut_ptr(), len)) {
            // It has grown meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) => (),
            got => {
                bytes.truncate(got? as usize);
                return Ok(bytes);
            }
        }
    }
}
