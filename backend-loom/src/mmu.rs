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
//! *Interrupts.* A CPU's windows are under an engine's mutex, which the CPU holds during an access
//! and while it masks interrupts. A CPU that interrupts another one plays the handler there: the
//! handler comes at any point where the mutex is free, also while the CPU waits for a lock. What
//! the handlers of one request know of each other is nothing. They are played when the initiator
//! waits for them, with what it knew when it sent the request; between the two it does nothing
//! that a handler could see.
//!
//! *Other engines.* Where loads cannot be old, hardware walks at every access, and there is nothing
//! to invalidate. Interrupts are masked by a word of the engine's then, and are ordered with all
//! that their initiator does.
//!
//! Rules: Intel SDM, volume 3A, sections 5.8 (accessed and dirty) and 5.10.2 to 5.10.5 (caches).

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use weft_core::address::{CpuId, CpuSet, Paddr, Vaddr};
use weft_core::config::Config;
use weft_core::format::{Decoded, EntryFormat, PageFlags, RawItem, X86_64};
use weft_core::geometry::Geometry;
use weft_core::sync::{Noted, Request};
use weft_explorer::Window;
use weft_scenarios::sabotage::Sabotage;
use weft_scenarios::tables::UserTable;

use crate::actor::Actor;
use crate::chosen::{Chosen, ChosenWord};
use crate::engine::{Access, Engine as _, EngineWord as _};
use crate::model::Model;
use crate::sabotage;
use crate::words::ModelWord;

/// What an entry says, as its table writes it.
type Format<G> = <UserTable<Model<G>> as Config>::Format;

/// Since when the hardware of a CPU may remember what it has read, and what the CPU notes of that.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caches {
    noted: Noted,
    /// Translations of pages that have no window of their own.
    everything: Window,
    /// Translations of pages that were invalidated later.
    pages: Vec<(Vaddr, Window)>,
    /// Entries above the pages.
    upper: Window,
}

impl Caches {
    fn since(&self, page: Vaddr) -> Window {
        let own = self.pages.iter().find(|(other, _)| *other == page);
        own.map_or(self.everything, |(_, window)| *window)
    }

    fn forget_page(&mut self, page: Vaddr, now: Window) {
        self.upper = now;
        self.pages.retain(|(other, _)| *other != page);
        self.pages.push((page, now));
    }

    fn forget_everything(&mut self, now: Window) {
        (self.everything, self.upper) = (now, now);
        self.pages.clear();
    }
}

/// The caches that the caller has to itself, because it is masked or plays a handler; and in a
/// handler the window that opens there.
struct Held {
    caches: Caches,
    handler: Option<Window>,
}

