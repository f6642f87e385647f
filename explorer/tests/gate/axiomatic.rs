//! RC11 as it stands in the paper: all candidate executions are enumerated and tested.
//!
//! Lahav, Vafeiadis, Kang, Hur, Dreyer, "Repairing sequential consistency in C/C++11", PLDI'17,
//! with the release sequences of C++20. A read-modify-write is one event here, happens-before is
//! computed from its definition, and nothing is incremental: on purpose, this shares neither code
//! nor representation with the engine. Each compare-exchange is split into "succeeds" (a swap) and
//! "fails" (a load with the failure order), and the candidates whose values contradict are dropped.
//!
//! A load within a window that took a value which can be kept is a load of an observer, forked when
//! the window was opened and joined at the load: all that changes is `sb`. Behind the window's
//! opening, only the earlier loads of the same window (and what is before them) come before it.
//! What a load depends on, for the absence of `porf` cycles, is still all that is before it in the
//! text.

use std::sync::atomic::Ordering;

use super::program::{Operation, Outcome, Outcomes, Program, is_cacheable};

/// A relation on at most 64 events: one word of successors per event.
#[derive(Clone)]
struct Relation(Vec<u64>);

impl Relation {
    fn empty(size: usize) -> Relation {
        Relation(vec![0; size])
    }

    fn from(size: usize, holds: impl Fn(usize, usize) -> bool) -> Relation {
        let row = |from| (0..size).filter(|to| holds(from, *to)).fold(0, |row, to| row | 1 << to);
        Relation((0..size).map(row).collect())
    }

    fn identity(size: usize, holds: impl Fn(usize) -> bool) -> Relation {
        Relation::from(size, |from, to| from == to && holds(from))
    }

    fn has(&self, from: usize, to: usize) -> bool {
        self.0[from] >> to & 1 == 1
    }

    fn add(&mut self, from: usize, to: usize) {
        self.0[from] |= 1 << to;
    }

    fn then(&self, other: &Relation) -> Relation {
        let row = |mut middles: u64| {
            let mut row = 0;
            while middles != 0 {
                row |= other.0[middles.trailing_zeros() as usize];
                middles &= middles - 1;
            }
            row
        };
        Relation(self.0.iter().map(|middles| row(*middles)).collect())
    }

    fn or(&self, other: &Relation) -> Relation {
        Relation(self.0.iter().zip(&other.0).map(|(mine, theirs)| mine | theirs).collect())
    }

    fn and(&self, other: &Relation) -> Relation {
        Relation(self.0.iter().zip(&other.0).map(|(mine, theirs)| mine & theirs).collect())
    }

    fn optional(&self) -> Relation {
        self.or(&Relation::identity(self.0.len(), |_| true))
    }

    fn plus(&self) -> Relation {
        let mut closed = self.clone();
        for middle in 0..self.0.len() {
            let successors = closed.0[middle];
            for row in &mut closed.0 {
                if *row >> middle & 1 == 1 {
                    *row |= successors;
                }
            }
        }
        closed
    }

    fn is_irreflexive(&self) -> bool {
        (0..self.0.len()).all(|event| !self.has(event, event))
    }
}

/// An event; the first ones are the initial writes, one per word.
#[derive(Clone, Copy)]
struct Event {
    /// `None` for an initial write.
    thread: Option<usize>,
    /// For a load within a window, the first event of its thread behind the window's opening.
    opened: usize,
    operation: Operation,
}

impl Event {
    fn writes(&self) -> bool {
        matches!(
            self.operation,
            Operation::Store { .. } | Operation::Swap { .. } | Operation::Add { .. }
        )
    }

    fn reads(&self) -> bool {
        matches!(
            self.operation,
            Operation::Load { .. }
                | Operation::Within { .. }
                | Operation::Swap { .. }
                | Operation::Add { .. }
        )
    }

    fn updates(&self) -> bool {
        self.reads() && self.writes()
    }

    fn is_fence(&self) -> bool {
        matches!(self.operation, Operation::Fence { .. })
    }

    fn acquires(&self) -> bool {
        let order = self.operation.order();
        (self.reads() || self.is_fence())
            && matches!(order, Ordering::Acquire | Ordering::AcqRel | Ordering::SeqCst)
    }

