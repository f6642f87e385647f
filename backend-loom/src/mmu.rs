//! Paging hardware of the model's CPUs: walks, accessed and dirty bits, caches, interrupts.
//!
//! *Walks.* Hardware follows entries from the loaded root, without locks. It sets accessed in every
//! entry that it uses, and dirty in the page's before a write, with locked updates that fail if the
//! entry has changed; it walks again then. A fault makes it forget what would translate the page.
//!
//! *Caches.* No cache is modelled. What a CPU uses now was read at some time since it last
//! invalidated, whatever its caches did in between; so each load of a walk may be as old as that,
//! and not older. The engine has such loads: they are done within a [`Window`]. There is one since
//! when whole translations may be kept, for each page that was invalidated later one of its own,
//! and one for entries above the pages, which every invalidation takes along. Only what is present
//! and accessed can be kept. A walk touches the nodes that it goes through; a translation that is
//! kept touches none.
//!
//! *Tags.* There are such windows for each tag. Those of a tag that the CPU does not run on stand
//! still: they are found as they were left when a root is loaded under the tag again and keeps what
//! is cached, and begin anew when it does not. While the CPU is away hardware reads nothing under
//! the tag; windows that reach on to the return allow that all the same. It makes no difference to
//! a CPU that may keep the tag, because nothing of the space was flushed meanwhile.
//!
//! *Interrupts.* A CPU's windows are under an engine's mutex, which the CPU holds during an access
//! and while it masks interrupts. A CPU that interrupts another one plays the handler there: the
//! handler comes at any point where the mutex is free, also while the CPU waits for a lock. What
//! the handlers of one request know of each other is nothing. They are played when the initiator
//! waits for them, with what it knew when it sent the request; between the two it does nothing
//! that a handler could see.
//!
//! *Other engines.* Where loads cannot be old, interrupts are masked by a word of the engine's, and
//! are ordered with all that their initiator does. Hardware walks at every access there, and there
//! is nothing to invalidate; or, where the engine draws, it keeps [`Translations`]. It is drawn
//! then what a CPU fills, drops and uses, and when it walks to a page that no instruction accesses:
//! at any access, and before it serves an interrupt, to any page that it has accessed before. Such
//! a walk is played by the CPU that runs, and orders what that CPU does next as no hardware would.
//!
//! Rules: Intel SDM, volume 3A, sections 5.8 (accessed and dirty) and 5.10.2 to 5.10.5 (caches).

mod since;

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use weft_core::address::{CpuId, CpuSet, FRAME_SIZE, Level, Paddr, Vaddr};
use weft_core::config::Config;
use weft_core::format::{Decoded, EntryFormat, PageFlags, RawItem, X86_64};
use weft_core::geometry::Geometry;
use weft_core::sync::{Flush, Noted, Request, TaggedRoot};
use weft_explorer::Window;
use weft_scenarios::sabotage::Sabotage;
use weft_scenarios::tables::UserTable;

use self::since::Since;
use crate::actor::Actor;
use crate::chosen::{Chosen, ChosenWord};
use crate::engine::{Access, Caching, Engine as _, EngineWord as _};
use crate::ghost::{Ghost, Interrupts, Label, Step};
use crate::model::Model;
use crate::sabotage;
use crate::translations::{Kept, Start, Translations};
use crate::words::{ModelWord, Recording};

/// What an entry says, as its table writes it.
type Format<G> = <UserTable<Model<G>> as Config>::Format;

/// How many tags a CPU has: as few as there can be, so that they are given away.
pub(crate) const TAGS: usize = 2;

/// What the hardware of a CPU may remember, and what the CPU notes of that.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caches {
    noted: Noted,
    tags: [Since; TAGS],
    /// The tag of the root that is loaded, if one is.
    tag: Option<usize>,
}

impl Caches {
    /// Those under the current tag.
    fn current(&mut self) -> Option<&mut Since> {
        Some(&mut self.tags[self.tag?])
    }
}

