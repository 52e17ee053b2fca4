//! Bytes that libvirt has given and the program has not had yet: received ahead
//! of many small calls, or for a scalar that then could not take them.

use std::cell::{Cell, RefCell};
use std::mem::MaybeUninit;

#[derive(Default)]
pub struct Ahead {
    bytes: RefCell<Vec<u8>>,
    /// How many of them the program has had.
    had: Cell<usize>,
}

impl Ahead {
    pub fn is_empty(&self) -> bool {
        self.had.get() == self.bytes.borrow().len()
    }

    /// Fills `space` as far as the bytes reach; None where there are none.
    pub fn copy_to(&self, space: &mut [MaybeUninit<u8>]) -> Option<usize> {
        let bytes = self.bytes.borrow();
        let rest = bytes.get(self.had.get()..).filter(|r| !r.is_empty())?;
        for (to, from) in space.iter_mut().zip(rest) {
            to.write(*from);
        }
        let len = space.len().min(rest.len());
        self.had.set(self.had.get() + len);
        Some(len)
    }

    /// At most `most` of the bytes.
    pub fn take(&self, most: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        let bytes = self.bytes.borrow();
        let rest = &bytes[self.had.get()..];
        taken.extend_from_slice(&rest[..rest.len().min(most)]);
        self.had.set(self.had.get() + taken.len());
        taken
    }

    /// Keeps `bytes` for the next to ask.
    pub fn put_back(&self, bytes: &[u8]) {
        let had = self.had.replace(0);
        let mut kept = self.bytes.borrow_mut();
        kept.splice(..had, bytes.iter().copied());
    }

    /// The buffer, for libvirt to fill anew: there is nothing left in it.
    pub fn buffer(&self) -> Vec<u8> {
        self.had.set(0);
        self.bytes.take()
    }

    /// Has `bytes` to give from now on.
    pub fn set(&self, bytes: Vec<u8>) {
        self.had.set(0);
        self.bytes.replace(bytes);
    }

    /// Forgets what there is, and gives the memory back.
    pub fn clear(&self) {
        self.set(Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(ahead: &Ahead, most: usize) -> Option<usize> {
        ahead.copy_to(&mut vec![MaybeUninit::uninit(); most])
    }

    #[test]
    fn bytes_come_in_order_whoever_asks() {
        let ahead = Ahead::default();
        assert!(ahead.is_empty());
        assert_eq!(copied(&ahead, 4), None);
        ahead.set(b"abcdefgh".to_vec());
        assert_eq!(copied(&ahead, 3), Some(3));
        assert_eq!(ahead.take(2), b"de");
        ahead.put_back(b"DE");
        assert_eq!(ahead.take(3), b"DEf");
        assert_eq!(copied(&ahead, 9), Some(2));
        assert!(ahead.is_empty());
        assert_eq!(ahead.take(1), b"");
        ahead.put_back(b"h");
        assert_eq!(ahead.take(9), b"h");
    }
}