    fn releases(&self) -> bool {
        let order = self.operation.order();
        (self.writes() || self.is_fence())
            && self.thread.is_some()
            && matches!(order, Ordering::Release | Ordering::AcqRel | Ordering::SeqCst)
    }

    fn is_sequential(&self) -> bool {
        self.operation.order() == Ordering::SeqCst
    }
}

#[derive(Default)]
pub(crate) struct Enumerated {
    pub(crate) outcomes: Outcomes,
    /// The number of consistent executions.
    pub(crate) executions: u64,
    /// In some execution, two accesses of word `y`, not both reads, are unordered.
    pub(crate) races: bool,
}

/// All executions of a program. With `awaits`, every compare-exchange must succeed.
pub(crate) fn enumerate(program: &Program, awaits: bool) -> Enumerated {
    let is_cas = |operation: &&Operation| matches!(operation, Operation::Cas { .. });
    let count = program.threads.iter().flatten().filter(is_cas).count();
    let mut result = Enumerated::default();
    for successes in 0..1_u32 << count {
        if awaits && successes != (1 << count) - 1 {
            continue;
        }
        let mut remaining = successes;
        // For every read in thread order: the value compared with, and whether it was found.
        let mut compared: Vec<Option<(u64, bool)>> = Vec::new();
        let mut split = program.clone();
        for operation in split.threads.iter_mut().flatten() {
            match *operation {
                Operation::Cas { word, expected, value, order, failure } => {
                    let succeeds = remaining & 1 == 1;
                    remaining >>= 1;
                    compared.push(Some((expected, succeeds)));
                    *operation = if succeeds {
                        Operation::Swap { word, value, order }
                    } else {
                        Operation::Load { word, order: failure }
                    };
                }
                Operation::Load { .. }
                | Operation::Within { .. }
                | Operation::Swap { .. }
                | Operation::Add { .. } => {
                    compared.push(None);
                }
                Operation::Store { .. } | Operation::Fence { .. } | Operation::Open => {}
            }
        }
        Candidates::new(&split, compared).enumerate(&mut result);
    }
    result
}

struct Candidates {
    events: Vec<Event>,
    words: usize,
    sb: Relation,
    same: Relation,
    /// Reads in thread order, and what compare-exchanges demand of them.
    reads: Vec<usize>,
    compared: Vec<Option<(u64, bool)>>,
}

impl Candidates {
    fn new(program: &Program, compared: Vec<Option<(u64, bool)>>) -> Candidates {
        let words = program.word_count();
        let initial = |word| Event {
            thread: None,
            opened: 0,
            operation: Operation::Store { word, value: 0, order: Ordering::Relaxed },
        };
        let mut events: Vec<Event> = (0..words).map(initial).collect();
        for (thread, operations) in program.threads.iter().enumerate() {
            let mut opened = events.len();
            for operation in operations {
                match operation {
                    Operation::Open => opened = events.len(),
                    operation => {
                        events.push(Event { thread: Some(thread), opened, operation: *operation });
                    }
                }
            }
        }
        let size = events.len();
        assert!(size <= 64, "the gate's programs are small");
        let sb = Relation::from(size, |from, to| match (events[from].thread, events[to].thread) {
            (None, Some(_)) => true,
            (Some(first), Some(second)) => first == second && from < to,
            _ => false,
        });
        let same = Relation::from(size, |from, to| {
            let word = events[from].operation.word();
            word.is_some() && word == events[to].operation.word()
        });
        let reads = (0..size).filter(|event| events[*event].reads()).collect();
        Candidates { events, words, sb, same, reads, compared }
    }

    fn size(&self) -> usize {
        self.events.len()
    }

    fn enumerate(&self, result: &mut Enumerated) {
        self.choose_sources(&mut Vec::new(), result);
    }

