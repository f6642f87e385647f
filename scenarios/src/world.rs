//! What a race needs besides the core: frames with contents, a user's view, and a set-up.

use core::borrow::Borrow;

use spin::Mutex;
use weft_core::address::{CpuId, Level, Paddr, Vaddr};
use weft_core::config::Config;
use weft_core::cpu::{Cpu, ReadSide};
use weft_core::entry::{Child, ChildRef};
use weft_core::find::lock_covering;
use weft_core::format::{PageFlags, Property};
use weft_core::frame::Frame;
use weft_core::geometry::Geometry;
use weft_core::item::{MappedItem, UntrackedMemory};
use weft_core::node::{Node, NodeRef};
use weft_core::permanent::Permanent;
use weft_core::space::AddressSpace;
use weft_core::sync::Backend;

use crate::mark::Mark;
use crate::tables::{KernelTable, UserTable};
use crate::transaction::{Space, Table, lent_item, page};

/// A backend that scenarios run on.
pub trait World: Backend {
    /// Writes the contents of a frame of data.
    #[track_caller]
    fn write_contents(&self, frame: Paddr, value: u64);

    /// Reads the contents of a frame of data. A frame that is not in use is a failure.
    #[track_caller]
    fn read_contents(&self, frame: Paddr) -> u64;

    /// A load at `vaddr` through the root that the calling CPU runs on: the contents of the page,
    /// or `None` for a fault. Hardware makes the page accessed.
    #[track_caller]
    fn user_read(&self, vaddr: Vaddr) -> Option<u64>;

    /// A store at `vaddr` through the root that the calling CPU runs on. False for a fault;
    /// otherwise hardware has made the page accessed and dirty, and the contents are `value`.
    #[track_caller]
    fn user_write(&self, vaddr: Vaddr, value: u64) -> bool;

    /// As [`user_read`](Self::user_read), but says of which level the page is that hardware finds.
    /// `None` for a fault, and on machines, which do not tell.
    #[track_caller]
    fn user_level(&self, vaddr: Vaddr) -> Option<Level>;

    /// Hardware of the calling CPU translates `vaddr` ahead of any access, and nothing comes of it
    /// but what it caches, and an accessed bit. Never faults.
    #[track_caller]
    fn prefetch(&self, vaddr: Vaddr);

    /// Memory that tables may map without owning it: from address 2^30 on far from all frames, and
    /// the frames themselves, of which a race sees to it that they outlive every translation.
    fn untracked_memory(&self) -> UntrackedMemory<Self>;

    /// From now on the calling CPU gets at most `count` more frames, until its role is over.
    fn limit_frames(&self, count: usize);

    /// From now on the calling CPU takes the frames that it frees before any other, the last one
    /// first. In a model no frame is used again otherwise; machines do it all the time.
    fn reuse_frames(&self);

    /// Interrupts `cpu` where its interrupts are not masked, calls `handler` there, and returns
    /// once that has returned. A CPU that has played its role is not interrupted: the caller plays
    /// the handler. In the models it always does, so a handler does not ask on which CPU it is.
    #[track_caller]
    fn in_handler_of(&self, cpu: CpuId, handler: &(dyn Fn() + Sync));

    /// Notes that a situation was met.
    fn reached(&self, situation: &'static str);

    /// Marks the point at which the calling CPU is. Where executions are enumerated this adds none
    /// and is no event of any; on processors it draws a number from a shared counter.
    fn mark(&self) -> Mark;
}

/// The machine that a scenario is set up on.
#[derive(Debug)]
pub struct Machine<B: World> {
    backend: B,
    boot: Cpu<B>,
    kernel: Option<Permanent<KernelTable<B>>>,
    running: Option<&'static Permanent<KernelTable<B>>>,
}

impl<B: World> Machine<B> {
    /// For harnesses: a machine that boots on `boot`, a CPU that no role has.
    pub fn new(backend: &B, boot: Cpu<B>) -> Self {
        Self { backend: backend.clone(), boot, kernel: None, running: None }
    }

