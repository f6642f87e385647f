//! Binary relations over small sets of events, one bit per pair.

#[derive(Clone, Debug)]
pub(crate) struct Relation {
    rows: Vec<u64>,
    words: usize,
    size: usize,
}

impl Relation {
    pub(crate) fn empty(size: usize) -> Relation {
        let words = size.div_ceil(64);
        Relation { rows: vec![0; size * words], words, size }
    }

    pub(crate) fn add(&mut self, from: usize, to: usize) {
        self.rows[from * self.words + to / 64] |= 1 << (to % 64);
    }

    /// Takes away what leads to nothing that is left, until nothing goes or nothing is left.
    pub(crate) fn is_acyclic(&self) -> bool {
        let mut left: Vec<usize> = (0..self.size).collect();
        let mut is_left = vec![u64::MAX; self.words];
        loop {
            let before = left.len();
            left.retain(|element| {
                let row = &self.rows[element * self.words..(element + 1) * self.words];
                let stays = row.iter().zip(&is_left).any(|(row, left)| row & left != 0);
                if !stays {
                    is_left[element / 64] &= !(1 << (element % 64));
                }
                stays
            });
            if left.is_empty() || left.len() == before {
                return left.is_empty();
            }
        }
    }
}
