//! A CPU: its read-side sections, its quiescent states, and the root it runs on.
//!
//! A [`Cpu`] is what a kernel keeps per processor. It is online from creation to drop. A
//! [`ReadSide`] borrows it, and announcing a quiescent state needs it whole. So the compiler makes
//! sure that no reference obtained in a section outlives the section, and that no CPU announces a
//! quiescent state in the middle of one.
//!
//! *A CPU owns the root it runs on.* Switching takes a reference to the new root, loads it, and
//! then gives back the reference to the previous one. So a root cannot be freed under a CPU that
//! translates through it, even if another CPU drops the last handle. The CPU that switches away may
//! then be the one that frees it. The first activation has nothing to give back, and activating the
//! active root again does nothing.
//!
//! *Translations.* A CPU tells the [address space](crate::space) that it switches to before it
//! loads the root, and the one that it leaves afterwards. So every CPU that changes one of them
//! knows whom to ask. What it has cached of the spaces before it may keep, under
//! [tags](crate::tags), and uses if nothing of them was flushed meanwhile.
//!
//! *A section stays on its CPU.* A [`Cpu`] may move to another thread of control, as long as it is
//! in no section; it cannot be shared, and a section can do neither:
//!
//! ```compile_fail,E0277
//! fn sends<T: Send>() {}
//! fn check<B: weft_core::sync::Backend>() {
//!     sends::<weft_core::cpu::ReadSide<'static, B>>();
//! }
//! ```
//! ```compile_fail,E0277
//! fn shares<T: Sync>() {}
//! fn check<B: weft_core::sync::Backend>() {
//!     shares::<weft_core::cpu::Cpu<B>>();
//! }
//! ```

use core::cell::Cell;
use core::marker::PhantomData;

use crate::address::{CpuId, Paddr};
use crate::config::Config;
use crate::error::{ActivateError, AlreadyOnline};
use crate::node::Node;
use crate::reclaim::{Erased, Reclaim};
use crate::sites::site;
use crate::space::{AddressSpace, Noted, Space, SpaceWords, TaggedRoot, has_place, note_running};
use crate::sync::{Backend, Event, Hardware, PlainCell};
use crate::tags::{TAGS_MAX, Tags};

/// A processor that takes part: it reads tables, announces quiescent states, runs on a root.
#[derive(Debug)]
pub struct Cpu<B: Backend> {
    backend: B,
    id: CpuId,
    active: Option<Erased<B>>,
    lazy: bool,
    tags: Tags,
    _not_shared: PhantomData<Cell<()>>,
}

impl<B: Backend> Cpu<B> {
    /// Puts CPU `id` online.
    ///
    /// # Errors
    ///
    /// [`AlreadyOnline`] if there is a value for this CPU.
    pub fn online(backend: &B, id: CpuId) -> Result<Self, AlreadyOnline> {
        if !backend.reclaim().online(id) {
            return Err(AlreadyOnline { cpu: id });
        }
        Ok(Self {
            backend: backend.clone(),
            id,
            active: None,
            lazy: false,
            tags: Tags::default(),
            _not_shared: PhantomData,
        })
    }

    /// The number of the CPU.
    pub fn id(&self) -> CpuId {
        self.id
    }