/// The caches that the caller has to itself, because it is masked or plays a handler; and in a
/// handler the window that opens there.
struct Held {
    caches: Caches,
    handler: Option<Window>,
}

weft_explorer::thread_local! {
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

/// Lets `body` have the caches to itself.
fn hold<R>(caches: &mut Caches, handler: Option<Window>, body: impl FnOnce() -> R) -> R {
    struct LetGo;
    impl Drop for LetGo {
        fn drop(&mut self) {
            HELD.with(RefCell::take);
        }
    }
    HELD.with(|held| held.replace(Some(Held { caches: std::mem::take(caches), handler })));
    let let_go = LetGo;
    let result = body();
    if let Some(held) = HELD.with(RefCell::take) {
        *caches = held.caches;
    }
    drop(let_go);
    result
}

fn is_held() -> bool {
    HELD.with(|held| held.borrow().is_some())
}

fn held<R>(body: impl FnOnce(&mut Caches, Window) -> R) -> R {
    HELD.with(|held| {
        let mut held = held.borrow_mut();
        let held = held.as_mut().expect("a CPU has its caches to itself");
        let now = held.handler.unwrap_or_else(Window::open);
        body(&mut held.caches, now)
    })
}

/// The paging hardware of one CPU.
pub(crate) enum Mmu {
    /// Loads of a walk may be old.
    Caching(weft_explorer::Mutex<Caches>),
    /// Loads of a walk are not old, but hardware may keep what it has walked to.
    Walking(Walking),
}

/// Stands for no tag in [`Walking::tag`].
const NO_TAG: usize = TAGS;

/// What stands for the windows where there are none.
pub(crate) struct Walking {
    /// 1 while the CPU masks interrupts, or while a handler runs.
    lock: ChosenWord,
    /// Ghost: whether the CPU masks interrupts. Touched by that CPU only.
    is_masked: AtomicBool,
    /// Ghost: what the CPU notes. Under the lock, of engines that run CPUs in their real order.
    noted: Mutex<Noted>,
    /// Ghost: what hardware keeps under each tag, if that is drawn. Under the lock, as `noted`.
    kept: [Mutex<Translations>; TAGS],
    /// Ghost: the tag of the root that is loaded, or [`NO_TAG`]. Under the lock, as `noted`.
    tag: AtomicUsize,
    /// Ghost: whose hardware the CPU plays: its own, but in a handler. Touched by that CPU only.
    plays: AtomicUsize,
}

impl Walking {
    fn new(cpu: usize) -> Self {
        Self {
            lock: ChosenWord::new(0, Access::UpdatedOnly),
            is_masked: AtomicBool::new(false),
            noted: Mutex::new(Noted::default()),
            kept: Default::default(),
            tag: AtomicUsize::new(NO_TAG),
            plays: AtomicUsize::new(cpu),
        }
    }

    /// Calls `body` on what the CPU notes, when no handler runs and the CPU masks no interrupts.
    #[track_caller]
    fn locked<R>(&self, body: impl FnOnce(&mut Noted) -> R) -> R {
        while self.lock.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.lock.wait_for_change();
        }
        let result = self.noting(body);
        if Actor::now().is_some() {
            self.lock.store(0, Ordering::Release);
        }
        result
    }

    fn noting<R>(&self, body: impl FnOnce(&mut Noted) -> R) -> R {
        let mut noted = *self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let result = body(&mut noted);
        *self.noted.lock().unwrap_or_else(PoisonError::into_inner) = noted;
        result
    }

    /// The same, on the CPU itself, which may mask interrupts already.
    #[track_caller]
    fn masked<R>(&self, body: impl FnOnce(&mut Noted) -> R) -> R {
        if self.is_masked.load(Ordering::Relaxed) {
            return self.noting(body);
        }
        self.locked(|noted| {
            self.is_masked.store(true, Ordering::Relaxed);
            let result = body(noted);
            self.is_masked.store(false, Ordering::Relaxed);
            result
        })
    }
}

impl fmt::Debug for Mmu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mmu").finish_non_exhaustive()
    }
}

