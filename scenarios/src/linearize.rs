//! Is there an order in which one CPU alone could have done all that?
//!
//! A history is *linearizable* if its steps can be put into one order that (1) has the steps of
//! each CPU in their order, (2) has a step before another if it ended before the other began, and
//! (3) is a run of the sequential map: each operation gives the answer that it gave, and what is
//! mapped in the end is what was found mapped in the end. Herlihy and Wing, "Linearizability: a
//! correctness condition for concurrent objects", TOPLAS 1990.
//!
//! The search is the obvious one (Wing and Gong, JPDC 1993): take any step that no other one must
//! precede, see whether the map allows its answers, go on, and come back if that leads nowhere. A
//! position is how far each CPU has got, and the map; a position that led nowhere is remembered,
//! in as many places as there is room for. To forget one costs time, and nothing else.

use core::fmt;

use crate::detector::NOT_LINEARIZABLE;
use crate::history::{History, Record};
use crate::mark::CPUS_MAX;
use crate::page_map::PageMap;

/// How many positions are remembered: histories are short, and model CPUs have small stacks.
const REMEMBERED: usize = 64;

/// Asserts that the histories are those of some order of their steps, from the map `first` to the
/// map `last`.
///
/// # Panics
///
/// If they are not: "history is not linearizable", and what it is.
#[track_caller]
pub fn assert_linearizable<'a>(
    first: &PageMap,
    histories: impl IntoIterator<Item = &'a History>,
    last: &PageMap,
) {
    let histories = Histories::new(histories);
    let is_linearizable = histories.are_linearizable(first, last);
    assert!(
        is_linearizable,
        "{NOT_LINEARIZABLE}: {histories}; at first {first}, in the end {last}"
    );
}

/// How many operations of each CPU have been taken.
type Taken = [u8; CPUS_MAX];

/// How far a search has got.
type Position = (Taken, PageMap);

/// The histories of all CPUs, CPU 0 first.
pub(crate) struct Histories<'a> {
    histories: [Option<&'a History>; CPUS_MAX],
}

impl<'a> Histories<'a> {
    #[track_caller]
    pub(crate) fn new(histories: impl IntoIterator<Item = &'a History>) -> Self {
        let mut all = [None; CPUS_MAX];
        for (cpu, history) in histories.into_iter().enumerate() {
            assert!(cpu < CPUS_MAX, "a race has at most {CPUS_MAX} histories, one per CPU");
            all[cpu] = Some(history);
        }
        Self { histories: all }
    }

    pub(crate) fn are_linearizable(&self, first: &PageMap, last: &PageMap) -> bool {
        let mut refuted = Refuted { positions: [None; REMEMBERED] };
        self.leads_to(last, ([0; CPUS_MAX], *first), &mut refuted)
    }

    /// Whether what is left can be ordered, from `position` on.
    fn leads_to(&self, last: &PageMap, position: Position, refuted: &mut Refuted) -> bool {
        let (taken, map) = position;
        if (0..CPUS_MAX).all(|cpu| self.next(cpu, &taken).is_none()) {
            return map == *last;
        }
        if refuted.contains(&position) {
            return false;
        }
        for cpu in 0..CPUS_MAX {
            if let Some(next) = self.next(cpu, &taken)
                && self.may_come_next(cpu, next, &taken)
                && let Some(after) = self.take_step(cpu, position)
                && self.leads_to(last, after, refuted)
            {
                return true;
            }
        }
        refuted.insert(position);
        false
    }

    /// The next operation of `cpu`: the first of a step.
    fn next(&self, cpu: usize, taken: &Taken) -> Option<&'a Record> {
        self.histories[cpu]?.get(taken[cpu].into())
    }

    /// Whether nothing that other CPUs have left ended before `record` of `cpu` began. To look at
    /// the next step of each is enough: it ended before the later ones did.
    fn may_come_next(&self, cpu: usize, record: &Record, taken: &Taken) -> bool {
        let mut others = (0..CPUS_MAX).filter(|other| *other != cpu);
        !others.any(|other| {
            self.next(other, taken).is_some_and(|left| left.end.is_before(&record.begin))
        })
    }

    /// The position after the next step of `cpu`, if the map allows its answers.
    fn take_step(&self, cpu: usize, (mut taken, mut map): Position) -> Option<Position> {
        let mut record = self.next(cpu, &taken)?;
        loop {
            map = map.after(record.operation, record.answer)?;
            taken[cpu] += 1;
            match self.next(cpu, &taken) {
                Some(joined) if joined.is_joined => record = joined,
                _ => return Some((taken, map)),
            }
        }
    }
}

/// Positions that led nowhere. A new one may take the place of an old one.
struct Refuted {
    positions: [Option<Position>; REMEMBERED],
}

impl Refuted {
    fn contains(&self, position: &Position) -> bool {
        self.positions[Self::place(position)].as_ref() == Some(position)
    }

    fn insert(&mut self, position: Position) {
        self.positions[Self::place(&position)] = Some(position);
    }

    /// Positions of one search differ in what has been taken more than in the map.
    fn place((taken, _): &Position) -> usize {
        taken.iter().fold(0, |place, &count| place * 5 + usize::from(count)) % REMEMBERED
    }
}

impl fmt::Display for Histories<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (cpu, history) in self.histories.iter().enumerate() {
            if let Some(history) = history {
                let separator = if cpu == 0 { "" } else { "; " };
                write!(f, "{separator}CPU {cpu}: {history}")?;
            }
        }
        self.histories.iter().enumerate().try_for_each(|(cpu, _)| self.fmt_order_before(f, cpu))
    }
}

impl Histories<'_> {
    /// Writes which steps of other CPUs were over before steps of `cpu` began, without those that
    /// follow from what was written before.
    fn fmt_order_before(&self, f: &mut fmt::Formatter<'_>, cpu: usize) -> fmt::Result {
        let records = |cpu: usize| self.histories[cpu].into_iter().flat_map(History::records);
        for other in (0..CPUS_MAX).filter(|other| *other != cpu) {
            let mut told = 0;
            for record in records(cpu).filter(|record| !record.is_joined) {
                let over = records(other).filter(|other| other.end.is_before(&record.begin));
                let over = over.enumerate().last();
                if let Some((number, last)) = over
                    && number >= told
                {
                    told = number + 1;
                    write!(f, "; \"{last}\" of CPU {other} before \"{record}\" of CPU {cpu}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