    /// Chooses a write for every read, in order.
    fn choose_sources(&self, sources: &mut Vec<usize>, result: &mut Enumerated) {
        let Some(&read) = self.reads.get(sources.len()) else {
            self.with_sources(sources, result);
            return;
        };
        for write in 0..self.size() {
            let fits = self.events[write].writes() && self.same.has(write, read) && write != read;
            // One read-modify-write per write: the second one would not be adjacent to it.
            let taken = self.events[read].updates()
                && sources
                    .iter()
                    .zip(&self.reads)
                    .any(|(other, reader)| *other == write && self.events[*reader].updates());
            if fits && !taken {
                sources.push(write);
                self.choose_sources(sources, result);
                sources.pop();
            }
        }
    }

    /// The value of every event, if the reads-from relation explains them all.
    fn values(&self, sources: &[usize]) -> Option<Vec<u64>> {
        let mut values: Vec<Option<u64>> = vec![None; self.size()];
        // In each pass at least one more value of a chain of additions becomes known.
        for _ in 0..self.size() {
            for (event, known) in self.events.iter().zip(0..) {
                let read: Option<usize> = self.reads.iter().position(|read| *read == known);
                let value = read.and_then(|index| values[sources[index]]);
                values[known] = match event.operation {
                    Operation::Store { value, .. } | Operation::Swap { value, .. } => Some(value),
                    Operation::Add { value: operand, .. } => value.map(|value| value + operand),
                    _ => value,
                };
            }
        }
        let value_read = |index: usize| values[sources[index]];
        let fits = |(index, compared): (usize, &Option<(u64, bool)>)| match compared {
            Some((expected, found)) => {
                value_read(index).is_some_and(|value| (value == *expected) == *found)
            }
            None => value_read(index).is_some(),
        };
        if !self.compared.iter().enumerate().all(fits) {
            return None;
        }
        Some(values.into_iter().map(Option::unwrap_or_default).collect())
    }

    fn with_sources(&self, sources: &[usize], result: &mut Enumerated) {
        let mut rf = Relation::empty(self.size());
        for (read, write) in self.reads.iter().zip(sources) {
            rf.add(*write, *read);
        }
        if !self.sb.or(&rf).plus().is_irreflexive() {
            return;
        }
        let Some(values) = self.values(sources) else { return };
        let sb = self.sequenced_before(&values);
        let hb = self.happens_before(&sb, &rf);
        if !hb.is_irreflexive() {
            return;
        }
        let mut orders = vec![Vec::new()];
        for word in 0..self.words {
            let writes: Vec<usize> = (self.words..self.size())
                .filter(|event| self.events[*event].writes() && self.same.has(word, *event))
                .collect();
            let mut extended = Vec::new();
            linear_extensions(&writes, &hb, &mut Vec::new(), &mut |order| {
                for prefix in &orders {
                    let mut all: Vec<Vec<usize>> = prefix.clone();
                    all.push(order.to_vec());
                    extended.push(all);
                }
            });
            orders = extended;
        }
        for order in &orders {
            let relations = [&sb, &rf, &hb];
            self.with_order(sources, relations, order, &values, result);
        }
    }

    /// The order of the text, without what loads within windows need not come behind.
    fn sequenced_before(&self, values: &[u64]) -> Relation {
        let mut sb = self.sb.clone();
        for (load, event) in self.events.iter().enumerate() {
            let is_within = matches!(event.operation, Operation::Within { .. });
            if !is_within || !is_cacheable(values[load]) {
                continue;
            }
            let same_window = |other: &usize| {
                let operation = self.events[*other].operation;
                matches!(operation, Operation::Within { .. })
                    && self.events[*other].opened == event.opened
            };
            let earlier: Vec<usize> = (event.opened..load).filter(same_window).collect();
            for other in event.opened..load {
                let before = |middle: &usize| *middle == other || sb.has(other, *middle);
                if !earlier.iter().any(before) {
                    sb.0[other] &= !(1 << load);
                }
            }
        }
        sb
    }

