//! The backend that models run on: model memory over an engine, behind the core's facade.
//!
//! What the model knows of hardware, its walks, caches and interrupts, is in `mmu.rs`. Loads of a
//! walk are acquire loads, which is what x86-64 promises of loads (Intel SDM, volume 3A, section
//! 9.2).

use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex};

use weft_core::address::{CpuId, CpuSet, Level, Paddr, Vaddr};
use weft_core::audit::{Broken, Found};
use weft_core::format::RawItem;
use weft_core::geometry::{Geometry, TinyThree};
use weft_core::grace::Monitor;
use weft_core::item::UntrackedMemory;
use weft_core::lock::SpinLock;
use weft_core::node::Metadata;
use weft_core::reclaim::{Paid, Reclaim};
use weft_core::sites::FenceSite;
use weft_core::sync::{
    Backend, CellValue, Entries, Event, FrameUse, Hardware, Noted, PlainCell, Request, TaggedRoot,
    Word,
};
use weft_scenarios::mark::Mark;
use weft_scenarios::sabotage::Sabotage;
use weft_scenarios::tables::{self, Tables};
use weft_scenarios::world::World;

use crate::actor::Actor;
use crate::chosen::Chosen;
use crate::coverage;
use crate::engine::Engine;
use crate::ghost::{Ghost, Label, Step};
use crate::memory::{Memory, Pools};
use crate::mmu::{self, Mmu};
use crate::sabotage;
use crate::words::{self, ModelCell, ModelCount, ModelLockWord, ModelWord, Recording};

/// A machine in an engine's world: two entries per node, on three levels unless said otherwise.
pub struct Model<G: Geometry = TinyThree> {
    machine: Arc<MachineState<G>>,
}

struct MachineState<G: Geometry> {
    memory: Memory<G>,
    reclaim: ModelReclaim<G>,
    /// Which CPUs run on a root.
    running: [ModelWord; 1],
    /// How many address spaces there have been.
    spaces: ModelWord,
    mmus: Vec<Mmu>,
    /// Ghost: what each CPU is to flush late, in a world that is sabotaged so. Touched by it only.
    late: Vec<Mutex<Vec<(CpuSet, Request)>>>,
}

impl<G: Geometry> Clone for Model<G> {
    fn clone(&self) -> Self {
        Self { machine: Arc::clone(&self.machine) }
    }
}

impl<G: Geometry> PartialEq for Model<G> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.machine, &other.machine)
    }
}

impl<G: Geometry> Eq for Model<G> {}

impl<G: Geometry> fmt::Debug for Model<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").finish_non_exhaustive()
    }
}

impl<G: Geometry> Model<G> {
    /// A machine with all frames free. Called where an execution is set up.
    pub(crate) fn new(pools: Pools) -> Self {
        let memory = Memory::new(pools);
        let reclaim = ModelReclaim { monitor: Monitor::new() };
        let running = [ModelWord::new("running", 0)];
        let spaces = ModelWord::new("spaces", 0);
        let mmus = (0..pools.cpus).map(Mmu::new).collect();
        let late = (0..pools.cpus).map(|_| Mutex::default()).collect();
        Self { machine: Arc::new(MachineState { memory, reclaim, running, spaces, mmus, late }) }
    }

    /// Checks, once all CPUs have ended, that every node in use is in order.
    ///
    /// # Panics
    ///
    /// If one is not.
    #[track_caller]
    pub(crate) fn audit(&self) {
        // SAFETY: (1) the frame is in use, and the core's nodes and frames are all that takes any;
        // (2) all CPUs have ended, and what is found goes with this statement.
        let frames = self.machine.memory.in_use().map(|frame| unsafe { Found::new(self, frame) });
        if let Err(Broken { node, defect, .. }) = tables::audit(frames) {
            panic!("{defect}: N{}", node.frame_number());
        }
    }

    /// Checks, after everything was given up, that every frame was freed.
    pub(crate) fn check_accounts(&self) {
        self.machine.memory.check_accounts();
    }

    pub(crate) fn memory(&self) -> &Memory<G> {
        &self.machine.memory
    }

    /// The paging hardware of a CPU.
    pub(crate) fn mmu(&self, cpu: usize) -> &Mmu {
        &self.machine.mmus[cpu]
    }

    /// Ghost: what a CPU is to flush late, in a world that is sabotaged so. Touched by that CPU
    /// only.
    pub(crate) fn late(&self, cpu: usize) -> &Mutex<Vec<(CpuSet, Request)>> {
        &self.machine.late[cpu]
    }
}

