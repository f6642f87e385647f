//! Sequential consistency and x86-TSO as machines: every state is visited.
//!
//! TSO after Owens, Sarkar and Sewell (2009): a store enters its thread's first-in first-out
//! buffer, a load takes the newest entry of its own buffer or else memory, the oldest entry may
//! reach memory at any time. Read-modify-writes, `SeqCst` stores and `SeqCst` fences wait until the
//! buffer is empty. Sequential consistency is the same without buffers.
//!
//! The loads of a window may run *ahead* of their thread: from the time the window is opened, the
//! next of them may be done, in their order, as far as the values can be kept. The thread gets what
//! they read when it arrives there, or loads then.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use super::program::{Operation, Outcome, Outcomes, Program, is_cacheable};

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    next: Vec<usize>,
    registers: Vec<Vec<u64>>,
    memory: Vec<u64>,
    buffers: Vec<Vec<(usize, u64)>>,
    /// What the next loads of each thread's window have read already.
    ahead: Vec<Vec<u64>>,
}

fn drains_buffer(operation: &Operation) -> bool {
    match operation {
        Operation::Store { order, .. } | Operation::Fence { order } => *order == Ordering::SeqCst,
        Operation::Load { .. } | Operation::Open | Operation::Within { .. } => false,
        Operation::Swap { .. } | Operation::Add { .. } | Operation::Cas { .. } => true,
    }
}

impl State {
    fn new(program: &Program) -> State {
        let threads = program.threads.len();
        State {
            next: vec![0; threads],
            registers: vec![Vec::new(); threads],
            memory: vec![0; program.word_count()],
            buffers: vec![Vec::new(); threads],
            ahead: vec![Vec::new(); threads],
        }
    }

    /// What a load by a thread gives now.
    fn value_for(&self, thread: usize, word: usize) -> u64 {
        let buffered = self.buffers[thread].iter().rev().find(|entry| entry.0 == word);
        buffered.map_or(self.memory[word], |entry| entry.1)
    }

    /// Does the next load of a thread's window ahead of the thread, or returns false if there is
    /// none, or what it reads cannot be kept.
    fn run_ahead(&mut self, thread: usize, operations: &[Operation]) -> bool {
        let window = operations[self.next[thread]..].iter();
        let mut loads =
            window.take_while(|operation| **operation != Operation::Open).filter_map(|operation| {
                match operation {
                    Operation::Within { word } => Some(*word),
                    _ => None,
                }
            });
        let Some(word) = loads.nth(self.ahead[thread].len()) else { return false };
        let value = self.value_for(thread, word);
        self.ahead[thread].push(value);
        is_cacheable(value)
    }

    /// Performs the next operation of a thread, or returns false if it has to wait.
    fn step(&mut self, thread: usize, operation: &Operation, tso: bool, awaits: bool) -> bool {
        if tso && drains_buffer(operation) && !self.buffers[thread].is_empty() {
            return false;
        }
        let current = operation.word().map_or(0, |word| self.value_for(thread, word));
        match *operation {
            Operation::Store { word, value, order } if tso && order != Ordering::SeqCst => {
                self.buffers[thread].push((word, value));
            }
            Operation::Store { word, value, .. } => self.memory[word] = value,
            Operation::Load { .. } => self.registers[thread].push(current),
            Operation::Within { .. } if !self.ahead[thread].is_empty() => {
                let read = self.ahead[thread].remove(0);
                self.registers[thread].push(read);
            }
            Operation::Within { .. } => self.registers[thread].push(current),
            Operation::Fence { .. } | Operation::Open => {}
            Operation::Swap { word, value, .. } => {
                self.registers[thread].push(current);
                self.memory[word] = value;
            }
            Operation::Add { word, value, .. } => {
                self.registers[thread].push(current);
                self.memory[word] = current + value;
            }
            Operation::Cas { expected, .. } if awaits && current != expected => return false,
            Operation::Cas { word, expected, value, .. } => {
                self.registers[thread].push(current);
                if current == expected {
                    self.memory[word] = value;
                }
            }
        }
        self.next[thread] += 1;
        true
    }
}

pub(crate) struct Enumerated {
    pub(crate) outcomes: Outcomes,
    /// Some state has threads that are not done, and none of them can ever go on.
    pub(crate) deadlocks: bool,
}

/// All outcomes of a program. With `awaits`, every compare-exchange waits until it succeeds.
pub(crate) fn enumerate(program: &Program, tso: bool, awaits: bool) -> Enumerated {
    let mut seen = HashSet::new();
    let mut open = vec![State::new(program)];
    let mut result = Enumerated { outcomes: Outcomes::new(), deadlocks: false };
    while let Some(state) = open.pop() {
        if !seen.insert(state.clone()) {
            continue;
        }
        let before = open.len();
        let mut is_done = true;
        for (thread, operations) in program.threads.iter().enumerate() {
            if !state.buffers[thread].is_empty() {
                let mut next = state.clone();
                let (word, value) = next.buffers[thread].remove(0);
                next.memory[word] = value;
                open.push(next);
            }
            let mut ahead = state.clone();
            if ahead.run_ahead(thread, operations) {
                open.push(ahead);
            }
            if let Some(operation) = operations.get(state.next[thread]) {
                is_done = false;
                let mut next = state.clone();
                if next.step(thread, operation, tso, awaits) {
                    open.push(next);
                }
            }
        }
        if open.len() == before {
            result.deadlocks |= !is_done;
            if is_done {
                let registers = state.registers.concat();
                result.outcomes.insert(Outcome { registers, memory: state.memory });
            }
        }
    }
    result
}