    /// `hb = (sb | sw)+`, `sw = [Rel] ; ([F];sb)? ; rs ; rf ; (sb;[F])? ; [Acq]`.
    fn happens_before(&self, sb: &Relation, rf: &Relation) -> Relation {
        let size = self.size();
        let events = &self.events;
        let update_reads = rf.and(&Relation::from(size, |_, to| events[to].updates()));
        let writes = Relation::identity(size, |event| events[event].writes());
        let release_sequence = writes.then(&update_reads.plus().optional());
        let from_fence = sb.and(&Relation::from(size, |from, _| events[from].is_fence()));
        let to_fence = sb.and(&Relation::from(size, |_, to| events[to].is_fence()));
        let releases = Relation::identity(size, |event| events[event].releases());
        let acquires = Relation::identity(size, |event| events[event].acquires());
        let synchronises = releases
            .then(&from_fence.optional())
            .then(&release_sequence)
            .then(rf)
            .then(&to_fence.optional())
            .then(&acquires);
        sb.or(&synchronises).plus()
    }

    fn with_order(
        &self,
        sources: &[usize],
        [sb, rf, hb]: [&Relation; 3],
        order: &[Vec<usize>],
        values: &[u64],
        result: &mut Enumerated,
    ) {
        let mut mo = Relation::empty(self.size());
        for (word, writes) in order.iter().enumerate() {
            for (index, write) in writes.iter().enumerate() {
                mo.add(word, *write);
                writes[index + 1..].iter().for_each(|later| mo.add(*write, *later));
            }
        }
        let mut rb = Relation::empty(self.size());
        for (read, write) in self.reads.iter().zip(sources) {
            rb.0[*read] |= mo.0[*write] & !(1 << *read);
            // A read-modify-write is directly behind what it read.
            if self.events[*read].updates() {
                let between = |other| mo.has(*write, other) && mo.has(other, *read);
                if !mo.has(*write, *read) || (0..self.size()).any(between) {
                    return;
                }
            }
        }
        let eco = rf.or(&mo).or(&rb).plus();
        let psc = self.psc([sb, hb], &eco, &mo, &rb);
        if !hb.then(&eco).is_irreflexive() || !psc.plus().is_irreflexive() {
            return;
        }
        result.executions += 1;
        result.races |= self.has_race(hb);
        let last = |(word, writes): (usize, &Vec<usize>)| values[*writes.last().unwrap_or(&word)];
        result.outcomes.insert(Outcome {
            registers: sources.iter().map(|write| values[*write]).collect(),
            memory: order.iter().enumerate().map(last).collect(),
        });
    }

    fn psc(
        &self,
        [sb, hb]: [&Relation; 2],
        eco: &Relation,
        mo: &Relation,
        rb: &Relation,
    ) -> Relation {
        let size = self.size();
        let events = &self.events;
        let elsewhere =
            Relation::from(size, |from, to| sb.has(from, to) && !self.same.has(from, to));
        let scb = sb.or(&elsewhere.then(hb).then(&elsewhere)).or(&hb.and(&self.same)).or(mo).or(rb);
        let sequential = |event: usize| events[event].is_sequential();
        let accesses =
            Relation::identity(size, |event| sequential(event) && !events[event].is_fence());
        let fences =
            Relation::identity(size, |event| sequential(event) && events[event].is_fence());
        let before = accesses.or(&fences.then(&hb.optional()));
        let after = accesses.or(&hb.optional().then(&fences));
        let base = before.then(&scb).then(&after);
        base.or(&fences.then(&hb.or(&hb.then(eco).then(hb))).then(&fences))
    }

    fn has_race(&self, hb: &Relation) -> bool {
        let is_plain = |event: &usize| self.words > 1 && self.same.has(1, *event);
        let accesses: Vec<usize> = (self.words..self.size()).filter(is_plain).collect();
        accesses.iter().any(|first| {
            accesses.iter().any(|second| {
                let conflict = self.events[*first].writes() || self.events[*second].writes();
                first != second && conflict && !hb.has(*first, *second) && !hb.has(*second, *first)
            })
        })
    }
}

/// Calls `found` with every order of the elements that `before` allows.
fn linear_extensions(
    rest: &[usize],
    before: &Relation,
    chosen: &mut Vec<usize>,
    found: &mut dyn FnMut(&[usize]),
) {
    if rest.is_empty() {
        found(chosen);
    }
    for element in rest {
        if rest.iter().any(|other| before.has(*other, *element)) {
            continue;
        }
        let others: Vec<usize> = rest.iter().copied().filter(|other| other != element).collect();
        chosen.push(*element);
        linear_extensions(&others, before, chosen, found);
        chosen.pop();
    }
}