impl Mmu {
    /// The hardware of a CPU, which has read nothing. Called where an execution is set up.
    pub(crate) fn new(cpu: usize) -> Self {
        if Chosen::traits().caching == Caching::Windows {
            Self::Caching(weft_explorer::Mutex::named("interrupts", Caches::default()))
        } else {
            Self::Walking(Walking::new(cpu))
        }
    }

    /// Calls `body` with the CPU's interrupts masked. Called by that CPU.
    #[track_caller]
    pub(crate) fn masked<R>(&self, body: impl FnOnce(&mut Noted) -> R) -> R {
        let Some(actor) = Actor::now() else { return body(&mut Noted::default()) };
        let body = |noted: &mut Noted| {
            let (ghost, cpu) = (Ghost::current(), actor.column());
            ghost.without_interrupts(cpu, Interrupts::Masked, || body(noted))
        };
        match self {
            Self::Caching(caches) => with(caches, || noting(body)),
            Self::Walking(walking) => walking.masked(body),
        }
    }
}

/// Masks interrupts, unless the caller has done so already.
#[track_caller]
fn with<R>(caches: &weft_explorer::Mutex<Caches>, body: impl FnOnce() -> R) -> R {
    if is_held() { body() } else { hold(&mut caches.lock(), None, body) }
}

/// Calls `body` on what the CPU notes, whose caches are held.
fn noting<R>(body: impl FnOnce(&mut Noted) -> R) -> R {
    let mut noted = held(|caches, _| caches.noted);
    let result = body(&mut noted);
    held(|caches, _| caches.noted = noted);
    result
}

/// What a CPU's hardware finds for an address, and where.
struct Found<'a> {
    node: Paddr,
    index: usize,
    word: &'a ModelWord,
    bits: u64,
    item: RawItem,
}

/// The same with what hardware notes when it uses the page.
fn noting_use(mut item: RawItem, write: bool) -> RawItem {
    item.property.flags.insert(PageFlags::ACCESSED);
    if write {
        item.property.flags.insert(PageFlags::DIRTY);
    }
    item
}

/// Why a walk does not end at a page.
enum Lost {
    /// Nothing is mapped there.
    Absent,
    /// An entry has changed while hardware was noting that it used it.
    Changed,
}

/// Whether hardware may keep an entry: it is present, and noted as accessed.
pub(crate) fn may_keep(bits: u64) -> bool {
    bits & 1 != 0 && bits & ACCESSED != 0
}

/// The bit that hardware sets in every entry that it uses.
const ACCESSED: u64 = X86_64::HARDWARE_BITS & 1 << 5;

impl<G: Geometry> Model<G> {
    /// Makes CPUs flush, as the core asks for it, or as a sabotaged world does it.
    #[track_caller]
    pub(crate) fn shoot_down(&self, actor: Actor, cpus: &CpuSet, request: &Request) {
        let serve = |noted: &mut Noted| request.serve(self, noted);
        if sabotage::is(Sabotage::NoShootdown) {
        } else if sabotage::is(Sabotage::LateShootdown) {
            self.late(actor.cpu()).lock().expect("nothing panics here").push((*cpus, *request));
        } else if sabotage::is(Sabotage::MaskedShootdown) {
            let all = || self.mmu(actor.cpu()).masked(|_| self.interrupt_all(actor, cpus, &serve));
            Ghost::told_here(actor.cpu(), all);
        } else {
            self.interrupt_all(actor, cpus, &serve);
        }
    }

    /// Makes CPUs flush, after the range was unlocked, in a world that is sabotaged so.
    #[track_caller]
    pub(crate) fn shoot_down_late(&self) {
        let Some(actor) = Actor::now() else { return };
        let late =
            std::mem::take(&mut *self.late(actor.cpu()).lock().expect("nothing panics here"));
        for (cpus, request) in late {
            self.interrupt_all(actor, &cpus, &|noted| request.serve(self, noted));
        }
    }

