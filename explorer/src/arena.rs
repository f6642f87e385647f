//! Memory whose addresses are the same in every run.
//!
//! Code keeps pointers in atomics and compares them, so an address is a value that executions are
//! made of. The allocator of the system does not give the same ones again. [`Arena`] does: within a
//! program that is explored with `Options::arena`, each thread gets its memory from a part of its
//! own, from the beginning in every run, and nothing that is freed is given out again in the same
//! run. So an address means one object, and the `k`-th allocation of a thread has the same one in
//! every run. Everywhere else the arena is the system's allocator.
//!
//! What is freed is overwritten, and remembered with the place: freeing it again, or using one of
//! the program's tracked objects in it ([`Arena::check`]), is a failure. Freeing counts as a write:
//! a use that is not ordered with it is a failure too, whichever of them the run does first. So is
//! an object that has to be freed ([`Arena::owes`]) and is not when an execution is complete.
//!
//! The memory ends with the run: threads that have not ended are forgotten with their stacks, and
//! their destructors do not run. Code of the engine that is called by a thread gets memory of the
//! system ([`outside`]), because what it keeps outlives the run.
//!
//! What a run has not freed and the host refers to is *pinned*: a set of outcomes has grown (see
//! `host`). Further runs leave it alone, and put what they allocate behind it, as the run did that
//! has allocated it. What a program leaks is not pinned, and has the same address in every run.
//!
//! Why this is sound: a block lies within its part, and no two overlap, because each begins behind
//! the end of the one before. The memory stays until the exploration has ended. Between two runs no
//! code of the program runs, and only what the program keeps outside of itself, in a static of the
//! standard library, could still refer to a block that is not pinned; the crate's documentation
//! forbids that.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::coroutines::current;
use crate::engine::{is_installed, perform, with};
use crate::event::THREADS_MAX;
use crate::host;
use crate::inert::is_inert;
use crate::report::{FailureKind, SourcePlace};

/// The memory of one thread. The system gives it page by page.
const PART: usize = 32 << 20;
/// Bytes between two blocks, overwritten in none of them.
const GAP: usize = 16;
/// What freed memory is overwritten with.
const POISON: u8 = 0xdd;

/// An allocator whose addresses are the same in every run of a program that is explored with
/// `Options::arena`:
///
/// ```
/// use weft_explorer::{Arena, Options, explore};
///
/// #[global_allocator]
/// static ARENA: Arena = Arena;
///
/// # fn main() {
/// explore(&Options { arena: true, ..Options::default() }, || drop(Box::new(1)));
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Arena;

/// A point of a thread: behind its last operation.
#[derive(Clone, Copy, Debug)]
struct Spot {
    thread: usize,
    behind: Option<&'static Location<'static>>,
}

impl Spot {
    fn here() -> Spot {
        let thread = current();
        let behind = || with(|engine| engine.last_place(thread));
        Spot { thread, behind: is_installed().then(behind).flatten() }
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "by thread {}", self.thread)?;
        match self.behind {
            Some(at) => write!(formatter, " behind {}:{}", at.file(), at.line()),
            None => write!(formatter, " before its first operation"),
        }
    }
}

/// For each thread behind how many of its events it has used a block last, and where.
type Uses = [Option<(u16, &'static Location<'static>)>; THREADS_MAX];

/// A use that does not happen before what the calling thread does now.
fn unordered(uses: &Uses) -> Option<(usize, &'static Location<'static>)> {
    if !is_installed() {
        return None;
    }
    let known = with(|engine| engine.known_here());
    let is_known = |thread: usize, epoch: u16| thread == current() || epoch < known.0[thread];
    uses.iter().enumerate().find_map(|(thread, last)| {
        last.filter(|(epoch, _)| !is_known(thread, *epoch)).map(|(_, at)| (thread, at))
    })
}

/// A piece of memory that was given out.
#[derive(Clone, Copy, Debug)]
struct Block {
    start: usize,
    size: usize,
    made: Spot,
    freed: Option<Spot>,
    /// Where the object in it was made, if it has to be freed.
    owner: Option<&'static Location<'static>>,
    uses: Uses,
}

