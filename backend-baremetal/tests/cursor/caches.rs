//! Translations that CPUs may have in their caches, and that they are flushed in time.
//!
//! A table on a watched machine is changed by operations. For each of them the specification's
//! [`Journal`] says which mappings became others, and [`must_flush`] which of those a CPU must not
//! go on using. What the machine has seen says when the entry was changed, when what was flushed,
//! and when which lock was given back. From the change on, until the translation is flushed,
//!
//! 1. no lock of a node of the table may be given back: the next one to lock the range would find
//!    CPUs that still use what was there before;
//! 2. no other page may be published at the same addresses: CPUs could use either. One that takes
//!    the place of the page in one step may be read beside it, but not written.
//!
//! The same holds for the way to a node that is taken out: CPUs may have the entry that led there
//! in their caches of upper levels until everything is flushed. Where caches may hold that an entry
//! is absent, it holds of a new node, too, but that pages may be published below it.
//!
//! The locks of nodes that were taken out do not count. A CPU that gets one finds the node stray.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::ops::Range;

use weft_core::address::{FRAME_SIZE, Level, Paddr};
use weft_core::format::{Decoded, EntryFormat, PageFlags, RawItem};
use weft_core::sync::Flush;
use weft_scenarios::specification::{Specification, Store, must_flush, number, slot};

use crate::architecture::Architecture;
use crate::interpreter::Root;
use crate::watched::{Layout, Seen, all_seen};

/// Mappings, and the changes of them since they were last asked for.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    mappings: BTreeMap<u64, RawItem>,
    changes: Vec<Change>,
}

impl Journal {
    /// Forgets the changes.
    pub(crate) fn forget(&mut self) {
        self.changes.clear();
    }
}

/// The mapping that begins at a page was another one before, or none.
#[derive(Clone, Copy, Debug)]
struct Change {
    page: u64,
    before: Option<RawItem>,
    after: Option<RawItem>,
}

impl Store for Journal {
    fn last_until(&self, page: u64) -> Option<(u64, RawItem)> {
        self.mappings.last_until(page)
    }

    fn first_from(&self, page: u64) -> Option<(u64, RawItem)> {
        self.mappings.first_from(page)
    }

    fn insert(&mut self, page: u64, item: RawItem) {
        let before = self.mappings.insert(page, item);
        self.changes.push(Change { page, before, after: Some(item) });
    }

    fn remove(&mut self, page: u64) {
        let before = self.mappings.remove(&page);
        self.changes.push(Change { page, before, after: None });
    }
}

/// Something that matters to caches.
#[derive(Clone, Debug)]
enum Event {
    /// An entry that mapped these pages says something else.
    Changed(Range<u64>),
    /// An entry maps these pages, which may be written, to this frame.
    Writable(Range<u64>, Paddr),
    /// An entry that led to the node of these pages does not any more.
    Unlinked(Range<u64>),
    /// An entry that hardware did not use maps these pages. If it has said this frame all the time,
    /// a translation that was kept before it was withheld leads there as well.
    Published(Range<u64>, Option<Paddr>),
    /// An entry that was absent leads to a node.
    Grown,
    Flushed(Flush),
    /// The lock of this node of the table was given back.
    Unlocked {
        level: Level,
        pages: Range<u64>,
    },
}

/// What caches may hold of these pages.
#[derive(Clone, Debug)]
struct Debt {
    pages: Range<u64>,
    of: Kind,
    /// Where a translation leads.
    frame: Option<Paddr>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// A translation. To flush any address of it is enough.
    Translation,
    /// A translation, where pages of another size are now.
    OtherSize,
    /// The upper levels of the walk.
    UpperLevels,
    /// That no node was there: the pages below are as good as absent, which no page excludes.
    NoNode,
}

/// What caches may hold of one table.
#[derive(Debug)]
pub(crate) struct Caches<G> {
    layout: Layout,
    /// The nodes of the table: their level, and their pages.
    nodes: BTreeMap<Paddr, (Level, Range<u64>)>,
    /// Entries that were written in nodes that are not in the table: they may be put there.
    aside: BTreeMap<(Paddr, usize), u64>,
    events: Vec<Event>,
    /// What is owed from which event on.
    debts: BTreeMap<usize, Vec<Debt>>,
    /// The first event of the operation that comes next.
    next: usize,
    _geometry: PhantomData<G>,
}