    /// Plays the handlers of these CPUs, and waits for them.
    #[track_caller]
    pub(crate) fn interrupt_all(&self, actor: Actor, cpus: &CpuSet, handler: &dyn Fn(&mut Noted)) {
        let has_windows = Chosen::traits().caching == Caching::Windows;
        let sent = if has_windows { Window::open() } else { Window::default() };
        let handler = |noted: &mut Noted| {
            let (ghost, cpu) = (Ghost::current(), actor.column());
            ghost.without_interrupts(cpu, Interrupts::Handler, || handler(noted));
        };
        let forgotten = |cpu: CpuId| sabotage::is(Sabotage::ForgottenHolder(cpu.as_u32()));
        let targets = cpus.iter().filter(|cpu| !forgotten(*cpu)).map(|cpu| cpu.as_u32() as usize);
        let (own, mut others): (Vec<_>, Vec<_>) = targets.partition(|cpu| *cpu == actor.cpu());
        while !others.is_empty() {
            // In any order: a target may see what another one did behind its handler.
            let is_choice = has_windows && others.len() > 1;
            let next = if is_choice { weft_explorer::choose(others.len() as u64) } else { 0 };
            let cpu = others.remove(next as usize);
            match self.mmu(cpu) {
                Mmu::Caching(caches) => {
                    let wait = Recording::begin(actor, Label::answer_of(cpu), Step::Wait, None);
                    caches.interrupt(&sent, |caches, here| {
                        wait.done(Step::Wait);
                        let own = HELD.with(RefCell::take);
                        hold(caches, Some(*here), || noting(handler));
                        HELD.with(|held| held.replace(own));
                    });
                }
                Mmu::Walking(walking) => walking.locked(|noted| {
                    self.play(actor, cpu);
                    self.speculate(actor);
                    handler(noted);
                    self.play(actor, actor.cpu());
                }),
            }
        }
        for cpu in own {
            self.mmu(cpu).masked(|noted| {
                self.speculate(actor);
                handler(noted);
            });
        }
        // The handlers are done.
        Chosen::fence(Ordering::Acquire);
    }

    /// One instruction of the calling CPU that accesses `vaddr`. Hardware translates it: the page
    /// is then accessed, and dirty if it is to be written, and given to `body`. `None` for a fault.
    #[track_caller]
    pub(crate) fn instruction<R>(
        &self,
        vaddr: Vaddr,
        write: bool,
        body: impl FnOnce(RawItem) -> R,
    ) -> Option<R> {
        let actor = Actor::now()?;
        let root = self.memory().loaded_root(actor)?;
        match self.mmu(actor.cpu()) {
            // It is not interrupted in the middle.
            Mmu::Caching(caches) => {
                with(caches, || self.translate(actor, root, vaddr, write).map(body))
            }
            Mmu::Walking(walking) => walking.masked(|_| {
                self.speculate(actor);
                if let Some(mut kept) = self.kept(actor) {
                    kept.access(vaddr, Chosen::draw);
                }
                self.translate(actor, root, vaddr, write).map(body)
            }),
        }
    }

    #[track_caller]
    fn translate(&self, actor: Actor, root: Paddr, vaddr: Vaddr, write: bool) -> Option<RawItem> {
        loop {
            match self.walk(actor, root, vaddr) {
                Ok(found) => {
                    if write && !found.item.property.flags.contains(PageFlags::WRITE) {
                        break;
                    }
                    if self.note_use(actor, vaddr, &found, write) {
                        return Some(found.item);
                    }
                }
                Err(Lost::Absent) => break,
                Err(Lost::Changed) => {}
            }
            // What it remembered is not so any more: it walks again.
            self.forget(actor, vaddr);
        }
        // A fault makes it forget, too.
        self.forget(actor, vaddr);
        None
    }

    /// Hardware notes in the entry that it uses the page. False if the entry has changed.
    #[track_caller]
    fn note_use(&self, actor: Actor, vaddr: Vaddr, found: &Found<'_>, write: bool) -> bool {
        let noted = noting_use(found.item, write);
        let is_noted = noted == found.item;
        let bits = if is_noted { found.bits } else { Format::<G>::item(noted) };
        if !is_noted && !found.word.hardware_update(actor, found.bits, bits) {
            return false;
        }
        self.keep(actor, vaddr, noted.level, Kept { node: found.node, index: found.index, bits });
        true
    }