    /// For harnesses that are kernels: a machine whose kernel runs on `running`. Every user table
    /// shares its half then, because who activates the table goes on running the kernel.
    pub fn of_kernel(
        backend: &B,
        boot: Cpu<B>,
        running: &'static Permanent<KernelTable<B>>,
    ) -> Self {
        Self { backend: backend.clone(), boot, kernel: None, running: Some(running) }
    }

    /// For harnesses: the boot CPU goes offline. What is left is the kernel's table, to be
    /// dismantled at the very end.
    pub fn finish_set_up(self) -> Option<Permanent<KernelTable<B>>> {
        self.kernel
    }

    /// What everything lives on.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// A read-side section for the set-up.
    pub fn section(&self) -> ReadSide<'_, B> {
        self.boot.read_side()
    }

    /// A detached node of `level`.
    #[track_caller]
    pub fn node(&self, level: u8) -> Node<UserTable<B>> {
        Node::allocate(&self.backend, Level::new(level)).expect("the set-up has frames enough")
    }

    /// An empty user table.
    #[track_caller]
    pub fn user_root(&self) -> Node<UserTable<B>> {
        match self.running {
            Some(kernel) => Node::root_sharing(kernel).expect("the set-up has frames enough"),
            None => self.node(B::Geometry::ROOT.as_u8()),
        }
    }

    /// An empty address space of a user, which CPUs can run on.
    #[track_caller]
    pub fn user_space(&self) -> AddressSpace<UserTable<B>> {
        self.blank().space(&self.backend)
    }

    /// What CPUs of the race need to make address spaces themselves.
    pub fn blank(&self) -> Blank<B> {
        Blank { running: self.running }
    }

    /// An empty user table that shares the kernel's half.
    #[track_caller]
    pub fn user_root_with_kernel(&mut self) -> Node<UserTable<B>> {
        Node::root_sharing(self.kernel()).expect("the set-up has frames enough")
    }

    /// The kernel's table, built when first asked for unless the kernel runs on one. It outlives
    /// the race.
    #[track_caller]
    pub fn kernel(&mut self) -> &Permanent<KernelTable<B>> {
        if let Some(kernel) = self.running {
            return kernel;
        }
        let (backend, boot) = (&self.backend, &self.boot);
        self.kernel.get_or_insert_with(|| {
            let root = Node::allocate(backend, <B::Geometry as Geometry>::ROOT);
            let root = root.expect("the set-up has frames enough");
            Permanent::new(root, &boot.read_side()).expect("the set-up has frames enough")
        })
    }

    /// A user table with these pages mapped, by number, each to a frame with these contents. No CPU
    /// can run on it.
    #[track_caller]
    pub fn table(&self, pages: &[(u8, u8)]) -> Table<B> {
        let root = self.user_root();
        self.map_all(&root, pages, PageFlags::empty());
        Table::new(root)
    }

    /// As [`table`](Self::table), in an address space that CPUs can run on.
    #[track_caller]
    pub fn space(&self, pages: &[(u8, u8)]) -> Space<B> {
        let space = self.user_space();
        self.map_all(&space, pages, PageFlags::empty());
        Table::new(space)
    }

    /// As [`space`](Self::space), with pages that were written before: hardware may keep their
    /// translations without noting anything.
    #[track_caller]
    pub fn used_space(&self, pages: &[(u8, u8)]) -> Space<B> {
        let space = self.user_space();
        self.map_all(&space, pages, PageFlags::NOTED);
        Table::new(space)
    }

    #[track_caller]
    fn map_all(&self, root: &Node<UserTable<B>>, pages: &[(u8, u8)], noted: PageFlags) {
        for &(number, contents) in pages {
            self.map_noted(root, page::<B>(number), contents.into(), noted);
        }
    }

    /// A frame with `contents`.
    #[track_caller]
    pub fn frame(&self, contents: u64) -> Frame<B> {
        let frame = Frame::allocate(&self.backend).expect("the set-up has frames enough");
        self.backend.write_contents(frame.paddr(), contents);
        frame
    }