impl<G: Architecture> Caches<G> {
    /// Of a new table with this root.
    pub(crate) fn new(root: Root<'_, G>) -> Self {
        all_seen();
        let pages = 0..Specification::<G, Journal>::page_count();
        Self {
            layout: Layout::of(root),
            nodes: BTreeMap::from([(root.paddr(), (G::ROOT, pages))]),
            aside: BTreeMap::new(),
            events: Vec::new(),
            debts: BTreeMap::new(),
            next: 0,
            _geometry: PhantomData,
        }
    }

    /// An operation is over, which changed the mappings as the journal says.
    pub(crate) fn operated(&mut self, journal: &mut Journal) {
        all_seen().into_iter().for_each(|seen| self.follow(seen));
        let [mut changed, mut published] = [const { BTreeMap::new() }; 2];
        let mut unlinked = Vec::new();
        for (index, event) in self.events.iter().enumerate().skip(self.next) {
            let first = |times: &mut BTreeMap<_, _>, pages: &Range<u64>| {
                times.entry((pages.start, pages.end)).or_insert(index);
            };
            match event {
                Event::Changed(pages) => first(&mut changed, pages),
                Event::Published(pages, _) => first(&mut published, pages),
                Event::Unlinked(pages) => unlinked.push((pages.clone(), index)),
                Event::Grown | Event::Flushed(_) | Event::Writable(..) | Event::Unlocked { .. } => {
                }
            }
        }
        self.next = self.events.len();
        let mut made = BTreeSet::new();
        for Change { page, before, after } in journal.changes.drain(..) {
            // Caches hold nothing of what is withheld.
            let used = |item: &RawItem| !item.property.is_withheld();
            let (before, after) = (before.filter(used), after.filter(used));
            let [old, new] = [before, after].map(|item| item.map(|item| (page, item.level)));
            made.extend(new.filter(|_| new != old));
            if !must_flush::<G>(before.as_ref(), after.as_ref()) {
                continue;
            }
            let pages = |item: RawItem| page..page + G::entry_frames(item.level);
            let Some(before) = before else {
                // The parts of a huge page are there before they are in the table.
                let pages = pages(after.expect("something is mapped there"));
                if let Some(&since) = published.get(&(pages.start, pages.end)) {
                    let of = Kind::Translation;
                    self.owe(since, Debt { pages, of, frame: None });
                }
                continue;
            };
            let (pages, frame) = (pages(before), Some(before.frame));
            let has_all = |node: &Range<u64>| node.start <= pages.start && pages.end <= node.end;
            let with_node = unlinked.iter().find(|(node, _)| has_all(node)).map(|(_, at)| *at);
            let alone = changed.get(&(pages.start, pages.end)).copied();
            let Some(since) = alone.into_iter().chain(with_node).min() else {
                // What came and went in the same operation need not have been in the table.
                let is_new = made.contains(&(page, before.level));
                assert!(is_new, "no entry was changed for pages {pages:?}, {before:?}");
                continue;
            };
            let of = match after {
                Some(after) if after.level != before.level => Kind::OtherSize,
                _ => Kind::Translation,
            };
            self.owe(since, Debt { pages, of, frame });
        }
    }

    /// The cursor is gone, and with it all locks: looks whether it kept the rules.
    pub(crate) fn settle(&mut self) {
        all_seen().into_iter().for_each(|seen| self.follow(seen));
        let mut open: Vec<Debt> = Vec::new();
        for (index, event) in self.events.drain(..).enumerate() {
            match &event {
                Event::Flushed(flush) => match flush.pages() {
                    None => open.clear(),
                    Some(pages) => {
                        let pages: Vec<u64> = pages.map(number::<G>).collect();
                        let is_paid = |debt: &Debt| {
                            let has = |page: &u64| debt.pages.contains(page);
                            debt.of == Kind::Translation && pages.iter().any(has)
                        };
                        open.retain(|debt| !is_paid(debt));
                    }
                },
                Event::Unlocked { level, pages } => {
                    let kept = open.first();
                    assert!(
                        kept.is_none(),
                        "the lock of the node of {level:?} at pages {pages:?} is given back before \
                         what caches may hold is flushed: {kept:?}"
                    );
                }
                Event::Published(pages, same) => {
                    let overlaps =
                        |it: &&Debt| it.pages.start < pages.end && pages.start < it.pages.end;
                    let origin =
                        |frame: Paddr, page: u64| frame.as_u64().wrapping_sub(page * FRAME_SIZE);
                    let same = same.map(|frame| origin(frame, pages.start));
                    let leads_there = |debt: &&Debt| match debt.frame {
                        Some(frame) => same == Some(origin(frame, debt.pages.start)),
                        // That nothing is there excludes no page.
                        None => debt.of == Kind::Translation,
                    };
                    let mut excluded =
                        open.iter().filter(|it| it.of != Kind::NoNode && !leads_there(it));
                    let kept = excluded.find(overlaps);
                    assert!(
                        kept.is_none(),
                        "pages {pages:?} are mapped before what caches may hold is flushed: \
                         {kept:?}"
                    );
                }
                Event::Writable(pages, frame) => {
                    let other = |it: &&Debt| {
                        it.pages == *pages && it.frame.is_some_and(|kept| kept != *frame)
                    };
                    let kept = open.iter().find(other);
                    assert!(
                        kept.is_none(),
                        "pages {pages:?} may be written before what caches may hold of the page \
                         that was there is flushed: {kept:?}"
                    );
                }
                Event::Changed(_) | Event::Unlinked(_) | Event::Grown => {}
            }
            open.extend(self.debts.remove(&index).into_iter().flatten());
        }
        assert!(open.is_empty(), "never flushed: {open:?}");
        self.next = 0;
    }