    /// Forgets what would translate the address.
    fn forget(&self, actor: Actor, vaddr: Vaddr) {
        if is_held() {
            let page = vaddr.align_down(FRAME_SIZE);
            held(|caches, now| caches.current().map(|since| since.forget_page(page, now)));
        } else if let Some(mut kept) = self.kept(actor) {
            kept.forget_used(vaddr);
        }
    }

    /// The CPU, whose caches are held, forgets what is flushed.
    pub(crate) fn forget_flushed(&self, actor: Actor, flush: Flush) {
        let Some(pages) = flush.pages() else { return self.forget_everything(actor) };
        let most = if sabotage::is(Sabotage::PartialShootdown) { 1 } else { usize::MAX };
        for page in pages.take(most) {
            if is_held() {
                held(|caches, now| caches.current().map(|since| since.forget_page(page, now)));
            } else if let Some(mut kept) = self.kept(actor) {
                kept.forget_page(page);
            }
        }
    }

    /// The CPU, whose caches are held, runs on a root from now on, or on none.
    pub(crate) fn run_on(&self, actor: Actor, root: Option<TaggedRoot>) {
        self.memory().load_root(actor, root.map(|tagged| tagged.root));
        let tag = root.map(|tagged| tagged.tag as usize);
        if is_held() {
            held(|caches, _| caches.tag = tag);
        } else if let Mmu::Walking(walking) = self.mmu(actor.cpu()) {
            walking.tag.store(tag.unwrap_or(NO_TAG), Ordering::Relaxed);
        }
        if root.is_some_and(|tagged| !tagged.keeps) && !sabotage::is(Sabotage::TagsKept) {
            self.forget_everything(actor);
        }
    }

    /// The CPU, whose caches are held, forgets everything that it has cached under its tag.
    fn forget_everything(&self, actor: Actor) {
        if is_held() {
            held(|caches, now| caches.current().map(|since| since.forget_everything(now)));
        } else if let Some(mut kept) = self.kept(actor) {
            kept.forget_everything();
        }
    }

    /// Follows entries down to a page: each as it is now, or as it may have been kept.
    #[track_caller]
    fn walk(&self, actor: Actor, root: Paddr, vaddr: Vaddr) -> Result<Found<'_>, Lost> {
        if is_held() {
            let (mut window, whole) = Self::window_of(vaddr);
            return self.descend(actor, (root, G::ROOT), vaddr, whole, |word| {
                let bits = word.hardware_load_within(actor, &mut window, may_keep);
                if whole {
                    // It was kept whole, or not at all.
                    weft_explorer::assume(may_keep(bits));
                }
                bits
            });
        }
        let start = self.kept(actor).and_then(|kept| kept.start(vaddr, Chosen::draw));
        if let Some(Start::Page(_, kept) | Start::Upper(_, kept)) = start {
            self.memory().remembered(kept.node, kept.index).hardware_recall(actor, kept.bits);
        }
        let from = match start {
            Some(Start::Page(level, Kept { node, index, bits })) => {
                let Decoded::Item(item) = Format::<G>::decode(bits, level) else {
                    unreachable!("a page is kept as one")
                };
                let word = self.memory().remembered(node, index);
                return Ok(Found { node, index, word, bits, item });
            }
            Some(Start::Upper(level, kept)) => match Format::<G>::decode(kept.bits, level) {
                Decoded::Node(child) => (child, level.below().expect("a node is above a page")),
                _ => unreachable!("an entry that leads to a node is kept as one"),
            },
            None => (root, G::ROOT),
        };
        self.descend(actor, from, vaddr, false, |word| word.hardware_load(actor))
    }

    /// Follows entries down from a node. If the translation was kept `whole`, no node is touched.
    #[track_caller]
    fn descend(
        &self,
        actor: Actor,
        (mut node, mut level): (Paddr, Level),
        vaddr: Vaddr,
        whole: bool,
        mut load: impl FnMut(&ModelWord) -> u64,
    ) -> Result<Found<'_>, Lost> {
        loop {
            let index = G::index(vaddr, level);
            let word = match whole {
                true => self.memory().remembered(node, index),
                false => self.memory().entry(node, index),
            };
            let bits = load(word);
            match Format::<G>::decode(bits, level) {
                Decoded::Absent => return Err(Lost::Absent),
                Decoded::Item(item) if item.property.is_withheld() => return Err(Lost::Absent),
                Decoded::Item(item) => return Ok(Found { node, index, word, bits, item }),
                Decoded::Node(child) => {
                    let noted = bits | ACCESSED;
                    if bits != noted && !word.hardware_update(actor, bits, noted) {
                        return Err(Lost::Changed);
                    }
                    self.keep(actor, vaddr, level, Kept { node, index, bits: noted });
                    node = child;
                }
            }
            level = level.below().expect("a leaf has no nodes below it");
        }
    }

    /// Since when the loads of a walk may have been done, by a CPU whose caches are held; and
    /// whether all of the translation was kept. That is a choice where the page's translation may
    /// be older than what is above it.
    #[track_caller]
    fn window_of(vaddr: Vaddr) -> (Window, bool) {
        let page = vaddr.align_down(FRAME_SIZE);
        let (since, upper) = held(|caches, _| {
            let since = caches.current().expect("a root is loaded");
            (since.page(page), since.upper)
        });
        let whole = since != upper && weft_explorer::choose(2) == 1;
        (if whole { since } else { upper }, whole)
    }
}

