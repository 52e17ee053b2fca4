//! The digest of what a transfer moves, holes as the zeroes that they are.

use crate::file::blocks::ZEROES;
use sha2::{Digest as _, Sha256};

/// The digests that a program can ask for.
pub const NAMES: [&str; 1] = ["sha256"];

#[derive(Default)]
pub struct Digest(Sha256);

impl Digest {
    pub fn data(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn zeroes(&mut self, mut length: u64) {
        while length > 0 {
            let now = length.min(ZEROES.len() as u64);
            self.0.update(&ZEROES[..now as usize]);
            length -= now;
        }
    }

    /// In hexadecimal digits.
    pub fn text(&self) -> String {
        let sum = self.0.clone().finalize();
        sum.iter().map(|byte| format!("{:02x}", byte)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_counts_as_its_zeroes() {
        let (mut one, mut other) = (Digest::default(), Digest::default());
        one.data(b"abc");
        assert!(one.text().starts_with("ba7816bf8f01cfea"));
        other.data(b"abc");
        one.zeroes(ZEROES.len() as u64 + 3);
        other.data(&vec![0; ZEROES.len() + 3]);
        assert_eq!(one.text(), other.text());
    }
}