/// The entries of a node: each access looks anew whether the node is in use.
pub struct ModelEntries<'a, G: Geometry> {
    memory: &'a Memory<G>,
    frame: Paddr,
}

impl<G: Geometry> fmt::Debug for ModelEntries<'_, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelEntries({:?})", self.frame)
    }
}

impl<G: Geometry> Clone for ModelEntries<'_, G> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<G: Geometry> Copy for ModelEntries<'_, G> {}

impl<'a, G: Geometry> Entries<'a, ModelWord> for ModelEntries<'a, G> {
    #[track_caller]
    fn get(self, index: usize) -> &'a ModelWord {
        self.memory.entry(self.frame, index)
    }
}

/// What events of the core are told of.
const CORE: Label = Label { frame: None, name: "core", index: None };

// SAFETY: (1) a frame is given once and never again, see `Memory::allocate`; (2) frames, metadata
// and entries sit in vectors that never change; (3) engines give atomic words, and cells that are
// words or checked; (4) windows are moved, under the mutex of their CPU, and (5) orderings are
// those of the sites, except in worlds that are sabotaged; (6) CPUs are code of the host.
unsafe impl<G: Geometry> Backend for Model<G> {
    type Word = ModelWord;
    type LockWord = ModelLockWord;
    type Count = ModelCount;
    type Cell<T: CellValue> = ModelCell<T>;
    type Entries<'a> = ModelEntries<'a, G>;
    type NodeLock = SpinLock<ModelLockWord>;
    type Reclaim = ModelReclaim<G>;
    type Geometry = G;
    type Tables = Tables<Self>;

    const TAGS: usize = mmu::TAGS;

    // What runs here is translated by the host.
    const HARDWARE: Option<Hardware> = None;

    #[track_caller]
    fn allocate(&self, purpose: FrameUse) -> Option<Paddr> {
        self.machine.memory.allocate(Actor::now()?, purpose)
    }

    #[track_caller]
    unsafe fn free(&self, frame: Paddr) {
        if let Some(actor) = Actor::now() {
            self.machine.memory.free(actor, frame);
        }
    }

    #[track_caller]
    unsafe fn metadata(&self, frame: Paddr) -> &Metadata<Self> {
        self.machine.memory.metadata(frame)
    }

    unsafe fn entries(&self, frame: Paddr) -> ModelEntries<'_, G> {
        ModelEntries { memory: &self.machine.memory, frame }
    }

    fn reclaim(&self) -> &Self::Reclaim {
        &self.machine.reclaim
    }

    fn cpu(&self) -> CpuId {
        CpuId::new(Chosen::cpu() as u32)
    }

    #[track_caller]
    unsafe fn load_root(&self, root: Option<TaggedRoot>) {
        if let Some(actor) = Actor::now() {
            self.run_on(actor, root);
        }
    }

    fn running(&self) -> &[ModelWord] {
        &self.machine.running
    }

    fn spaces(&self) -> &ModelWord {
        &self.machine.spaces
    }

    #[track_caller]
    fn masked<R>(&self, body: impl FnOnce(&mut Noted) -> R) -> R {
        self.machine.mmus[Chosen::cpu()].masked(body)
    }

    #[track_caller]
    fn invalidate(&self, what: &Request) {
        if let Some(actor) = Actor::now() {
            self.forget_flushed(actor, what.flush());
        }
    }

    #[track_caller]
    fn interrupt(&self, cpus: &CpuSet, request: &Request) {
        if let Some(actor) = Actor::now() {
            self.shoot_down(actor, cpus, request);
        }
    }

    #[track_caller]
    fn fence(&self, site: &'static FenceSite) {
        let Some(actor) = Actor::now() else { return };
        coverage::access(&site.row, site.place);
        let Some(order) = sabotage::fence_order(site).atomic() else { return };
        let label = Label { frame: None, name: "fence", index: None };
        let recording = Recording::begin(actor, label, Step::Fence, Some(site.row.name));
        Chosen::fence(order);
        recording.done(Step::Fence);
    }

    fn began(&self, operation: &'static str) {
        if Actor::now().is_some() {
            coverage::operation(operation);
        }
    }

    #[track_caller]
    fn observe(&self, event: Event) {
        if let Some(actor) = Actor::now() {
            words::observe(actor, CORE, event);
        }
    }
}

impl<G: Geometry> Model<G> {
    /// An instruction of a program, told where the caller is.
    #[track_caller]
    fn user<R>(&self, vaddr: Vaddr, write: bool, body: impl FnOnce(RawItem) -> R) -> Option<R> {
        let cpu = Actor::now()?.cpu();
        Ghost::told_here(cpu, || self.instruction(vaddr, write, body))
    }
}

