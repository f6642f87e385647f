//! Paging hardware as a machine with caches: every state is visited.
//!
//! Shares nothing with the engine, which knows no caches. Each CPU has, per page, a TLB entry; the
//! upper entries that it has seen and kept, in its paging-structure cache or in a walk that is
//! under way; and under TSO a store buffer, as in `operational`. It sees an upper entry or fills
//! the TLB through one that it has kept at any time (so the levels of a walk are read at their own
//! times), and keeps nothing that must not be kept. What is kept need not be used: an access may
//! walk although there is an entry, which is then replaced, and that is all that an eviction does.
//!
//! A CPU that flushes drains its store buffer, invalidates what it keeps itself, and asks the
//! others, each of which does the same when its interrupts are not masked and its store buffer is
//! empty; then it goes on. Invalidating a page drops its TLB entry and all upper entries; so does a
//! fault.
//!
//! [`Rules::Strict`] is that machine, and no more than the manuals allow. The other rules add what
//! windows have in excess of it, one kind after the other: see `tables`.

use std::collections::{BTreeSet, HashSet};

use super::tables::{FLAG, Outcome, PAGES, Page, Program, Step, UPPER, WORDS, is_kept, leaf_word};

/// Which caches the machine has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rules {
    /// One TLB entry per page.
    Strict,
    /// Several: an access may use what was kept before the entry that another access has used. And
    /// an interrupt drains the target's store buffer only as far as what came before the last
    /// access or masked section.
    Several,
    /// And the TLB is filled for a page through upper entries that were invalidated for another
    /// page only.
    Mixed,
}

/// In a store buffer: what comes before is visible when an interrupt is taken.
const END_OF_ACCESS: (u8, u8) = (u8::MAX, 0);

#[derive(Clone, PartialEq, Eq, Hash, Default)]
struct Cpu {
    next: usize,
    /// It has asked the others to flush, and waits.
    has_asked: bool,
    is_masked: bool,
    registers: Vec<u8>,
    buffer: Vec<(u8, u8)>,
    /// Sets of upper entries: seen since anything was invalidated; since the page was.
    uppers: u8,
    uppers_of_page: [u8; PAGES],
    /// Sets of leaf entries, by page.
    leaves: [u64; PAGES],
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    memory: [u8; WORDS],
    cpus: Vec<Cpu>,
    /// Who has asked whom to invalidate what.
    asked: BTreeSet<(usize, usize, Option<Page>)>,
}

/// The machine: its program and its rules.
struct Machine<'program> {
    program: &'program Program,
    rules: Rules,
    tso: bool,
}

fn elements(set: u64) -> impl Iterator<Item = u8> {
    let mut left = set;
    std::iter::from_fn(move || {
        let element = (left != 0).then(|| left.trailing_zeros() as u8)?;
        left &= left - 1;
        Some(element)
    })
}

impl State {
    /// What a load by the CPU gives now.
    fn load(&self, cpu: usize, word: usize) -> u8 {
        let buffered = self.cpus[cpu].buffer.iter().rev().find(|entry| entry.0 == word as u8);
        buffered.map_or(self.memory[word], |entry| entry.1)
    }

    /// A leaf entry, through an upper one.
    fn leaf(&self, cpu: usize, upper: u8, page: Page) -> u8 {
        self.load(cpu, leaf_word(usize::from(upper) - 1, page))
    }

    fn invalidate(&mut self, cpu: usize, page: Option<Page>) {
        let cpu = &mut self.cpus[cpu];
        cpu.uppers = 0;
        for other in (0..PAGES).filter(|other| page.is_none_or(|page| page == *other)) {
            cpu.uppers_of_page[other] = 0;
            cpu.leaves[other] = 0;
        }
    }
}

