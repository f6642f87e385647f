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
use crate::error::{ActivateError, AlreadyOnline, NotARoot};
use crate::geometry::Geometry;
use crate::node::Node;
use crate::reclaim::{Erased, Reclaim};
use crate::sync::{Backend, Event, Hardware, PlainCell};

/// A processor that takes part: it reads tables, announces quiescent states, runs on a root.
#[derive(Debug)]
pub struct Cpu<B: Backend> {
    backend: B,
    id: CpuId,
    active: Option<Erased<B>>,
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
        Ok(Self { backend: backend.clone(), id, active: None, _not_shared: PhantomData })
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

    /// Runs on `root` from now on. Called on the CPU itself.
    ///
    /// # Errors
    ///
    /// [`ActivateError::NotARoot`] if the node is of a lower level,
    /// [`ActivateError::CarriesNothing`] if the CPU stands on the roots that it loads and this one
    /// does not share the kernel's table, [`ActivateError::OtherFormat`] if it is not what hardware
    /// walks. The CPU then runs on what it ran on.
    ///
    /// # Panics
    ///
    /// If the root is one of another machine, or the caller is on another CPU.
    pub fn activate<C: Config<Backend = B>>(
        &mut self,
        root: &Node<C>,
    ) -> Result<(), ActivateError> {
        assert!(*root.backend() == self.backend, "the root is one of another machine");
        let level = root.level();
        if level != B::Geometry::ROOT {
            return Err(NotARoot { level }.into());
        }
        if let Some(hardware) = B::HARDWARE {
            if hardware != Hardware::of::<C::Format, B::Geometry>() {
                return Err(ActivateError::OtherFormat { root: root.paddr() });
            }
            if !root.frame_ref().metadata().carries.get() {
                return Err(ActivateError::CarriesNothing { root: root.paddr() });
            }
        }
        if self.active() != Some(root.paddr()) {
            self.switch(Some(root.clone().erase()));
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

    fn switch(&mut self, next: Option<Erased<B>>) {
        assert!(self.backend.cpu() == self.id, "a CPU switches roots itself: call this on it");
        let frame = next.as_ref().map(Erased::paddr);
        let previous = core::mem::replace(&mut self.active, next);
        // SAFETY: we are on this CPU, as was just checked. `active` owns the new root, and is
        // replaced only here, where the next one is loaded before the reference is given up below.
        unsafe { self.backend.load_root(frame) };
        if let Some(frame) = frame {
            self.backend.observe(Event::Activated(frame));
        }
        if let Some(previous) = previous {
            previous.give_up();
        }
    }
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
