//! What each CPU asked of a page table and was told, in the order in which it did.
//!
//! A role keeps a [`History`] and returns it as what its CPU saw, so that nothing passes from one
//! CPU to another on the way. Each step has a mark where it begins and one where it ends; between
//! the two it must seem to happen at one point. What a CPU does while it owns a range is one step,
//! however many operations it is: they are recorded together.
//!
//! Histories are printed without their marks. Engines know different orders, and what they saw must
//! be comparable.

use core::fmt;

use crate::mark::Mark;
use crate::page_map::{Answer, Operation};
use crate::scenario::Cpu;
use crate::world::World;

/// The most operations in the history of one CPU.
pub const OPERATIONS_MAX: usize = 6;

/// An operation that has been carried out.
#[derive(Clone, Copy)]
pub(crate) struct Record {
    pub(crate) operation: Operation,
    pub(crate) answer: Answer,
    /// Where its step began.
    pub(crate) begin: Mark,
    /// Where its step ended.
    pub(crate) end: Mark,
    /// Whether it is in the same step as the one before it.
    pub(crate) is_joined: bool,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.operation, self.answer)
    }
}

/// What one CPU has done.
#[derive(Clone, Copy, Default)]
pub struct History {
    records: [Option<Record>; OPERATIONS_MAX],
}

impl History {
    /// Nothing has been done.
    pub const fn new() -> Self {
        Self { records: [None; OPERATIONS_MAX] }
    }

    /// Carries out one operation: `act` does it on `cpu` and gives the answer.
    ///
    /// # Panics
    ///
    /// If there is no room for it.
    #[track_caller]
    pub fn record<B: World>(
        &mut self,
        cpu: &mut Cpu<B>,
        operation: Operation,
        act: impl FnOnce(&mut Cpu<B>) -> Answer,
    ) -> Answer {
        let begin = cpu.mark();
        let answer = act(cpu);
        self.step(begin, cpu.mark(), &[(operation, answer)]);
        answer
    }

    /// Adds a step that began at `begin` and ended at `end`: operations that nothing may come in
    /// between. Both marks are of the CPU whose history it is; see [`Cpu::mark`].
    ///
    /// # Panics
    ///
    /// If there is no room for them.
    #[track_caller]
    pub fn step(&mut self, begin: Mark, end: Mark, operations: &[(Operation, Answer)]) {
        let start = self.records().count();
        assert!(
            start + operations.len() <= OPERATIONS_MAX,
            "a history has room for {OPERATIONS_MAX} operations"
        );
        for (number, &(operation, answer)) in operations.iter().enumerate() {
            let is_joined = number > 0;
            let record = Record { operation, answer, begin, end, is_joined };
            self.records[start + number] = Some(record);
        }
    }

    /// What the CPU was told by its operation with this number, from 0 on.
    ///
    /// # Panics
    ///
    /// If it has not done so many.
    #[track_caller]
    pub fn answer(&self, number: usize) -> Answer {
        let record = self.get(number);
        record.unwrap_or_else(|| panic!("the history has no operation {number}")).answer
    }

    /// What was done, in order.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().flatten()
    }

    /// The operation with this number.
    pub(crate) fn get(&self, number: usize) -> Option<&Record> {
        self.records.get(number)?.as_ref()
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, record) in self.records().enumerate() {
            let between = match (number, record.is_joined) {
                (0, _) => "",
                (_, true) => " with ",
                (_, false) => ", ",
            };
            write!(f, "{between}{record}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}