impl<G: Geometry> World for Model<G> {
    #[track_caller]
    fn write_contents(&self, frame: Paddr, value: u64) {
        self.machine.memory.contents(frame).set(value);
    }

    #[track_caller]
    fn read_contents(&self, frame: Paddr) -> u64 {
        self.machine.memory.contents(frame).get()
    }

    #[track_caller]
    fn user_read(&self, vaddr: Vaddr) -> Option<u64> {
        let read = |page: RawItem| match self.memory().has(page.frame) {
            true => self.read_contents(page.frame),
            false => 0,
        };
        self.user(vaddr, false, read)
    }

    #[track_caller]
    fn user_write(&self, vaddr: Vaddr, value: u64) -> bool {
        let write = |page: RawItem| {
            if self.memory().has(page.frame) {
                self.write_contents(page.frame, value);
            }
        };
        self.user(vaddr, true, write).is_some()
    }

    #[track_caller]
    fn user_level(&self, vaddr: Vaddr) -> Option<Level> {
        self.user(vaddr, false, |page| page.level)
    }

    #[track_caller]
    fn prefetch(&self, vaddr: Vaddr) {
        let _unused = self.instruction(vaddr, false, |_| ());
    }

    fn untracked_memory(&self) -> UntrackedMemory<Self> {
        // SAFETY: what is mapped here is looked at by the model's hardware only, and its accesses
        // are to model memory, which looks at each of them whether the frame is in use.
        unsafe { UntrackedMemory::new(Paddr::new(0)..Paddr::new(1 << 31)) }
    }

    fn limit_frames(&self, count: usize) {
        if let Some(actor) = Actor::now() {
            self.machine.memory.limit_frames(actor, count);
        }
    }

    fn reuse_frames(&self) {
        if let Some(actor) = Actor::now() {
            self.machine.memory.reuse_frames(actor);
        }
    }

    #[track_caller]
    fn in_handler_of(&self, cpu: CpuId, handler: &(dyn Fn() + Sync)) {
        if let Some(actor) = Actor::now() {
            let mut target = CpuSet::EMPTY;
            target.insert(cpu);
            self.interrupt_all(actor, &target, &|_| handler());
        }
    }

    fn mark(&self) -> Mark {
        Actor::now().map_or(Mark::UNORDERED, |_| Chosen::mark())
    }

    #[track_caller]
    fn reached(&self, situation: &'static str) {
        let Some(actor) = Actor::now() else { return };
        Ghost::current().reached(situation);
        let label = Label { frame: None, name: "scenario", index: None };
        words::record(actor, label, Step::Situation(situation));
    }
}

/// The core's monitor, or one of its broken twins.
pub struct ModelReclaim<G: Geometry> {
    monitor: Monitor<Model<G>>,
}

impl<G: Geometry> fmt::Debug for ModelReclaim<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelReclaim").finish_non_exhaustive()
    }
}

// SAFETY: it is the core's monitor, which keeps the promise, except in worlds that are sabotaged
// in order to show that breaking it is caught.
unsafe impl<G: Geometry> Reclaim<Model<G>> for ModelReclaim<G> {
    #[track_caller]
    fn online(&self, cpu: CpuId) -> bool {
        sabotage::is(Sabotage::ForgottenCpu(cpu.as_u32())) || self.monitor.online(cpu)
    }

    #[track_caller]
    unsafe fn offline(&self, backend: &Model<G>, cpu: CpuId) {
        if Actor::now().is_some() {
            // SAFETY: the caller's contract is the same.
            unsafe { self.monitor.offline(backend, cpu) };
        }
    }

    #[track_caller]
    unsafe fn quiescent(&self, backend: &Model<G>, cpu: CpuId) {
        // SAFETY: the caller's contract is the same.
        unsafe { self.monitor.quiescent(backend, cpu) };
    }

    #[track_caller]
    unsafe fn retire(&self, backend: &Model<G>, batch: Paid<Model<G>>) {
        if Actor::now().is_none() {
            return;
        }
        backend.shoot_down_late();
        if sabotage::is(Sabotage::FreedAtOnce) {
            batch.into_batch().drop_all();
        } else if sabotage::is(Sabotage::NeverFreed) {
            // A batch without an owner: its frames are lost.
            let _lost = ManuallyDrop::new(batch);
        } else {
            // SAFETY: the caller's contract is the same.
            unsafe { self.monitor.retire(backend, batch) };
        }
    }
}