/// Hardware whose caches are drawn.
impl<G: Geometry> Model<G> {
    /// From now on the calling CPU plays the hardware of `cpu`, which it has locked.
    fn play(&self, actor: Actor, cpu: usize) {
        if let Mmu::Walking(own) = self.mmu(actor.cpu()) {
            own.plays.store(cpu, Ordering::Relaxed);
        }
    }

    /// The CPU whose hardware the caller plays.
    fn played(&self, actor: Actor) -> usize {
        match self.mmu(actor.cpu()) {
            Mmu::Walking(own) => own.plays.load(Ordering::Relaxed),
            Mmu::Caching(_) => actor.cpu(),
        }
    }

    /// What that hardware keeps under its tag, where caches are drawn. No operation of the engine
    /// is done while the result is there: the engine may run another CPU on this thread, which
    /// would look, too.
    fn kept(&self, actor: Actor) -> Option<MutexGuard<'_, Translations>> {
        match self.mmu(self.played(actor)) {
            Mmu::Walking(walking) if Chosen::traits().caching == Caching::Drawn => {
                let kept = walking.kept.get(walking.tag.load(Ordering::Relaxed))?;
                Some(kept.lock().unwrap_or_else(PoisonError::into_inner))
            }
            _ => None,
        }
    }

    /// Hardware may keep an entry for `vaddr` that it has used, now that it is noted as accessed.
    fn keep(&self, actor: Actor, vaddr: Vaddr, level: Level, entry: Kept) {
        let Some(mut kept) = self.kept(actor) else { return };
        let (first, span) = (vaddr.align_down(G::entry_span(level)), G::entry_span(level));
        match Format::<G>::decode(entry.bits, level) {
            _ if !may_keep(entry.bits) => {}
            Decoded::Item(_) => kept.keep_page(first, span, level, entry),
            _ => kept.keep_upper(first, span, level, entry),
        }
    }

    /// Hardware walks ahead, or does not.
    #[track_caller]
    fn speculate(&self, actor: Actor) {
        let Some(root) = self.memory().root_of(self.played(actor)) else { return };
        let ahead = self.kept(actor).and_then(|kept| kept.ahead(Chosen::draw));
        let Some(vaddr) = ahead else { return };
        if let Ok(found) = self.walk(actor, root, vaddr) {
            self.note_use(actor, vaddr, &found, false);
        }
    }
}

#[cfg(test)]
mod tests;