#[derive(Debug, Default)]
struct Part {
    used: usize,
    /// By address.
    blocks: Vec<Block>,
    /// What earlier runs have left, by address.
    pinned: Vec<Pin>,
}

/// Memory that is perhaps still used: from here to there.
type Pin = Range<usize>;

impl Part {
    /// Where a block goes that would begin at `first` or behind.
    fn place(&self, mut first: usize, layout: Layout) -> usize {
        let next = self.pinned.partition_point(|pin| pin.end <= first);
        for pin in &self.pinned[next..] {
            if first + layout.size() + GAP <= pin.start {
                break;
            }
            first = pin.end.next_multiple_of(layout.align());
        }
        first
    }

    /// Leaves a block alone.
    fn pin(&mut self, block: Pin) {
        let index = self.pinned.partition_point(|pin| pin.end + GAP < block.start);
        match self.pinned.get_mut(index) {
            // Ranges that touch, or nearly so, are one.
            Some(pin) if pin.start <= block.end + GAP => {
                *pin = pin.start.min(block.start)..pin.end.max(block.end);
            }
            _ => self.pinned.insert(index, block),
        }
    }
}

/// The memory of an exploration.
struct Region {
    start: usize,
    parts: [Part; THREADS_MAX],
    fault: Option<String>,
    /// What is kept for the whole execution.
    roots: Vec<usize>,
}

thread_local! {
    static REGION: Cell<Option<NonNull<Region>>> = const { Cell::new(None) };
    /// Code of a program runs.
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
}

/// The memory that explorations of this process use, one each, or have used: it is never given
/// back, so that what is freed too late, or by another thread of the system, is known for what it
/// is.
static REGIONS: [Slot; REGIONS_MAX] = [const { Slot::new() }; REGIONS_MAX];
const REGIONS_MAX: usize = 64;

/// Held from where a slot is chosen to where it has memory: so those that have memory come before
/// those that have none, which [`is_ours`] stops at.
static CHOOSING: Mutex<()> = Mutex::new(());

struct Slot {
    is_used: AtomicBool,
    start: AtomicUsize,
    /// What explorations have left in it.
    pinned: Mutex<[Vec<Pin>; THREADS_MAX]>,
}

impl Slot {
    const fn new() -> Slot {
        Slot {
            is_used: AtomicBool::new(false),
            start: AtomicUsize::new(0),
            pinned: Mutex::new([const { Vec::new() }; THREADS_MAX]),
        }
    }
}

const SIZE: usize = PART * THREADS_MAX;

/// Whether an address belongs to the memory of any exploration.
fn is_ours(address: usize) -> bool {
    for slot in &REGIONS {
        match slot.start.load(Ordering::Acquire) {
            0 => return false,
            start if (start..start + SIZE).contains(&address) => return true,
            _ => {}
        }
    }
    false
}

/// Calls code of a program, whose memory is the region's.
pub(crate) fn inside<R>(code: impl FnOnce() -> R) -> R {
    ACTIVE.set(REGION.get().is_some());
    let result = code();
    ACTIVE.set(false);
    result
}

/// Calls code of the engine, whose memory is the system's.
pub(crate) fn outside<R>(code: impl FnOnce() -> R) -> R {
    let before = ACTIVE.replace(false);
    let result = code();
    ACTIVE.set(before);
    result
}

/// Whether the program that this thread explores has memory of its own, which ends with the run.
pub(crate) fn is_in_force() -> bool {
    REGION.get().is_some()
}

fn with_region<R>(action: impl FnOnce(&mut Region) -> R) -> Option<R> {
    let mut region = REGION.get()?;
    // SAFETY: `Installed` clears the cell before it drops the region; the reference that is made
    // here ends with `action`, which runs no code of the program and does not come here again.
    outside(|| Some(action(unsafe { region.as_mut() })))
}

/// The region of an exploration, in force until it is dropped.
pub(crate) struct Installed(usize);

