//! Whether an integer is the address of a live libvirt object.
//!
//! A Perl object is a scalar with an address in it, and a program can put any
//! integer there. Before one is followed, the system is asked to copy the memory,
//! which it refuses where none is mapped, and its type is asked of GObject, which
//! every libvirt object is one of.

use std::ffi::CStr;
use std::os::raw::c_char;
use std::sync::Mutex;
use std::{mem, ptr};
use virt_sys as sys;

#[cfg(target_os = "macos")]
const GOBJECT: &[u8] = b"libgobject-2.0.0.dylib\0";
#[cfg(not(target_os = "macos"))]
const GOBJECT: &[u8] = b"libgobject-2.0.so.0\0";

/// An address at which an object of one class began when it was looked at. It is for use
/// at once: nothing here keeps the object.
#[derive(Clone, Copy)]
pub struct Identified<T>(ptr::NonNull<T>);

impl<T> Identified<T> {
    pub(crate) fn into_ptr(self) -> *mut T {
        self.0.as_ptr()
    }

    fn of(address: isize, class: &'static [u8]) -> Option<Identified<T>> {
        let object = ptr::NonNull::new(address as *mut T)?;
        is_instance(address as usize, class).then_some(Identified(object))
    }
}

/// A connection, known to be one.
pub type Connection = Identified<sys::_virConnect>;

impl Connection {
    /// The connection at `address`, if there is one.
    pub fn at(address: isize) -> Option<Connection> {
        Identified::of(address, b"virConnect\0")
    }
}

impl Identified<sys::_virStream> {
    /// The stream at `address`, if there is one.
    pub fn at(address: isize) -> Option<Self> {
        Identified::of(address, b"virStream\0")
    }
}

fn is_instance(address: usize, class: &'static [u8]) -> bool {
    let word = mem::size_of::<usize>();
    if address % word != 0 || address < 4096 {
        return false;
    }
    let wanted = match type_named(class) {
        Some(wanted) if wanted != 0 => wanted,
        _ => return false,
    };
    // A GObject begins with its class, and that with its type.
    match read_word(address) {
        Some(class) if class % word == 0 => read_word(class) == Some(wanted),
        _ => false,
    }
}

/// The word at an address, if it can be read: the system looks.
fn read_word(address: usize) -> Option<usize> {
    copied(address).or_else(|| Pipe::new()?.read_word(address))
}

/// The same by one call, which some sandboxes refuse.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn copied(address: usize) -> Option<usize> {
    let mut word = 0usize;
    let size = mem::size_of_val(&word);
    let here = libc::iovec {
        iov_base: &mut word as *mut usize as *mut libc::c_void,
        iov_len: size,
    };
    let there = libc::iovec {
        iov_base: address as *mut libc::c_void,
        iov_len: size,
    };
    // SAFETY: it writes into our own word; what cannot be read is an error.
    let got = unsafe { libc::process_vm_readv(libc::getpid(), &here, 1, &there, 1, 0) };
    (got == size as isize).then_some(word)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn copied(_: usize) -> Option<usize> {
    None
}

/// GObject's number for a class, 0 where there is no such class yet.
fn type_named(class: &'static [u8]) -> Option<usize> {
    type FromName = unsafe extern "C" fn(*const c_char) -> usize;
    // A class keeps its number.
    static KNOWN: Mutex<Vec<(&[u8], usize)>> = Mutex::new(Vec::new());
    let mut known = KNOWN
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some((_, number)) = known.iter().find(|(name, _)| *name == class) {
        return Some(*number);
    }
    // SAFETY: the library is the one that libvirt has loaded; it is asked for a
    // function whose type has been the same in all of GObject 2.
    unsafe {
        let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD;
        let library = libc::dlopen(GOBJECT.as_ptr() as *const c_char, flags);
        if library.is_null() {
            return None;
        }
        let name = b"g_type_from_name\0";
        let symbol = libc::dlsym(library, name.as_ptr() as *const c_char);
        let number = if symbol.is_null() {
            None
        } else {
            let from_name: FromName = mem::transmute(symbol);
            Some(from_name(CStr::from_bytes_with_nul(class).ok()?.as_ptr()))
        };
        libc::dlclose(library);
        match number {
            Some(number) if number != 0 => known.push((class, number)),
            _ => {}
        }
        number
    }
}

/// A pipe to copy memory through: the system checks the address.
struct Pipe([libc::c_int; 2]);

impl Pipe {
    fn new() -> Option<Pipe> {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors.
        let made = unsafe { libc::pipe(ends.as_mut_ptr()) } == 0;
        made.then(|| Pipe(ends))
    }

    fn read_word(&self, address: usize) -> Option<usize> {
        let mut word = [0u8; mem::size_of::<usize>()];
        let len = word.len();
        // SAFETY: write(2) answers EFAULT where the address can't be read; the
        // read is into our own word.
        let got = unsafe {
            libc::write(self.0[1], address as *const libc::c_void, len) == len as isize
                && libc::read(self.0[0], word.as_mut_ptr() as *mut libc::c_void, len)
                    == len as isize
        };
        got.then(|| usize::from_ne_bytes(word))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // SAFETY: both descriptors are ours.
        unsafe {
            libc::close(self.0[0]);
            libc::close(self.0[1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_is_followed_unseen() {
        let here = 17usize;
        for address in [
            0,
            1,
            8,
            4096,
            -8,
            isize::MAX,
            isize::MIN,
            &here as *const _ as isize,
        ] {
            assert!(Connection::at(address).is_none(), "{:#x}", address);
        }
    }

    #[test]
    fn a_connection_is_one_and_no_stream() {
        // SAFETY: a URI that needs no daemon; closed below.
        let conn = unsafe { sys::virConnectOpen(b"test:///default\0".as_ptr() as *const c_char) };
        assert!(!conn.is_null());
        assert!(Connection::at(conn as isize).is_some());
        let by_pipe = Pipe::new().and_then(|pipe| pipe.read_word(conn as usize));
        assert!(by_pipe.is_some());
        assert_eq!(read_word(conn as usize), by_pipe);
        assert!(Identified::<sys::_virStream>::at(conn as isize).is_none());
        // SAFETY: opened above.
        unsafe { sys::virConnectClose(conn) };
    }
}