    fn owe(&mut self, since: usize, debt: Debt) {
        self.debts.entry(since).or_default().push(debt);
    }

    /// Follows what was seen, in the tree of nodes.
    fn follow(&mut self, seen: Seen) {
        match seen {
            Seen::Wrote { word, old, new } => self.wrote(word, old, new),
            Seen::Unlocked { word } => {
                if let Some((level, pages)) = self.nodes.get(&self.layout.locked(word)) {
                    self.events.push(Event::Unlocked { level: *level, pages: pages.clone() });
                }
            }
            Seen::Flushed(what) => self.events.push(Event::Flushed(what)),
            Seen::Retired => {}
        }
    }

    fn wrote(&mut self, word: usize, old: u64, new: u64) {
        let (frame, index) = self.layout.entry(word);
        let Some((level, node)) = self.nodes.get(&frame).cloned() else {
            self.aside.insert((frame, index), new);
            return;
        };
        let start = node.start + index as u64 * G::entry_frames(level);
        let pages = slot::<G>(start, level);
        let was_absent = !G::Format::is_present(old);
        let withheld = match G::Format::decode(old, level) {
            Decoded::Item(page) if was_absent => Some(page.frame),
            _ => None,
        };
        match used::<G>(old, level) {
            Decoded::Node(frame) => {
                let gone = |it: &Range<u64>| pages.start <= it.start && it.end <= pages.end;
                self.nodes.retain(|_, (below, it)| *below >= level || !gone(it));
                assert!(!self.nodes.contains_key(&frame), "a node is in the table twice");
                let debt = Debt { pages: pages.clone(), of: Kind::UpperLevels, frame: None };
                self.owe(self.events.len(), debt);
                self.events.push(Event::Unlinked(pages.clone()));
            }
            Decoded::Item(_) => self.events.push(Event::Changed(pages.clone())),
            Decoded::Absent => {}
        }
        match used::<G>(new, level) {
            Decoded::Node(frame) => {
                if was_absent && G::CACHES_ABSENT {
                    let debt = Debt { pages: pages.clone(), of: Kind::NoNode, frame: None };
                    self.owe(self.events.len(), debt);
                    self.events.push(Event::Grown);
                }
                self.link(frame, level, pages);
            }
            Decoded::Item(page) if was_absent => {
                let same = withheld.filter(|frame| *frame == page.frame);
                self.events.push(Event::Published(pages, same));
            }
            Decoded::Item(new) if new.property.flags.contains(PageFlags::WRITE) => {
                self.events.push(Event::Writable(pages, new.frame));
            }
            Decoded::Item(_) | Decoded::Absent => {}
        }
    }

    /// An entry of `level` leads to a node, and to what was put below it beforehand.
    fn link(&mut self, frame: Paddr, level: Level, pages: Range<u64>) {
        let level = level.below().expect("no nodes are below the leaves");
        self.nodes.insert(frame, (level, pages.clone()));
        for index in 0..G::ENTRIES {
            let entry = self.aside.remove(&(frame, index)).unwrap_or_default();
            if let Decoded::Node(below) = G::Format::decode(entry, level) {
                let start = pages.start + index as u64 * G::entry_frames(level);
                self.link(below, level, slot::<G>(start, level));
            }
        }
    }
}

/// What hardware takes an entry for.
fn used<G: Architecture>(entry: u64, level: Level) -> Decoded {
    match G::Format::decode(entry, level) {
        Decoded::Item(item) if item.property.is_withheld() => Decoded::Absent,
        decoded => decoded,
    }
}