impl Installed {
    /// # Errors
    /// A sentence that says what to do.
    pub(crate) fn new() -> Result<Installed, &'static str> {
        let choosing = CHOOSING.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = |slot: &&Slot| !slot.is_used.swap(true, Ordering::Relaxed);
        let Some(index) = REGIONS.iter().position(|slot| is_free(&slot)) else {
            return Err("more explorations at a time have arenas than there are: explore fewer");
        };
        let start = &REGIONS[index].start;
        if start.load(Ordering::Relaxed) == 0 {
            let layout = Layout::from_size_align(SIZE, 4096).expect("a constant that is a layout");
            // SAFETY: the size is not zero.
            let memory = unsafe { System.alloc(layout) };
            if memory.is_null() {
                REGIONS[index].is_used.store(false, Ordering::Relaxed);
                return Err("there is no memory for an arena: explore fewer programs at a time");
            }
            start.store(memory.addr(), Ordering::Release);
            memory.expose_provenance();
        }
        drop(choosing);
        let start = start.load(Ordering::Relaxed);
        let mut parts: [Part; THREADS_MAX] = Default::default();
        let mut pinned = REGIONS[index].pinned.lock().unwrap_or_else(PoisonError::into_inner);
        for (part, pinned) in parts.iter_mut().zip(pinned.iter_mut()) {
            part.pinned = std::mem::take(pinned);
        }
        drop(pinned);
        let region = Box::new(Region { start, parts, fault: None, roots: Vec::new() });
        REGION.set(Some(NonNull::from(Box::leak(region))));
        let installed = Installed(index);
        let probe = inside(|| Box::new(0_u8));
        let is_allocator = is_ours(std::ptr::from_ref(&*probe).addr());
        drop(probe);
        if is_allocator {
            Ok(installed)
        } else {
            Err("Options::arena needs the arena as the \
            program's allocator: declare `#[global_allocator] static ARENA: Arena = Arena;`")
        }
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        if let Some(region) = REGION.take() {
            // SAFETY: `new` has leaked the box, and nothing else refers to it any more.
            let mut region = unsafe { Box::from_raw(region.as_ptr()) };
            region.settle();
            let slot = &REGIONS[self.0].pinned;
            let mut pinned = slot.lock().unwrap_or_else(PoisonError::into_inner);
            for (slot, part) in pinned.iter_mut().zip(region.parts) {
                *slot = part.pinned;
            }
        }
        REGIONS[self.0].is_used.store(false, Ordering::Relaxed);
    }
}

impl Region {
    fn block(&mut self, address: usize) -> Option<&mut Block> {
        let offset = address.checked_sub(self.start)?;
        let blocks = &mut self.parts.get_mut(offset / PART)?.blocks;
        let index = blocks.partition_point(|block| block.start <= address).checked_sub(1)?;
        let block = &mut blocks[index];
        (address < block.start + block.size.max(1)).then_some(block)
    }

    /// Where the blocks begin that these addresses lead to.
    fn led_to(&mut self, mut open: Vec<usize>) -> BTreeSet<usize> {
        let mut kept = BTreeSet::new();
        while let Some(address) = open.pop() {
            let Some(block) = self.block(address).filter(|block| block.freed.is_none()) else {
                continue;
            };
            let (start, size) = (block.start, block.size);
            if kept.insert(start) {
                open.extend(words_in(start, size));
            }
        }
        kept
    }

    /// Pins what the host refers to.
    fn settle(&mut self) {
        let left = |part: &Part| part.blocks.iter().any(|block| block.freed.is_none());
        if !self.parts.iter().any(left) {
            return;
        }
        let mut open = Vec::new();
        let ours = self.start..self.start + SIZE;
        let mut look = |start: usize, size: usize| {
            open.extend(words_in(start, size).filter(|word| ours.contains(word)));
        };
        host::for_each(&mut look);
        for pin in self.parts.iter().flat_map(|part| &part.pinned) {
            look(pin.start, pin.len());
        }
        for start in self.led_to(open) {
            if let Some(Block { start, size, .. }) = self.block(start).copied() {
                self.parts[(start - self.start) / PART].pin(start..start + size + GAP);
            }
        }
    }