thread_local! {
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

/// Lets `body` have the caches to itself.
fn hold<R>(caches: &mut Caches, handler: Option<Window>, body: impl FnOnce() -> R) -> R {
    struct LetGo;
    impl Drop for LetGo {
        fn drop(&mut self) {
            HELD.take();
        }
    }
    HELD.set(Some(Held { caches: std::mem::take(caches), handler }));
    let let_go = LetGo;
    let result = body();
    if let Some(held) = HELD.take() {
        *caches = held.caches;
    }
    drop(let_go);
    result
}

fn is_held() -> bool {
    HELD.with_borrow(Option::is_some)
}

fn held<R>(body: impl FnOnce(&mut Caches, Window) -> R) -> R {
    HELD.with_borrow_mut(|held| {
        let held = held.as_mut().expect("a CPU has its caches to itself");
        let now = held.handler.unwrap_or_else(Window::open);
        body(&mut held.caches, now)
    })
}

/// The paging hardware of one CPU.
pub(crate) enum Mmu {
    /// Loads of a walk may be old.
    Caching(weft_explorer::Mutex<Caches>),
    /// Every access walks.
    Walking(Walking),
}

/// What stands for the caches where there are none.
pub(crate) struct Walking {
    /// 1 while the CPU masks interrupts, or while a handler runs.
    lock: ChosenWord,
    /// Ghost: whether the CPU masks interrupts. Touched by that CPU only.
    is_masked: AtomicBool,
    /// Ghost: what the CPU notes. Under the lock, of engines that run CPUs in their real order.
    noted: Mutex<Noted>,
}

impl Walking {
    fn new() -> Self {
        let lock = ChosenWord::new(0, Access::UpdatedOnly);
        Self { lock, is_masked: AtomicBool::new(false), noted: Mutex::new(Noted::default()) }
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
    /// Hardware that has read nothing. Called where an execution is set up.
    pub(crate) fn new() -> Self {
        if Chosen::traits().caches {
            Self::Caching(weft_explorer::Mutex::named("interrupts", Caches::default()))
        } else {
            Self::Walking(Walking::new())
        }
    }

    /// Calls `body` with the CPU's interrupts masked. Called by that CPU.
    #[track_caller]
    pub(crate) fn masked<R>(&self, body: impl FnOnce(&mut Noted) -> R) -> R {
        match self {
            _ if Actor::now().is_none() => body(&mut Noted::default()),
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

/// The CPU whose caches are held forgets what the request says.
pub(crate) fn invalidate(request: &Request) {
    if !is_held() {
        return;
    }
    held(|caches, now| match request.flush().pages() {
        Some(pages) => {
            let most = if sabotage::is(Sabotage::PartialShootdown) { 1 } else { usize::MAX };
            pages.take(most).for_each(|page| caches.forget_page(page, now));
        }
        None => caches.forget_everything(now),
    });
}

/// The CPU whose caches are held has loaded a root, and forgets the one before.
pub(crate) fn load_root() {
    if is_held() {
        held(Caches::forget_everything);
    }
}

/// What a CPU's hardware finds for an address.
struct Found<'a> {
    word: &'a ModelWord,
    bits: u64,
    item: RawItem,
}

/// Why a walk does not end at a page.
enum Lost {
    /// Nothing is mapped there.
    Absent,
    /// An entry has changed while hardware was noting that it used it.
    Changed,
}

/// Whether hardware may keep an entry: it is present, and noted as accessed.
fn may_keep(bits: u64) -> bool {
    bits & 1 != 0 && bits & ACCESSED != 0
}

/// The bit that hardware sets in every entry that it uses.
const ACCESSED: u64 = X86_64::HARDWARE_BITS & 1 << 5;

impl<G: Geometry> Model<G> {
    /// Makes CPUs flush, as the core asks for it, or as a sabotaged world does it.
    #[track_caller]
    pub(crate) fn shoot_down(&self, actor: Actor, cpus: &CpuSet, request: &Request) {
        if sabotage::is(Sabotage::NoShootdown) {
        } else if sabotage::is(Sabotage::LateShootdown) {
            self.late(actor.cpu()).lock().expect("nothing panics here").push((*cpus, *request));
        } else if sabotage::is(Sabotage::MaskedShootdown) {
            self.mmu(actor.cpu()).masked(|_| self.interrupt_all(actor, cpus, request));
        } else {
            self.interrupt_all(actor, cpus, request);
        }
    }

    /// Makes CPUs flush, after the range was unlocked, in a world that is sabotaged so.
    #[track_caller]
    pub(crate) fn shoot_down_late(&self) {
        let Some(actor) = Actor::now() else { return };
        let late =
            std::mem::take(&mut *self.late(actor.cpu()).lock().expect("nothing panics here"));
        late.iter().for_each(|(cpus, request)| self.interrupt_all(actor, cpus, request));
    }

    /// Plays the handlers of these CPUs, and waits for them.
    #[track_caller]
    fn interrupt_all(&self, actor: Actor, cpus: &CpuSet, request: &Request) {
        let sent = if Chosen::traits().caches { Window::open() } else { Window::default() };
        let forgotten = |cpu: CpuId| sabotage::is(Sabotage::ForgottenHolder(cpu.as_u32()));
        let targets = cpus.iter().filter(|cpu| !forgotten(*cpu)).map(|cpu| cpu.as_u32() as usize);
        let (own, mut others): (Vec<_>, Vec<_>) = targets.partition(|cpu| *cpu == actor.cpu());
        while !others.is_empty() {
            // In any order: a target may see what another one did behind its handler.
            let is_choice = Chosen::traits().caches && others.len() > 1;
            let next = if is_choice { weft_explorer::choose(others.len() as u64) } else { 0 };
            match self.mmu(others.remove(next as usize)) {
                Mmu::Caching(caches) => caches.interrupt(&sent, |caches, here| {
                    let own = HELD.take();
                    hold(caches, Some(*here), || noting(|noted| request.serve(self, noted)));
                    HELD.set(own);
                }),
                Mmu::Walking(walking) => walking.locked(|noted| request.serve(self, noted)),
            }
        }
        for cpu in own {
            self.mmu(cpu).masked(|noted| request.serve(self, noted));
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
            Mmu::Walking(walking) => {
                walking.masked(|_| self.translate(actor, root, vaddr, write).map(body))
            }
        }
    }

    #[track_caller]
    fn translate(&self, actor: Actor, root: Paddr, vaddr: Vaddr, write: bool) -> Option<RawItem> {
        loop {
            match self.walk(actor, root, vaddr) {
                Ok(Found { word, bits, item }) => {
                    if write && !item.property.flags.contains(PageFlags::WRITE) {
                        break;
                    }
                    let mut wanted = item;
                    wanted.property.flags.insert(PageFlags::ACCESSED);
                    wanted.property.flags.set(
                        PageFlags::DIRTY,
                        write || item.property.flags.contains(PageFlags::DIRTY),
                    );
                    let new = Format::<G>::item(wanted);
                    if wanted == item || word.hardware_update(actor, bits, new) {
                        return Some(item);
                    }
                }
                Err(Lost::Absent) => break,
                Err(Lost::Changed) => {}
            }
            // What it remembered is not so any more: it walks again.
            self.forget(vaddr);
        }
        // A fault makes it forget, too.
        self.forget(vaddr);
        None
    }

    fn forget(&self, vaddr: Vaddr) {
        if is_held() {
            let page = vaddr.align_down(weft_core::address::FRAME_SIZE);
            held(|caches, now| caches.forget_page(page, now));
        }
    }

    /// Follows entries down to a page: each as it is now, or as it may have been kept.
    #[track_caller]
    fn walk(&self, actor: Actor, root: Paddr, vaddr: Vaddr) -> Result<Found<'_>, Lost> {
        let (mut window, kept) = Self::window_of(vaddr);
        let (mut node, mut level) = (root, G::ROOT);
        loop {
            let index = G::index(vaddr, level);
            let word = match kept {
                true => self.memory().remembered(node, index),
                false => self.memory().entry(node, index),
            };
            let bits = match &mut window {
                Some(window) => word.hardware_load_within(actor, window, may_keep),
                None => word.hardware_load(actor),
            };
            if kept {
                // It was kept whole, or not at all.
                weft_explorer::assume(may_keep(bits));
            }
            match Format::<G>::decode(bits, level) {
                Decoded::Absent => return Err(Lost::Absent),
                Decoded::Item(item) => return Ok(Found { word, bits, item }),
                Decoded::Node(child) => {
                    if bits & ACCESSED == 0 && !word.hardware_update(actor, bits, bits | ACCESSED) {
                        return Err(Lost::Changed);
                    }
                    node = child;
                }
            }
            level = level.below().expect("a leaf has no nodes below it");
        }
    }

    /// Since when the loads of a walk may have been done, where they may be old; and whether all of
    /// the translation was kept. That is a choice where the page's translation may be older than
    /// what is above it.
    #[track_caller]
    fn window_of(vaddr: Vaddr) -> (Option<Window>, bool) {
        if !is_held() {
            return (None, false);
        }
        let page = vaddr.align_down(weft_core::address::FRAME_SIZE);
        let (since, upper) = held(|caches, _| (caches.since(page), caches.upper));
        let kept = since != upper && weft_explorer::choose(2) == 1;
        (Some(if kept { since } else { upper }), kept)
    }
}