impl Machine<'_> {
    /// Whether a later step of the CPU accesses the page.
    fn is_read(&self, cpu: &Cpu, number: usize, page: Page) -> bool {
        self.program.cpus[number][cpu.next..].contains(&Step::Read(page))
    }

    /// What may be seen at any time and does no harm is seen at once; what no access of the CPU can
    /// use any more is not looked at.
    fn settle(&self, state: &mut State) {
        for cpu in 0..state.cpus.len() {
            let is_read = [0, 1].map(|page| self.is_read(&state.cpus[cpu], cpu, page));
            if is_read == [false; PAGES] {
                (state.cpus[cpu].uppers, state.cpus[cpu].uppers_of_page) = (0, [0; PAGES]);
                state.cpus[cpu].leaves = [0; PAGES];
                continue;
            }
            let upper = state.load(cpu, UPPER);
            if is_kept(UPPER, upper) {
                state.cpus[cpu].uppers |= 1 << upper;
                state.cpus[cpu].uppers_of_page.iter_mut().for_each(|set| *set |= 1 << upper);
            }
            for (page, is_read) in is_read.into_iter().enumerate() {
                if !is_read {
                    (state.cpus[cpu].uppers_of_page[page], state.cpus[cpu].leaves[page]) = (0, 0);
                    continue;
                }
                let through = match self.rules {
                    Rules::Strict => continue,
                    Rules::Several => state.cpus[cpu].uppers,
                    Rules::Mixed => state.cpus[cpu].uppers_of_page[page],
                };
                for upper in elements(through.into()) {
                    let leaf = state.leaf(cpu, upper, page);
                    if is_kept(leaf_word(0, page), leaf) {
                        state.cpus[cpu].leaves[page] |= 1 << leaf;
                    }
                }
            }
        }
    }

    fn store(&self, state: &mut State, cpu: usize, word: usize, value: u8) {
        if self.tso {
            state.cpus[cpu].buffer.push((word as u8, value));
        } else {
            state.memory[word] = value;
        }
    }

    fn end_access(&self, state: &mut State, cpu: usize) {
        if self.tso && self.rules != Rules::Strict {
            state.cpus[cpu].buffer.push(END_OF_ACCESS);
        }
    }

    /// What a user's access may find, and leave in the caches.
    fn access(&self, state: &State, cpu: usize, page: Page, open: &mut Vec<State>) {
        let mut finish = |leaf: u8, is_walk: bool| {
            let mut next = state.clone();
            next.cpus[cpu].registers.push(leaf);
            next.cpus[cpu].next += 1;
            if leaf == 0 {
                next.invalidate(cpu, Some(page));
            } else if self.rules == Rules::Strict && is_walk {
                let is_kept = is_kept(leaf_word(0, page), leaf);
                next.cpus[cpu].leaves[page] = u64::from(is_kept) << leaf;
            }
            self.end_access(&mut next, cpu);
            open.push(next);
        };
        elements(state.cpus[cpu].leaves[page]).for_each(|leaf| finish(leaf, false));
        if state.load(cpu, UPPER) == 0 {
            finish(0, true);
        }
        // The entry that is there now has been seen.
        for upper in elements(state.cpus[cpu].uppers.into()) {
            finish(state.leaf(cpu, upper, page), true);
        }
    }

    /// The next step of a CPU's program.
    fn step(&self, state: &State, cpu: usize, open: &mut Vec<State>) {
        let Some(step) = self.program.cpus[cpu].get(state.cpus[cpu].next) else { return };
        if step.is_locked() && !state.cpus[cpu].buffer.is_empty() {
            return;
        }
        let mut next = state.clone();
        next.cpus[cpu].next += 1;
        match *step {
            Step::Read(page) => return self.access(state, cpu, page, open),
            Step::Write { word, value, is_locked: true } => next.memory[word] = value,
            Step::Write { word, value, is_locked: false } => {
                self.store(&mut next, cpu, word, value);
            }
            Step::FlushHere(page) => {
                next.invalidate(cpu, Some(page));
                self.end_access(&mut next, cpu);
            }
            Step::Flush(page) if !state.cpus[cpu].has_asked => {
                next.cpus[cpu].next -= 1;
                next.cpus[cpu].has_asked = true;
                next.invalidate(cpu, page);
                self.end_access(&mut next, cpu);
                let others = (0..state.cpus.len()).filter(|other| *other != cpu);
                next.asked.extend(others.map(|other| (cpu, other, page)));
            }
            Step::Flush(_) => {
                if state.asked.iter().any(|(from, _, _)| *from == cpu) {
                    return;
                }
                next.cpus[cpu].has_asked = false;
            }
            Step::Signal => next.memory[FLAG] += 1,
            Step::Look => {
                let value = state.load(cpu, FLAG);
                next.cpus[cpu].registers.push(value);
            }
            Step::Mask => next.cpus[cpu].is_masked = true,
            Step::Unmask => {
                next.cpus[cpu].is_masked = false;
                self.end_access(&mut next, cpu);
            }
        }
        open.push(next);
    }

    /// What hardware does on its own.
    fn act(&self, state: &State, cpu: usize, open: &mut Vec<State>) {
        if let Some(&(word, value)) = state.cpus[cpu].buffer.first() {
            let mut next = state.clone();
            next.cpus[cpu].buffer.remove(0);
            if (word, value) != END_OF_ACCESS {
                next.memory[usize::from(word)] = value;
            }
            open.push(next);
        }
        if self.rules != Rules::Strict {
            return;
        }
        for page in (0..PAGES).filter(|page| self.is_read(&state.cpus[cpu], cpu, *page)) {
            for upper in elements(state.cpus[cpu].uppers.into()) {
                let leaf = state.leaf(cpu, upper, page);
                if is_kept(leaf_word(0, page), leaf) && state.cpus[cpu].leaves[page] != 1 << leaf {
                    let mut next = state.clone();
                    next.cpus[cpu].leaves[page] = 1 << leaf;
                    open.push(next);
                }
            }
        }
    }

    /// A CPU takes an interrupt.
    fn interrupt(&self, state: &State, ask: (usize, usize, Option<Page>), open: &mut Vec<State>) {
        let (_, target, page) = ask;
        let is_ready = match self.rules {
            Rules::Strict => state.cpus[target].buffer.is_empty(),
            _ => !state.cpus[target].buffer.contains(&END_OF_ACCESS),
        };
        if is_ready && !state.cpus[target].is_masked {
            let mut next = state.clone();
            next.asked.remove(&ask);
            next.invalidate(target, page);
            open.push(next);
        }
    }
}

/// All outcomes of a program.
pub(crate) fn enumerate(program: &Program, rules: Rules, tso: bool) -> BTreeSet<Outcome> {
    let machine = Machine { program, rules, tso };
    let cpus = vec![Cpu::default(); program.cpus.len()];
    let mut open = vec![State { memory: program.initial, cpus, asked: BTreeSet::new() }];
    let (mut seen, mut outcomes) = (HashSet::new(), BTreeSet::new());
    while let Some(mut state) = open.pop() {
        machine.settle(&mut state);
        if seen.contains(&state) {
            continue;
        }
        for cpu in 0..state.cpus.len() {
            machine.step(&state, cpu, &mut open);
            machine.act(&state, cpu, &mut open);
        }
        for ask in &state.asked {
            machine.interrupt(&state, *ask, &mut open);
        }
        let is_over =
            |(cpu, steps): (&Cpu, &Vec<Step>)| cpu.next == steps.len() && cpu.buffer.is_empty();
        if state.cpus.iter().zip(&program.cpus).all(is_over) {
            let registers = state.cpus.iter().map(|cpu| cpu.registers.clone()).collect();
            outcomes.insert(Outcome { registers, memory: state.memory });
        }
        seen.insert(state);
    }
    outcomes
}