    /// Memory for the calling thread, or 0.
    fn give(&mut self, layout: Layout) -> usize {
        let thread = current();
        let start = self.start + thread * PART;
        let part = &mut self.parts[thread];
        let first = (start + part.used).next_multiple_of(layout.align());
        let first = part.place(first, layout);
        let used = first - start + layout.size() + GAP;
        if used > PART {
            self.fault.get_or_insert_with(|| {
                format!(
                    "the arena of thread {thread} has run out: a thread may allocate {} MiB in an \
                     execution, so give it less to do",
                    PART >> 20
                )
            });
            return 0;
        }
        part.used = used;
        let (made, size) = (Spot::here(), layout.size());
        let (freed, owner, uses) = (None, None, [None; THREADS_MAX]);
        part.blocks.push(Block { start: first, size, made, freed, owner, uses });
        first
    }

    /// Takes a block back; returns how much of it is to be overwritten.
    fn take(&mut self, address: usize) -> usize {
        let here = Spot::here();
        let Some(block) = self.block(address).filter(|block| block.start == address) else {
            return 0;
        };
        let (size, made, uses) = (block.size, block.made, block.uses);
        if let Some(before) = block.freed.replace(here) {
            self.fault.get_or_insert_with(|| {
                format!(
                    "freed twice: {size} bytes that were allocated {made} were freed {before}, and \
                     again {here}"
                )
            });
            return 0;
        }
        if let Some((user, at)) = unordered(&uses) {
            self.fault.get_or_insert_with(|| {
                format!(
                    "freed in use: {size} bytes that were allocated {made} are freed {here}, \
                     unordered with their use by thread {user} at {}:{}",
                    at.file(),
                    at.line()
                )
            });
        }
        size
    }
}

/// The words of a block, of the region or of the host.
fn words_in(start: usize, size: usize) -> impl Iterator<Item = usize> {
    let words = start.next_multiple_of(8)..(start + size).saturating_sub(7);
    words.step_by(8).map(|address| {
        // SAFETY: the block is mapped: the region is, and `host` gives nothing back meanwhile. Any
        // bits are an integer, and an old or a torn one leads nowhere.
        unsafe { std::ptr::with_exposed_provenance::<usize>(address).read_volatile() }
    })
}

/// Forgets what the last run has allocated.
pub(crate) fn reset() {
    with_region(|region| {
        region.settle();
        for part in &mut region.parts {
            part.used = 0;
            part.blocks.clear();
        }
        region.fault = None;
        region.roots.clear();
    });
}

/// What the program has done wrong with its memory.
pub(crate) fn take_fault() -> Option<String> {
    with_region(|region| region.fault.take()).flatten()
}

/// What a complete execution has not freed although it had to.
pub(crate) fn leak() -> Option<(String, &'static Location<'static>)> {
    let owed = |block: &&Block| block.freed.is_none() && block.owner.is_some();
    with_region(|region| {
        let kept = region.led_to(region.roots.clone());
        let mut blocks = region.parts.iter().flat_map(|part| &part.blocks).filter(owed);
        let block = blocks.find(|block| !kept.contains(&block.start))?;
        let at = block.owner?;
        let (file, line) = (at.file(), at.line());
        Some((format!("leak: what was made at {file}:{line} {} is never freed", block.made), at))
    })
    .flatten()
}

/// What has become of memory that was freed in this run.
pub(crate) fn freed(address: usize) -> Option<String> {
    with_region(|region| {
        let block = region.block(address)?;
        let (made, freed) = (block.made, block.freed?);
        Some(format!("memory that was allocated {made} and freed {freed}"))
    })
    .flatten()
}

/// A block that is kept for the whole execution, with all that it leads to.
pub(crate) fn keep(address: usize) {
    with_region(|region| region.roots.push(address));
}