    /// Maps a page, by number, of a frame with `contents` that the race goes on owning.
    #[track_caller]
    pub fn lend<R: Borrow<Node<UserTable<B>>>>(
        &self,
        table: &Table<B, R>,
        number: u8,
        contents: u64,
        flags: PageFlags,
    ) -> Frame<B> {
        let frame = self.frame(contents);
        let item = lent_item(&self.backend, frame.paddr(), flags);
        self.map_item(table.root.borrow(), page::<B>(number), item);
        frame
    }

    /// A page of `level` that begins at `frame`, far from all frames.
    #[track_caller]
    pub fn untracked(&self, frame: Paddr, level: u8, property: Property) -> MappedItem<B> {
        let memory = self.backend.untracked_memory();
        let page = memory.page(frame, Level::new(level), property);
        MappedItem::Untracked(page.expect("the page is far from all frames"))
    }

    /// Maps a fresh frame with `contents` at `vaddr`, growing what is missing.
    #[track_caller]
    pub fn map(&self, root: &Node<UserTable<B>>, vaddr: Vaddr, contents: u64) {
        self.map_noted(root, vaddr, contents, PageFlags::empty());
    }

    #[track_caller]
    fn map_noted(&self, root: &Node<UserTable<B>>, vaddr: Vaddr, contents: u64, noted: PageFlags) {
        let item = MappedItem::Tracked {
            frame: self.frame(contents),
            property: Property::new(PageFlags::WRITE | PageFlags::USER | noted),
        };
        self.map_item(root, vaddr, item);
    }

    #[track_caller]
    fn map_item(&self, root: &Node<UserTable<B>>, vaddr: Vaddr, item: MappedItem<B>) {
        let section = self.section();
        let mut leaf = lock_covering(root.borrow(&section), vaddr, Level::LEAF)
            .expect("the set-up has frames enough");
        let index = B::Geometry::index(vaddr, Level::LEAF);
        let mut entry = leaf.entry(index).expect("the geometry's indices are in range");
        entry.replace(Child::Item(item)).expect("a page fits a leaf");
    }
}

/// Makes address spaces of users, in the middle of a race.
#[derive(Debug)]
pub struct Blank<B: World> {
    running: Option<&'static Permanent<KernelTable<B>>>,
}

impl<B: World> Blank<B> {
    /// An empty one, which CPUs can run on.
    ///
    /// # Panics
    ///
    /// If the calling CPU has not two frames left.
    #[track_caller]
    pub fn space(&self, backend: &B) -> AddressSpace<UserTable<B>> {
        let space = match self.running {
            Some(kernel) => AddressSpace::sharing(kernel),
            None => AddressSpace::allocate(backend),
        };
        space.expect("there are frames enough")
    }
}

/// Something that the set-up gives to one CPU, which takes it once.
///
/// A role only borrows the race, so this is how it comes to own something. It carries nothing
/// from one CPU to another: the CPU that takes it is the only one that ever looks.
#[derive(Debug)]
pub struct Parcel<T> {
    contents: Mutex<Option<T>>,
}

impl<T> Parcel<T> {
    /// A parcel to be taken.
    pub const fn new(contents: T) -> Self {
        Self { contents: Mutex::new(Some(contents)) }
    }

    /// Takes the contents.
    ///
    /// # Panics
    ///
    /// If they were taken before.
    pub fn take(&self) -> T {
        self.contents.lock().take().expect("a parcel is taken once")
    }
}

/// Follows present entries to the leaf for `vaddr`, without locks, inside the section that `root`
/// is borrowed for. Gives the leaf's entry, or the absence that ended the walk.
#[track_caller]
pub fn walk_to_leaf<C: Config>(root: NodeRef<'_, C>, vaddr: Vaddr) -> ChildRef<'_, C> {
    let mut node = root;
    loop {
        match node.walk(<C::Backend as Backend>::Geometry::index(vaddr, node.level())) {
            ChildRef::Node(child) => node = child,
            end => return end,
        }
    }
}
