//! Random two-thread programs, and all their sequentially consistent outcomes.
//!
//! A program is a list of operations per thread over two words. An outcome is what the reading
//! operations returned, in thread order, and the final values of the words. [`enumerate`] finds
//! every outcome under sequential consistency by walking all interleavings with a set of the
//! states already seen; [`explore`] runs the program under an engine. Under any memory model at
//! least as weak, an engine that claims to be exhaustive must show every outcome of the former.
//! Programs use no `SeqCst` access, but all fences.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::{Arc, Mutex};

use weft_backend_loom::engine::{
    Access, Body, Engine, EngineWord, Execution, Exploration, Program, Search,
};
use weft_scenarios::random::Random;

const WORDS: usize = 2;

/// One operation; the word it works on comes first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Write(usize, u64, Ordering),
    Read(usize, Ordering),
    Fence(Ordering),
    Swap(usize, u64, Ordering),
    Add(usize, u64, Ordering),
    /// Word, expected value, new value, and the two orderings.
    CompareExchange(usize, u64, u64, Ordering, Ordering),
}

use Operation::{Add, CompareExchange, Fence, Read, Swap, Write};

impl Operation {
    /// Whether the operation returns a value.
    fn reads(self) -> bool {
        !matches!(self, Write(..) | Fence(_))
    }

    /// Under sequential consistency: changes `memory` and returns what was read.
    fn apply(self, memory: &mut [u64; WORDS]) -> Option<u64> {
        match self {
            Fence(_) => None,
            Write(word, value, _) => {
                memory[word] = value;
                None
            }
            Read(word, _) => Some(memory[word]),
            Swap(word, value, _) => Some(std::mem::replace(&mut memory[word], value)),
            Add(word, value, _) => {
                let old = memory[word];
                memory[word] += value;
                Some(old)
            }
            CompareExchange(word, expected, new, _, _) => {
                let old = memory[word];
                if old == expected {
                    memory[word] = new;
                }
                Some(old)
            }
        }
    }

    fn run<E: Engine>(self, words: &[E::Word]) -> Option<u64> {
        match self {
            Fence(order) => {
                E::fence(order);
                None
            }
            Write(word, value, order) => {
                words[word].store(value, order);
                None
            }
            Read(word, order) => Some(words[word].load(order)),
            Swap(word, value, order) => Some(words[word].swap(value, order)),
            Add(word, value, order) => Some(words[word].fetch_add(value, order)),
            CompareExchange(word, expected, new, success, failure) => {
                let result = words[word].compare_exchange(expected, new, success, failure);
                Some(result.unwrap_or_else(|old| old))
            }
        }
    }
}

/// The threads of a program.
pub(crate) type Threads = Vec<Vec<Operation>>;

/// What every reading operation returned, and the final memory.
pub(crate) type Outcome = (Vec<Vec<u64>>, [u64; WORDS]);

/// The program of a seed: two threads of two to four operations, rather fewer than more, since long
/// programs take most of the time and show little that short ones do not. Values are distinct
/// enough to tell the stores apart.
pub(crate) fn generate(seed: u64, with_updates: bool) -> Threads {
    let numbers = &mut Random::new(seed);
    (0..2)
        .map(|thread| {
            let length = numbers.pick(&[2, 2, 2, 3, 3, 4]);
            let position = |index: usize| (thread * 4 + index + 1) as u64;
            (0..length).map(|index| draw(numbers, position(index), with_updates)).collect()
        })
        .collect()
}

fn draw(numbers: &mut Random, value: u64, with_updates: bool) -> Operation {
    let any = [Relaxed, Acquire, Release, AcqRel];
    let word = numbers.below(WORDS as u64) as usize;
    match numbers.below(if with_updates { 10 } else { 7 }) {
        0..3 => Write(word, value, numbers.pick(&[Relaxed, Release])),
        3..6 => Read(word, numbers.pick(&[Relaxed, Acquire])),
        6 => Fence(numbers.pick(&[Acquire, Release, AcqRel, SeqCst])),
        7 => Swap(word, value, numbers.pick(&any)),
        8 => Add(word, 10 * value, numbers.pick(&any)),
        _ => {
            let expected = numbers.below(2) * value;
            CompareExchange(
                word,
                expected,
                value,
                numbers.pick(&any),
                numbers.pick(&[Relaxed, Acquire]),
            )
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Point {
    next: Vec<usize>,
    read: Vec<Vec<u64>>,
    memory: [u64; WORDS],
}

/// Every outcome under sequential consistency.
pub(crate) fn enumerate(threads: &Threads) -> BTreeSet<Outcome> {
    let start = Point {
        next: vec![0; threads.len()],
        read: vec![Vec::new(); threads.len()],
        memory: [0; WORDS],
    };
    let mut outcomes = BTreeSet::new();
    let mut seen = HashSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some(point) = open.pop() {
        let mut ended = true;
        for (thread, operations) in threads.iter().enumerate() {
            let Some(operation) = operations.get(point.next[thread]) else { continue };
            ended = false;
            let mut after = point.clone();
            after.next[thread] += 1;
            after.read[thread].extend(operation.apply(&mut after.memory));
            if seen.insert(after.clone()) {
                open.push(after);
            }
        }
        if ended {
            outcomes.insert((point.read, point.memory));
        }
    }
    outcomes
}

/// Runs a program under an engine and collects its outcomes.
pub(crate) fn explore<E: Engine>(
    search: &Search,
    threads: &Threads,
) -> (Exploration, BTreeSet<Outcome>) {
    let outcomes = Arc::new(Mutex::new(BTreeSet::new()));
    let collected = Arc::clone(&outcomes);
    let threads = threads.clone();
    let program: Program = Arc::new(move || {
        let words: Arc<[E::Word; WORDS]> =
            Arc::new([0, 1].map(|_| E::Word::new(0, Access::Loaded)));
        let read = Arc::new(Mutex::new(vec![Vec::new(); threads.len()]));
        let cpus = threads.iter().enumerate().map(|(thread, operations)| {
            let (words, read) = (Arc::clone(&words), Arc::clone(&read));
            let operations = operations.clone();
            Box::new(move || {
                // Kept aside until the end: other threads must not see how far this one is.
                let values: Vec<u64> =
                    operations.iter().filter_map(|one| one.run::<E>(words.as_slice())).collect();
                read.lock().expect("no CPU fails")[thread] = values;
            }) as Body
        });
        let cpus = cpus.collect();
        let collected = Arc::clone(&collected);
        let finish = Box::new(move || {
            // A fetch_or of nothing reads the newest value, and only one CPU runs by now.
            let memory = [0, 1].map(|word: usize| words[word].fetch_or(0, Relaxed));
            let read = read.lock().expect("no CPU fails").clone();
            collected.lock().expect("no CPU fails").insert((read, memory));
        });
        Execution { cpus, finish }
    });
    let exploration = E::explore(search, program);
    let outcomes = outcomes.lock().expect("no CPU fails").clone();
    (exploration, outcomes)
}

/// Says what the number of reading operations promises about an outcome.
pub(crate) fn well_formed(threads: &Threads, outcome: &Outcome) -> bool {
    let expected = threads.iter().map(|one| one.iter().filter(|each| each.reads()).count());
    expected.eq(outcome.0.iter().map(Vec::len))
}