impl Arena {
    /// To be called when a tracked object is used: fails if its memory was freed, and lets it fail
    /// later to free the memory without being ordered with this use. `what` names the object.
    ///
    /// The engine sees no reference counts of the standard library: they order nothing, so memory
    /// that the last `std::sync::Arc` frees is freed unordered with uses by other threads that were
    /// not joined. Do not check what such a count keeps alive.
    #[track_caller]
    pub fn check<T: ?Sized>(what: &str, object: *const T) {
        let (address, at) = (object.cast::<u8>().addr(), Location::caller());
        if is_inert() || REGION.get().is_none() {
            return;
        }
        let (thread, epoch) = (current(), with(|engine| engine.run.next[current()] as u16));
        let used = |region: &mut Region| {
            let block = region.block(address)?;
            block.uses[thread] = Some((epoch, at));
            block.freed.map(|freed| (block.made, freed))
        };
        let Some((made, freed)) = with_region(used).flatten() else { return };
        perform::<()>(|engine| {
            let (file, line) = (at.file(), at.line());
            let message = format!(
                "use after free: {what} at {file}:{line} is in memory that was allocated {made} \
                 and freed {freed}"
            );
            Err(engine.fail(FailureKind::Violation, message, Some(SourcePlace::of(at))))
        });
    }

    /// The object was made here, and its memory has to be freed before the execution is complete.
    #[track_caller]
    pub fn owes<T: ?Sized>(object: *const T) {
        let (address, at) = (object.cast::<u8>().addr(), Location::caller());
        with_region(|region| {
            if let Some(block) = region.block(address) {
                block.owner = Some(at);
            }
        });
    }
}

// SAFETY: memory is the system's, or a block of the region: see the header. Nothing here unwinds:
// what is wrong is noted, and reported when the run is over.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if ACTIVE.get() {
            let given = with_region(|region| region.give(layout)).unwrap_or(0);
            if given != 0 {
                return std::ptr::with_exposed_provenance_mut(given);
            }
        }
        if REGION.get().is_some() {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc(layout) };
        }
        // What is left of a graph in new memory of the host would lead to blocks of programs.
        // SAFETY: the caller's promise.
        let given = unsafe { System.alloc_zeroed(layout) };
        if !given.is_null() {
            host::note(given.addr(), layout.size());
        }
        given
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if !is_ours(pointer.addr()) {
            host::forget(pointer.addr());
            // SAFETY: the caller's promise; the system has given it out, because no region has.
            return unsafe { System.dealloc(pointer, layout) };
        }
        // Between runs, and from elsewhere, there is nothing to note.
        if ACTIVE.get() {
            let size = with_region(|region| region.take(pointer.addr())).unwrap_or(0);
            // SAFETY: the block was given out, and was not freed before.
            unsafe { pointer.write_bytes(POISON, size) };
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !is_ours(pointer.addr()) {
            let of_host = host::forget(pointer.addr());
            // SAFETY: the caller's promise; the system has given it out, because no region has.
            let moved = unsafe { System.realloc(pointer, layout, size) };
            if let Some(before) = of_host {
                let is_moved = !moved.is_null();
                let (now, size) = if is_moved { (moved, size) } else { (pointer, before) };
                // SAFETY: the block has `size` bytes now.
                let grown = unsafe { now.add(before.min(size)) };
                // SAFETY: those behind the first `before` are new; see `alloc`.
                unsafe { grown.write_bytes(0, size.saturating_sub(before)) };
                host::note(now.addr(), size);
            }
            return moved;
        }
        // SAFETY: the caller's promise: the size is not zero, and does not overflow when aligned.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the same.
        let moved = unsafe { self.alloc(new) };
        if !moved.is_null() {
            // SAFETY: two blocks do not overlap, and both have this many bytes.
            unsafe { pointer.copy_to_nonoverlapping(moved, size.min(layout.size())) };
            // SAFETY: the caller's promise.
            unsafe { self.dealloc(pointer, layout) };
        }
        moved
    }
}
