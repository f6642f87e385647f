//! Self-test: the kernel changes its own table, and nobody goes on with what was there.
//!
//! The kernel's translations are global: they outlive a change of CR3, and every processor has
//! them, whatever root it runs on. So what a cursor takes out of the kernel's table has to be
//! flushed in another way, and everywhere. Each step here changes pages on one processor and looks
//! from all; `sabotage=no-shootdown` shows that the look would tell.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use weft_core::address::{CpuId, FRAME_SIZE, Vaddr};
use weft_core::format::PageFlags;

use super::flushing::{self, fresh, read_only};
use super::kernel::Kernel;
use crate::machine::waiting::Rendezvous;
use crate::machine::{cpu, trap};
use crate::services::space::{self, KernelCursor, WINDOWS};
use crate::services::{metal, smp};

/// How many pages there are: more than are flushed one by one.
const PAGES: u64 = 40;

fn address(page: u64) -> u64 {
    WINDOWS + page * FRAME_SIZE
}

/// Whether the calling processor reads the contents of a page, and whether it may write them.
fn look(page: u64) -> (bool, bool) {
    let read = trap::try_read(address(page)) == Ok(page);
    // SAFETY: what is mapped there is this test's, and the word stays as it is.
    let written = unsafe { trap::try_write(address(page), page) };
    (read, written.is_ok())
}

/// The kernel changes its own table: pages come, are protected, and go; nobody goes on with what
/// was there, although the translations are global.
pub(crate) fn pages_of_the_kernel_come_and_go(kernel: &Kernel) {
    let (machine, frames) = (kernel.machine, kernel.machine.region().live());
    let (meeting, stale) = (Rendezvous::new(cpu::online()), AtomicU64::new(0));
    let see = |pages: Range<u64>, is_there: bool, may_be_written: bool| {
        let wrong = pages.filter(|&page| look(page) != (is_there, may_be_written)).count();
        stale.fetch_add(wrong as u64, Ordering::AcqRel);
    };
    smp::on_all(&|processor| {
        metal::play(CpuId::new(processor as u32));
        let own = metal::online(&machine, processor);
        // The first processor changes these pages; then all go on.
        let change = |pages: Range<u64>, change: &dyn Fn(&mut KernelCursor<'_>)| {
            meeting.wait();
            if processor == 0 {
                let section = own.read_side();
                let range = address(pages.start)..address(pages.end);
                space::change(space::root_of(kernel.space, &section), range, |cursor| {
                    change(cursor)
                });
            }
            meeting.wait();
        };
        change(0..PAGES, &|cursor| {
            let (start, end) = (cursor.vaddr(), cursor.range().end);
            let number = |vaddr: Vaddr| (vaddr.as_u64() - start.as_u64()) / FRAME_SIZE;
            let flags = space::READ | PageFlags::WRITE;
            let mapped = cursor.map_pages(end, |vaddr| fresh(&machine, flags, number(vaddr)));
            mapped.expect("nobody else uses the windows");
        });
        see(0..PAGES, true, true);
        change(0..1, &|cursor| {
            assert!(cursor.unmap(cursor.range().end) == Ok(1), "a page is not there");
        });
        see(0..1, false, false);
        see(1..PAGES, true, true);
        change(1..PAGES, &|cursor| {
            let protected = cursor.protect(cursor.range().end, read_only);
            assert!(protected == Ok(PAGES - 1), "a page is not there");
        });
        see(1..PAGES, true, false);
        change(0..PAGES, &|cursor| {
            assert!(cursor.unmap(cursor.range().end) == Ok(PAGES - 1), "a page is not there");
        });
        see(0..PAGES, false, false);
        meeting.wait();
        drop(own);
        metal::rest();
    });
    flushing::report(stale.load(Ordering::Acquire));
    let left = machine.region().live();
    assert!(left == frames, "leak: {frames} frames were in use before, {left} after");
}
