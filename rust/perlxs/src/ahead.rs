//! Bytes that have been received and that the program has not had yet.

use perl_sys as sys;
use std::cell::{RefCell, UnsafeCell};
use std::mem::MaybeUninit;
use std::os::raw::c_char;
use std::{ptr, slice};

/// A buffer that is emptied from its front, also by C: a plain call takes what it
/// wants of the bytes by itself (`plx_take_ready`). It owns the bytes.
pub struct Ahead {
    /// The bytes that are left: a tail of `bytes`, or nothing.
    ready: UnsafeCell<sys::Ready>,
    bytes: RefCell<Vec<u8>>,
}

impl Default for Ahead {
    fn default() -> Ahead {
        Ahead {
            ready: UnsafeCell::new(sys::Ready {
                next: ptr::null(),
                left: 0,
            }),
            bytes: RefCell::default(),
        }
    }
}

impl Ahead {
    /// For C. It lives as long as `self`.
    pub(crate) fn ready(&self) -> *mut sys::Ready {
        self.ready.get()
    }

    /// The bytes that are there.
    fn rest(&self) -> &[u8] {
        // SAFETY: the type is not Sync, and C writes to `ready` only in a call that Perl
        // code makes; none is made while this borrow lives.
        let ready = unsafe { &*self.ready.get() };
        if ready.left == 0 {
            return &[];
        }
        // SAFETY: `ready` is a tail of `bytes` (set), from whose front alone something is
        // taken; whoever changes `bytes` sets `ready` anew. The slice is used in this
        // module only, before either, or while `bytes` is borrowed (take).
        unsafe { slice::from_raw_parts(ready.next as *const u8, ready.left) }
    }

    fn advance(&self, by: usize) {
        // SAFETY: as in `rest`; no other borrow is alive.
        let ready = unsafe { &mut *self.ready.get() };
        let by = by.min(ready.left);
        // SAFETY: no further than the end of the bytes.
        ready.next = unsafe { ready.next.add(by) };
        ready.left -= by;
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// Whether it has never had a buffer.
    pub fn is_new(&self) -> bool {
        self.bytes.borrow().capacity() == 0
    }

    /// Fills `space` as far as the bytes reach; None where there are none.
    pub fn copy_to(&self, space: &mut [MaybeUninit<u8>]) -> Option<usize> {
        let rest = self.rest();
        if rest.is_empty() {
            return None;
        }
        let len = space.len().min(rest.len());
        // SAFETY: both have `len` bytes at least, and `space` is borrowed mutably, so they do
        // not overlap.
        unsafe { ptr::copy_nonoverlapping(rest.as_ptr(), space.as_mut_ptr().cast(), len) };
        self.advance(len);
        Some(len)
    }

    /// Lends at most `most` of the bytes to `work`, which must run no Perl code. Where it has made
    /// something of them they are taken; otherwise they stay. It panics where `work` changes what
    /// is here.
    pub fn take<T>(&self, most: usize, work: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        let borrowed = self.bytes.borrow();
        let rest = self.rest();
        let lent = &rest[..most.min(rest.len())];
        let made = work(lent);
        let len = lent.len();
        drop(borrowed);
        if made.is_some() {
            self.advance(len);
        }
        made
    }

    /// Takes all of the bytes, or at most `most`.
    pub fn take_vec(&self, most: usize) -> Vec<u8> {
        let taken = self.take(most, |bytes| Some(bytes.to_vec()));
        taken.unwrap_or_default()
    }

    /// Keeps `bytes` for the next to ask, before what is there.
    pub fn put_back(&self, bytes: &[u8]) {
        let all = [bytes, self.rest()].concat();
        self.set(all);
    }

    /// Has `bytes` to give after those that are there. Returns how many there are now.
    pub fn add(&self, bytes: Vec<u8>) -> usize {
        if self.is_empty() {
            self.set(bytes);
        } else {
            self.set([self.rest(), &bytes].concat());
        }
        self.rest().len()
    }

    /// The buffer, empty, to be filled anew.
    pub fn buffer(&self) -> Vec<u8> {
        let mut buffer = self.set(Vec::new());
        buffer.clear();
        buffer
    }

    /// Has `bytes` to give from now on. Returns the buffer that it had.
    pub fn set(&self, bytes: Vec<u8>) -> Vec<u8> {
        // The buffer stays where it is when the vector moves.
        let (next, left) = (bytes.as_ptr() as *const c_char, bytes.len());
        // It panics while somebody uses the old bytes.
        let old = self.bytes.replace(bytes);
        // SAFETY: as in `rest`; no other borrow is alive.
        let ready = unsafe { &mut *self.ready.get() };
        ready.next = next;
        ready.left = left;
        old
    }

    /// Forgets what there is, and gives the memory back.
    pub fn clear(&self) {
        drop(self.set(Vec::new()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(ahead: &Ahead, most: usize) -> Option<Vec<u8>> {
        let mut space = vec![MaybeUninit::new(b'-'); most];
        let len = ahead.copy_to(&mut space)?;
        // SAFETY: all of it was initialised to begin with.
        Some(
            space[..len]
                .iter()
                .map(|b| unsafe { b.assume_init() })
                .collect(),
        )
    }

    #[test]
    fn bytes_come_in_order_whoever_asks() {
        let ahead = Ahead::default();
        assert!(ahead.is_empty());
        assert_eq!(copied(&ahead, 4), None);
        ahead.set(b"abcdefgh".to_vec());
        assert_eq!(copied(&ahead, 3).unwrap(), b"abc");
        assert_eq!(copied(&ahead, 2).unwrap(), b"de");
        ahead.put_back(b"DE");
        assert_eq!(copied(&ahead, 3).unwrap(), b"DEf");
        assert_eq!(copied(&ahead, 9).unwrap(), b"gh");
        assert!(ahead.is_empty());
        assert_eq!(copied(&ahead, 0), None);
        assert_eq!(ahead.add(b"ij".to_vec()), 2);
        assert_eq!(ahead.add(b"k".to_vec()), 3);
        assert_eq!(ahead.add(Vec::new()), 3);
        assert_eq!(copied(&ahead, 9).unwrap(), b"ijk");
        ahead.put_back(b"h");
        assert_eq!(copied(&ahead, 0).unwrap(), b"");
        assert!(ahead.buffer().is_empty());
        assert!(ahead.is_empty());
    }
}
