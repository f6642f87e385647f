//! The language of the gate: straight-line threads over a few words.
//!
//! Threads are separated by `||` and operations by `;`. With `x`, `y`, `z` as words and `rlx`,
//! `acq`, `rel`, `ar`, `sc` as orders: `x = 1 rel` stores, `x acq` loads, `fence sc`, `swap x 1
//! ar`, `add x 1 rlx`, and `cas x 0 1 acq rlx` compares and exchanges (success order, failure
//! order). `open` opens the thread's window, which is open at its start too, and `x win` loads
//! within it, what is even at any time since then. An outcome is the value of every read in thread
//! order, and the final memory.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::Ordering;

const WORDS: [&str; 3] = ["x", "y", "z"];
const ORDERS: [(&str, Ordering); 5] = [
    ("rlx", Ordering::Relaxed),
    ("acq", Ordering::Acquire),
    ("rel", Ordering::Release),
    ("ar", Ordering::AcqRel),
    ("sc", Ordering::SeqCst),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    Store { word: usize, value: u64, order: Ordering },
    Load { word: usize, order: Ordering },
    Fence { order: Ordering },
    Swap { word: usize, value: u64, order: Ordering },
    Add { word: usize, value: u64, order: Ordering },
    Cas { word: usize, expected: u64, value: u64, order: Ordering, failure: Ordering },
    Open,
    Within { word: usize },
}

/// What a load within a window may have read before now.
pub(crate) fn is_cacheable(value: u64) -> bool {
    value.is_multiple_of(2)
}

impl Operation {
    pub(crate) fn word(&self) -> Option<usize> {
        match *self {
            Operation::Store { word, .. }
            | Operation::Load { word, .. }
            | Operation::Swap { word, .. }
            | Operation::Add { word, .. }
            | Operation::Cas { word, .. }
            | Operation::Within { word } => Some(word),
            Operation::Fence { .. } | Operation::Open => None,
        }
    }

    pub(crate) fn order(&self) -> Ordering {
        match *self {
            Operation::Store { order, .. }
            | Operation::Load { order, .. }
            | Operation::Swap { order, .. }
            | Operation::Add { order, .. }
            | Operation::Cas { order, .. }
            | Operation::Fence { order } => order,
            Operation::Within { .. } => Ordering::Acquire,
            Operation::Open => Ordering::Relaxed,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Program {
    pub(crate) threads: Vec<Vec<Operation>>,
}

impl Program {
    pub(crate) fn word_count(&self) -> usize {
        let words = self.threads.iter().flatten().filter_map(Operation::word);
        words.max().map_or(0, |word| word + 1)
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Outcome {
    pub(crate) registers: Vec<u64>,
    pub(crate) memory: Vec<u64>,
}

pub(crate) type Outcomes = BTreeSet<Outcome>;

fn order_name(order: Ordering) -> &'static str {
    ORDERS.iter().find(|(_, other)| *other == order).map_or("?", |(name, _)| name)
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = order_name(self.order());
        let name = self.word().map_or("?", |word| WORDS[word]);
        match self {
            Operation::Store { value, .. } => write!(formatter, "{name} = {value} {order}"),
            Operation::Load { .. } => write!(formatter, "{name} {order}"),
            Operation::Fence { .. } => write!(formatter, "fence {order}"),
            Operation::Swap { value, .. } => write!(formatter, "swap {name} {value} {order}"),
            Operation::Add { value, .. } => write!(formatter, "add {name} {value} {order}"),
            Operation::Cas { expected, value, failure, .. } => {
                let failure = order_name(*failure);
                write!(formatter, "cas {name} {expected} {value} {order} {failure}")
            }
            Operation::Open => write!(formatter, "open"),
            Operation::Within { .. } => write!(formatter, "{name} win"),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads: Vec<String> = self
            .threads
            .iter()
            .map(|operations| {
                let texts: Vec<String> = operations.iter().map(Operation::to_string).collect();
                texts.join("; ")
            })
            .collect();
        write!(formatter, "{}", threads.join(" || "))
    }
}

fn parse_operation(text: &str) -> Option<Operation> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    let word = |name: &str| WORDS.iter().position(|word| *word == name);
    let order = |name: &str| ORDERS.iter().find(|(other, _)| *other == name).map(|pair| pair.1);
    let number = |digits: &str| digits.parse().ok();
    Some(match *parts {
        ["fence", name] => Operation::Fence { order: order(name)? },
        ["swap", target, value, name] => {
            Operation::Swap { word: word(target)?, value: number(value)?, order: order(name)? }
        }
        ["add", target, value, name] => {
            Operation::Add { word: word(target)?, value: number(value)?, order: order(name)? }
        }
        ["cas", target, expected, value, success, failure] => Operation::Cas {
            word: word(target)?,
            expected: number(expected)?,
            value: number(value)?,
            order: order(success)?,
            failure: order(failure)?,
        },
        [target, "=", value, name] => {
            Operation::Store { word: word(target)?, value: number(value)?, order: order(name)? }
        }
        ["open"] => Operation::Open,
        [target, "win"] => Operation::Within { word: word(target)? },
        [target, name] => Operation::Load { word: word(target)?, order: order(name)? },
        _ => return None,
    })
}

impl FromStr for Program {
    type Err = String;

    fn from_str(text: &str) -> Result<Program, String> {
        let parse = |part: &str| {
            parse_operation(part).ok_or_else(|| format!("`{}` is not an operation", part.trim()))
        };
        let threads: Result<Vec<Vec<Operation>>, String> =
            text.split("||").map(|thread| thread.split(';').map(parse).collect()).collect();
        Ok(Program { threads: threads? })
    }
}
