//! A file that takes another's name when it is whole.

use sparse_files::Open;
use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, Permissions};
use std::hash::{BuildHasher, Hasher};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file of this process's making, removed by Drop unless it is `kept`.
pub struct Provisional {
    path: PathBuf,
    kept: bool,
    pid: u32,
}

impl Provisional {
    pub fn new(path: &Path) -> Provisional {
        Provisional {
            path: wherever_we_go(path),
            kept: false,
            pid: std::process::id(),
        }
    }

    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Provisional {
    fn drop(&mut self) {
        // A forked child leaves the file to its parent.
        if !self.kept && self.pid == std::process::id() {
            let _ = fs::remove_file(&self.path); // an error cannot be reported here
        }
    }
}

/// A new file that is to replace the one at `path`.
pub struct Replacement {
    temporary: Provisional,
    path: PathBuf,
}

impl Replacement {
    /// Makes the new file, beside the one that a symbolic link may lead to, with that
    /// one's permissions and attributes, and its owner where that is allowed.
    pub fn new(path: &Path) -> Result<(Replacement, File)> {
        Replacement::made(path, beside)
    }

    /// The same with a file at `partial`, of which the first `from` bytes are there
    /// already. It stays if the transfer fails.
    pub fn by(path: &Path, partial: &Path, from: u64) -> Result<(Replacement, File)> {
        Replacement::made(path, |_, mode| {
            let file = locked(partial, mode)?;
            let size = file.metadata()?.size();
            if size < from {
                let why = "the file at hand is shorter than what it is said to have";
                return Err(Error::new(ErrorKind::Other, why));
            }
            // ext4 writes a file to the disk at its close if the file was once cut to no bytes.
            if size > from {
                file.set_len(from)?;
            }
            let mut temporary = Provisional::new(partial);
            temporary.kept = true;
            Ok((temporary, file))
        })
    }

    fn made(
        path: &Path,
        make: impl FnOnce(&Path, u32) -> Result<(Provisional, File)>,
    ) -> Result<(Replacement, File)> {
        let path = behind_links(path)?;
        if names_a_folder(&path) {
            return Err(sparse_files::is_a_directory());
        }
        let old = match fs::metadata(&path) {
            Ok(old) => Some(old),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if old.as_ref().map_or(false, Metadata::is_dir) {
            return Err(sparse_files::is_a_directory());
        }
        if old.as_ref().map_or(false, |old| !old.is_file()) {
            let why = "it is no ordinary file, which another could replace";
            return Err(Error::new(ErrorKind::Other, why));
        }
        let mode = if old.is_some() { 0o600 } else { 0o666 };
        let (temporary, file) = make(&path, mode)?;
        if let Some(old) = old {
            let _ = sparse_files::give(&file, old.uid(), old.gid()); // root's to do
            file.set_permissions(Permissions::from_mode(old.mode() & 0o777))?;
            sparse_files::copy_attributes(&path, &file)?;
        }
        Ok((Replacement { temporary, path }, file))
    }

    /// Gives it the name: from now on everybody sees the new file. With `sync` that is
    /// also on disk.
    pub fn put_in_place(self, sync: bool) -> Result<()> {
        fs::rename(&self.temporary.path, &self.path)?;
        self.temporary.keep();
        if sync {
            File::open(folder_of(&self.path))?.sync_all()?;
        }
        Ok(())
    }
}

/// A path that means the same when the program has changed its folder.
fn wherever_we_go(path: &Path) -> PathBuf {
    std::env::current_dir().map_or_else(|_| path.to_path_buf(), |folder| folder.join(path))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Whether a path means a folder, whatever stands there. `Path` itself drops such ends.
fn names_a_folder(path: &Path) -> bool {
    let path = path.as_os_str().as_bytes();
    path.ends_with(b"/") || path.ends_with(b"/.")
}

/// What a symbolic link leads to, whether it is there or not.
fn behind_links(path: &Path) -> Result<PathBuf> {
    const MOST: usize = 40; // as the system itself
    let mut path = wherever_we_go(path);
    for _ in 0..MOST {
        match fs::read_link(&path) {
            Ok(to) => path = folder_of(&path).join(to),
            Err(_) => return Ok(path), // no link, or none that can be followed
        }
    }
    Err(sparse_files::too_many_links())
}

/// The file at `path`, made if need be, which no other transfer writes to.
fn locked(path: &Path, mode: u32) -> Result<File> {
    loop {
        let file = sparse_files::open(path, Open::Make(mode))?;
        sparse_files::lock(&file)?;
        // The transfer that had locked it may have renamed it meanwhile.
        match fs::symlink_metadata(path) {
            Ok(there) if there.ino() == file.metadata()?.ino() => return Ok(file),
            Ok(there) if !there.is_file() => {
                let why = "what is to become the new file is no ordinary one";
                return Err(Error::new(ErrorKind::Other, why));
            }
            _ => (),
        }
    }
}

/// A new file `.NAME.XXXXXX` in the same folder, with a name that nothing there has.
fn beside(path: &Path, mode: u32) -> Result<(Provisional, File)> {
    let name = path.file_name().ok_or_else(sparse_files::is_a_directory)?;
    loop {
        let path = path.with_file_name(hidden(name));
        match sparse_files::open(&path, Open::New(mode)) {
            Ok(file) => return Ok((Provisional::new(&path), file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => (),
            Err(error) => return Err(error),
        }
    }
}

fn hidden(name: &OsStr) -> OsString {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    const LONGEST: usize = 247; // with dots and letters no more than a name may have
    let name = name.as_bytes();
    let mut hidden = OsString::from(".");
    hidden.push(OsStr::from_bytes(&name[..name.len().min(LONGEST)]));
    hidden.push(".");
    let mut random = RandomState::new().build_hasher().finish();
    for _ in 0..6 {
        hidden.push(OsStr::from_bytes(&[
            LETTERS[random as usize % LETTERS.len()]
        ]));
        random /= LETTERS.len() as u64;
    }
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_names_are_new_and_never_too_long() {
        let long = OsString::from("x".repeat(255));
        assert_eq!(hidden(&long).len(), 255);
        let name = OsStr::new("disk.img");
        let made = hidden(name);
        assert!(made.to_str().unwrap().starts_with(".disk.img."));
        assert_eq!(made.len(), name.len() + 8);
        assert_ne!(made, hidden(name));
    }

    #[test]
    fn some_paths_mean_folders() {
        for folder in ["/a/", "/a/.", "/", "a//"] {
            assert!(names_a_folder(Path::new(folder)), "{}", folder);
        }
        for file in ["/a/b", "/a/.b", "/a/b."] {
            assert!(!names_a_folder(Path::new(file)), "{}", file);
        }
    }

    #[test]
    fn a_folder_is_never_empty() {
        assert_eq!(folder_of(Path::new("file")), Path::new("."));
        assert_eq!(folder_of(Path::new("/file")), Path::new("/"));
        assert_eq!(folder_of(Path::new("a/b")), Path::new("a"));
    }
}
