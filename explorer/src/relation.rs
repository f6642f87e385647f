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

    pub(crate) fn has(&self, from: usize, to: usize) -> bool {
        self.rows[from * self.words + to / 64] >> (to % 64) & 1 == 1
    }

    pub(crate) fn add_all(&mut self, other: &Relation) {
        for (mine, theirs) in self.rows.iter_mut().zip(&other.rows) {
            *mine |= theirs;
        }
    }

    /// Gives `to` all successors that `from` has in `other`.
    pub(crate) fn add_row(&mut self, to: usize, other: &Relation, from: usize) {
        for word in 0..self.words {
            self.rows[to * self.words + word] |= other.rows[from * self.words + word];
        }
    }

    /// `self; other`.
    pub(crate) fn then(&self, other: &Relation) -> Relation {
        let mut result = Relation::empty(self.size);
        for from in 0..self.size {
            for middle in 0..self.size {
                if self.has(from, middle) {
                    result.add_row(from, other, middle);
                }
            }
        }
        result
    }

    /// Makes the relation transitive.
    pub(crate) fn close(&mut self) {
        for middle in 0..self.size {
            let row = middle * self.words..(middle + 1) * self.words;
            let successors = self.rows[row].to_vec();
            for from in 0..self.size {
                if self.has(from, middle) {
                    for (word, bits) in successors.iter().enumerate() {
                        self.rows[from * self.words + word] |= bits;
                    }
                }
            }
        }
    }

    pub(crate) fn is_acyclic(&self) -> bool {
        let mut closed = self.clone();
        closed.close();
        (0..self.size).all(|element| !closed.has(element, element))
    }
}