    /// What the CPU belongs to.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Enters a read-side section. Sections may nest.
    pub fn read_side(&self) -> ReadSide<'_, B> {
        // SAFETY: this is the one value of this CPU, which is online, and it is not shared.
        unsafe { self.backend.reclaim().enter(self.id) };
        ReadSide { cpu: self }
    }

    /// Announces that this CPU is in no read-side section, and drops whatever waited only for it.
    pub fn quiescent(&mut self) {
        // SAFETY: this is the one value of this CPU, and it is borrowed mutably, which no section
        // survives.
        unsafe { self.backend.reclaim().quiescent(&self.backend, self.id) };
    }

    /// The root that the CPU runs on.
    pub fn active(&self) -> Option<Paddr> {
        self.active.as_ref().map(Erased::paddr)
    }

    /// Runs on the root of `space` from now on, and is not [lazy](Self::lazy) any more. Called on
    /// the CPU itself.
    ///
    /// # Errors
    ///
    /// [`ActivateError::CarriesNothing`] if the CPU stands on the roots that it loads and this one
    /// does not share the kernel's table, [`ActivateError::OtherFormat`] if it is not what hardware
    /// walks. The CPU then runs on what it ran on.
    ///
    /// # Panics
    ///
    /// If the space is one of another machine, or has no place for this CPU; or if the caller is on
    /// another CPU.
    pub fn activate<C: Config<Backend = B>>(
        &mut self,
        space: &AddressSpace<C>,
    ) -> Result<(), ActivateError> {
        assert!(*space.backend() == self.backend, "the space is one of another machine");
        // Now, because nothing has been counted yet.
        assert!(has_place::<B>(self.id), "an address space has no place for {:?}", self.id);
        if let Some(hardware) = B::HARDWARE {
            if hardware != Hardware::of::<C::Format, B::Geometry>() {
                return Err(ActivateError::OtherFormat { root: space.paddr() });
            }
            if !space.frame_ref().metadata().carries.get() {
                return Err(ActivateError::CarriesNothing { root: space.paddr() });
            }
        }
        if self.active() != Some(space.paddr()) {
            self.switch(Some(Node::clone(space).erase()));
        } else if self.lazy {
            self.catch_up();
        }
        Ok(())
    }

    /// Runs on no table of ours from now on, and gives back the root. Called on the CPU itself.
    ///
    /// # Panics
    ///
    /// If there is a root to give back and the caller is on another CPU.
    pub fn deactivate(&mut self) {
        if self.active.is_some() {
            self.switch(None);
        }
    }

    /// Keeps the root, but uses no page of it until it is [activated](Self::activate) again: the
    /// CPU runs a thread of the kernel, say. Until then it is not asked to flush pages, only
    /// when nodes are taken out. Called on the CPU itself.
    ///
    /// What the kernel maps for itself is not meant: a lazy CPU goes on using that.
    ///
    /// # Panics
    ///
    /// If the caller is on another CPU.
    pub fn lazy(&mut self) {
        self.check_cpu();
        if let Some(words) = self.words()
            && !self.lazy
        {
            words.go_lazy(self.id);
            self.lazy = true;
        }
    }

    /// Uses pages of the root again, and forgets what it has cached if there were flushes.
    fn catch_up(&mut self) {
        self.check_cpu();
        self.lazy = false;
        if let Some(words) = self.words() {
            words.come_back(self.id);
            self.backend.fence(site!(ACTIVATE_ORDER));
            let generation = words.generation();
            self.backend.masked(|noted| noted.catch_up(&self.backend, generation));
        }
    }

    /// The words of the space that the CPU runs on.
    fn words(&self) -> Option<SpaceWords<'_, B>> {
        Space::of(self.active.as_ref()?.frame_ref()).words()
    }

    fn check_cpu(&self) {
        assert!(self.backend.cpu() == self.id, "a CPU switches roots itself: call this on it");
    }

    fn switch(&mut self, next: Option<Erased<B>>) {
        self.check_cpu();
        let (backend, id) = (&self.backend, self.id);
        if let Some(next) = &next {
            if self.active.is_none() {
                note_running(backend, id, true);
            }
            words_of(next).join(id);
            backend.fence(site!(ACTIVATE_ORDER));
        }
        let tags = &mut self.tags;
        let loaded = backend.masked(|noted| {
            tags.leave(noted);
            let (runs_on, load) = match &next {
                Some(next) => Self::enter(tags, next),
                None => {
                    // Without a root it may not be asked for what no generation counts.
                    tags.forget();
                    (Noted::default(), None)
                }
            };
            // SAFETY: we are on this CPU, as was checked above. `next` owns the new root and goes
            // to `active`, which is replaced only here, where the next one is loaded before the
            // reference is given up below.
            unsafe { backend.load_root(load) };
            *noted = runs_on;
            load
        });
        if let Some(TaggedRoot { root, keeps, .. }) = loaded {
            backend.observe(Event::Activated { root, keeps });
        }
        if let Some(words) = self.words() {
            words.leave(id, self.lazy);
        }
        if next.is_none() {
            note_running(backend, id, false);
        }
        self.lazy = false;
        if let Some(previous) = core::mem::replace(&mut self.active, next) {
            previous.give_up();
        }
    }

    /// What the CPU, whose interrupts are masked, notes when it loads a root now, and under which
    /// tag it does.
    ///
    /// The generation is looked at here and not before: a request for the space that is served
    /// until now finds the CPU on another tag, and so does not reach what is cached of the space.
    fn enter(tags: &mut Tags, next: &Erased<B>) -> (Noted, Option<TaggedRoot>) {
        const { assert!(0 < B::TAGS && B::TAGS <= TAGS_MAX, "1 is for hardware without tags") };
        let words = words_of(next);
        let (space, clean) = (words.id(), words.generation());
        let (tag, keeps) = tags.enter(B::TAGS, space, clean);
        let noted = Noted { space: Some(space), clean, others_stale: false };
        (noted, Some(TaggedRoot { root: next.paddr(), tag, keeps }))
    }
}

/// The words of the space that a CPU is going to run on.
fn words_of<B: Backend>(root: &Erased<B>) -> SpaceWords<'_, B> {
    Space::of(root.frame_ref()).words().expect("only roots of spaces are activated")
}

impl<B: Backend> Drop for Cpu<B> {
    fn drop(&mut self) {
        self.deactivate();
        // SAFETY: this was the one value of this CPU, and no section outlives it.
        unsafe { self.backend.reclaim().offline(&self.backend, self.id) };
    }
}

/// A read-side section: while it lasts, nothing that was reachable in it is freed.
#[derive(Debug)]
pub struct ReadSide<'c, B: Backend> {
    cpu: &'c Cpu<B>,
}

impl<B: Backend> ReadSide<'_, B> {
    /// What the section is on.
    pub fn backend(&self) -> &B {
        &self.cpu.backend
    }
}

impl<B: Backend> Drop for ReadSide<'_, B> {
    fn drop(&mut self) {
        // SAFETY: `read_side` has entered, and the section is dropped once.
        unsafe { self.cpu.backend.reclaim().leave(self.cpu.id) };
    }
}
