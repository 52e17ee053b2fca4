//! Zeroes among the data of a file, found by whole blocks of it.

/// How long a block is. File systems keep no shorter holes.
pub const UNIT: usize = 4096;

pub static ZEROES: [u8; 1 << 16] = [0; 1 << 16];

/// A stretch of what a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run<'a> {
    Data(&'a [u8]),
    /// So many zeroes.
    Hole(u64),
}

/// Bytes that come in pieces of any length, as runs of data and of zero blocks. How
/// they were cut does not show: a block that is not whole yet waits.
pub struct Blocks {
    /// Where in the file the next byte belongs, of those that do not wait.
    at: u64,
    waiting: Vec<u8>,
}

impl Blocks {
    /// For bytes that belong at `at` and behind.
    pub fn new(at: u64) -> Blocks {
        Blocks {
            at,
            waiting: Vec::new(),
        }
    }

    /// Takes bytes in, and gives out the runs that are whole.
    pub fn feed<E>(
        &mut self,
        mut bytes: &[u8],
        give: &mut impl FnMut(Run<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.waiting.is_empty() {
            let missing = self.to_boundary() - self.waiting.len();
            let (fill, rest) = bytes.split_at(missing.min(bytes.len()));
            self.waiting.extend_from_slice(fill);
            bytes = rest;
            if fill.len() < missing {
                return Ok(());
            }
            self.flush(give)?;
        }
        let whole = match bytes.len() {
            len if len < self.to_boundary() => 0,
            len => len - (self.at + len as u64) as usize % UNIT,
        };
        let (now, later) = bytes.split_at(whole);
        self.waiting.extend_from_slice(later);
        self.runs(now, give)
    }

    /// Gives out what waits: a hole follows, or the end.
    pub fn flush<E>(&mut self, give: &mut impl FnMut(Run<'_>) -> Result<(), E>) -> Result<(), E> {
        let mut waiting = std::mem::take(&mut self.waiting);
        let given = self.runs(&waiting, give);
        waiting.clear();
        self.waiting = waiting;
        given
    }

    /// Passes over a hole of the file's own; nothing may wait.
    pub fn skip(&mut self, length: u64) {
        debug_assert!(self.waiting.is_empty());
        self.at = self.at.wrapping_add(length);
    }

    /// How far the next block's end is.
    fn to_boundary(&self) -> usize {
        UNIT - self.at as usize % UNIT
    }

    fn runs<E>(
        &mut self,
        mut bytes: &[u8],
        give: &mut impl FnMut(Run<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            let mut len = 0;
            let mut zero = None;
            while len < bytes.len() {
                let rest = &bytes[len..];
                let boundary = UNIT - (self.at + len as u64) as usize % UNIT;
                let block = &rest[..boundary.min(rest.len())];
                let is_zero = block == &ZEROES[..block.len()];
                if *zero.get_or_insert(is_zero) != is_zero {
                    break;
                }
                len += block.len();
            }
            let (run, rest) = bytes.split_at(len);
            self.at += len as u64;
            bytes = rest;
            give(match zero {
                Some(true) => Run::Hole(len as u64),
                _ => Run::Data(run),
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The runs that come of `content` from `at` on, cut into pieces of `piece`;
    /// neighbours of one kind are one.
    fn runs(at: u64, content: &[u8], piece: usize) -> Vec<(bool, usize)> {
        let mut found: Vec<(bool, usize)> = Vec::new();
        let mut back = Vec::new();
        let mut give = |run: Run<'_>| -> Result<(), ()> {
            let (hole, len) = match run {
                Run::Data(bytes) => {
                    back.extend_from_slice(bytes);
                    (false, bytes.len())
                }
                Run::Hole(len) => {
                    back.resize(back.len() + len as usize, 0);
                    (true, len as usize)
                }
            };
            assert!(len > 0);
            match found.last_mut() {
                Some(last) if last.0 == hole => last.1 += len,
                _ => found.push((hole, len)),
            }
            Ok(())
        };
        let mut blocks = Blocks::new(at);
        for piece in content.chunks(piece) {
            blocks.feed(piece, &mut give).unwrap();
        }
        blocks.flush(&mut give).unwrap();
        assert_eq!(back, content);
        found
    }

    fn content(sections: &[(bool, usize)]) -> Vec<u8> {
        let mut all = Vec::new();
        for (hole, len) in sections {
            all.resize(all.len() + len, if *hole { 0 } else { 7 });
        }
        all
    }

    #[test]
    fn however_it_is_cut_the_runs_are_the_same() {
        let sections = [(true, UNIT), (false, 5), (true, 3 * UNIT), (false, UNIT)];
        let content = content(&sections);
        // Five bytes shift all that follows: three blocks of zeroes are two whole ones.
        let expected = [
            (true, UNIT),
            (false, UNIT),
            (true, 2 * UNIT),
            (false, UNIT + 5),
        ];
        for piece in [1, 7, UNIT - 1, UNIT, UNIT + 1, 3 * UNIT, content.len()] {
            assert_eq!(runs(0, &content, piece), expected, "pieces of {}", piece);
        }
    }

    #[test]
    fn blocks_are_those_of_the_file() {
        let zeroes = content(&[(true, 2 * UNIT)]);
        assert_eq!(runs(10, &zeroes, 100), [(true, 2 * UNIT)]);
        // The first byte stands in a block of 4,086 bytes, all else being zero.
        let mut dirty = zeroes;
        dirty[0] = 1;
        assert_eq!(
            runs(10, &dirty, 100),
            [(false, UNIT - 10), (true, UNIT + 10)]
        );
    }

    #[test]
    fn short_ends_count_as_blocks() {
        assert_eq!(runs(0, &[], 1), []);
        assert_eq!(runs(0, &[0], 1), [(true, 1)]);
        assert_eq!(runs(0, &[1], 1), [(false, 1)]);
        let tail = content(&[(false, UNIT), (true, 3)]);
        assert_eq!(runs(0, &tail, 2), [(false, UNIT), (true, 3)]);
    }

    #[test]
    fn a_hole_of_the_files_own_moves_the_blocks() {
        let mut blocks = Blocks::new(0);
        let mut found = Vec::new();
        let mut give = |run: Run<'_>| -> Result<(), ()> {
            found.push(match run {
                Run::Data(bytes) => (false, bytes.len() as u64),
                Run::Hole(len) => (true, len),
            });
            Ok(())
        };
        blocks.skip(UNIT as u64 - 1);
        blocks.feed(&[1, 0, 0], &mut give).unwrap();
        blocks.flush(&mut give).unwrap();
        assert_eq!(found, [(false, 1), (true, 2)]);
    }

    #[test]
    fn an_error_ends_it() {
        let mut blocks = Blocks::new(0);
        let content = vec![1; 2 * UNIT];
        assert_eq!(blocks.feed(&content, &mut |_| Err("full")), Err("full"));
    }
}
