//! Locks without work: what it costs to own a range.

use std::hint::black_box;

use crate::raw::Raw;
use crate::walk::Tree;
use crate::workload::{Operation, Role, Span, State, Table, Workload};

/// How often a run locks the span.
const REPETITIONS: u64 = 100;

/// A table whose ranges can be locked.
pub trait Lockable: Table {
    /// Locks every leaf node of each chunk, calls `inside`, and unlocks. Returns how many leaf
    /// nodes it believes to have locked, or chunks if those are smaller.
    fn lock_chunks(&self, span: &Span, inside: impl FnMut(&Self)) -> u64;

    /// How many leaf nodes of the span are locked now, as somebody else finds who tries.
    fn count_locked(&self, span: &Span) -> u64;
}

/// Locks a span, chunk by chunk, and unlocks it.
#[derive(Debug)]
pub struct Locking<T> {
    table: T,
    role: Role,
    span: Span,
}

impl<T: Lockable> Locking<T> {
    /// Locks the chunks of a span in a table.
    pub fn new(role: Role, table: T, span: Span) -> Self {
        Self { table, role, span }
    }

    fn locks(&self) -> u64 {
        (self.span.leaves().count() as u64).max(self.span.chunks().count() as u64)
    }
}

impl<T: Lockable> Workload for Locking<T> {
    fn name(&self) -> String {
        self.table.name()
    }

    fn role(&self) -> Role {
        self.role
    }

    fn units(&self) -> u64 {
        self.locks() * REPETITIONS
    }

    fn prepare(&mut self) {
        self.table.prepare(State::Mapped, &self.span);
    }

    fn run(&mut self) -> u64 {
        (0..REPETITIONS).map(|_| self.table.lock_chunks(black_box(&self.span), |_| {})).sum()
    }

    fn verify(&mut self, result: u64) -> Result<(), String> {
        if result != self.units() {
            return Err(format!("{result} locks were taken and not {}", self.units()));
        }
        let mut inside = 0;
        self.table.lock_chunks(&self.span, |table| inside += table.count_locked(&self.span));
        if inside != self.locks() {
            return Err(format!("{inside} leaf nodes were locked and not {}", self.locks()));
        }
        match self.table.count_locked(&self.span) {
            0 => Ok(()),
            after => Err(format!("{after} leaf nodes stayed locked")),
        }
    }
}

/// The walk to each chunk's leaf, and its lock: for chunks within a leaf.
impl Lockable for Raw {
    fn lock_chunks(&self, span: &Span, mut inside: impl FnMut(&Self)) -> u64 {
        let mut locks = 0;
        for chunk in span.chunks() {
            let leaf = self.descend(chunk.start, 1);
            self.lock(leaf);
            inside(self);
            self.unlock(leaf);
            locks += 1;
        }
        locks
    }

    fn count_locked(&self, span: &Span) -> u64 {
        span.leaves().filter(|&leaf| self.is_locked(leaf)).count() as u64
    }
}

/// Locks and nothing else: it is known beforehand where they are.
#[derive(Debug)]
pub struct Bare {
    raw: Raw,
    leaves: Vec<u64>,
}

impl Bare {
    /// The leaf nodes of this table.
    pub fn new(raw: Raw) -> Self {
        Self { raw, leaves: Vec::new() }
    }
}

impl Tree for Bare {
    fn root(&self) -> u64 {
        self.raw.root()
    }

    fn entry(&self, node: u64, index: usize) -> u64 {
        self.raw.entry(node, index)
    }

    fn set(&self, node: u64, index: usize, bits: u64) {
        self.raw.set(node, index, bits);
    }
}

impl Table for Bare {
    fn name(&self) -> String {
        self.raw.name()
    }

    fn prepare(&mut self, state: State, span: &Span) {
        self.raw.prepare(state, span);
        self.leaves = self.raw.leaf_nodes(span);
    }

    fn run(&mut self, operation: Operation, span: &Span) -> u64 {
        self.raw.run(operation, span)
    }
}

impl Lockable for Bare {
    fn lock_chunks(&self, _span: &Span, mut inside: impl FnMut(&Self)) -> u64 {
        for &leaf in &self.leaves {
            self.raw.lock(leaf);
        }
        inside(self);
        for &leaf in self.leaves.iter().rev() {
            self.raw.unlock(leaf);
        }
        self.leaves.len() as u64
    }

    fn count_locked(&self, span: &Span) -> u64 {
        self.raw.count_locked(span)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::memory::Arena;
    use crate::raw::Care;

    struct Unlocked(Bare);

    impl Tree for Unlocked {
        fn root(&self) -> u64 {
            self.0.root()
        }

        fn entry(&self, node: u64, index: usize) -> u64 {
            self.0.entry(node, index)
        }

        fn set(&self, node: u64, index: usize, bits: u64) {
            self.0.set(node, index, bits);
        }
    }

    impl Table for Unlocked {
        fn name(&self) -> String {
            "unlocked".to_owned()
        }

        fn prepare(&mut self, state: State, span: &Span) {
            self.0.prepare(state, span);
        }

        fn run(&mut self, operation: Operation, span: &Span) -> u64 {
            self.0.run(operation, span)
        }
    }

    impl Lockable for Unlocked {
        fn lock_chunks(&self, _span: &Span, mut inside: impl FnMut(&Self)) -> u64 {
            inside(self);
            self.0.leaves.len() as u64
        }

        fn count_locked(&self, span: &Span) -> u64 {
            self.0.count_locked(span)
        }
    }

    fn bare() -> Bare {
        let arena = Arc::new(Arena::new(16).expect("the host has a few pages"));
        Bare::new(Raw::new("bare", arena, Care::NONE))
    }

    fn check(table: impl Lockable) -> Result<(), String> {
        let mut locking = Locking::new(Role::Bound, table, Span::whole(1024));
        locking.prepare();
        let result = locking.run();
        locking.verify(result)
    }

    #[test]
    fn locks_are_held_inside_and_free_after() {
        assert_eq!(check(bare()), Ok(()));
    }

    #[test]
    fn a_table_that_does_not_lock_is_reported() {
        assert_eq!(check(Unlocked(bare())), Err("0 leaf nodes were locked and not 2".to_owned()));
    }
}
