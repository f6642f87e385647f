//! Maps a page, asks for it, protects it, and unmaps it, on a machine that is a host.

use std::error::Error;
use std::marker::PhantomData;

use weft_backend_baremetal::{backend::Tables, hosted};
use weft_core::address::{CpuId, FRAME_SIZE, Vaddr};
use weft_core::config::Config;
use weft_core::format::{PageFlags, Property, X86_64};
use weft_core::frame::Frame;
use weft_core::geometry::{FourLevels, Geometry};
use weft_core::item::MappedItem;
use weft_core::{cpu::Cpu, cursor::Cursor, node::Node, sync::Backend};

/// A kind of page table: of x86-64, with pages that may own their frame.
struct User<B>(PhantomData<B>);
impl<B: Backend> Config for User<B> {
    type Backend = B;
    type Item = MappedItem<B>;
    type Format = X86_64;
}
/// All kinds of page tables that there are on the machine.
struct Kinds;
impl Tables for Kinds {
    type On<B: Backend> = (User<B>,);
}
fn main() -> Result<(), Box<dyn Error>> {
    let machine = hosted::start::<FourLevels, Kinds>(64)?;
    hosted::on_cpu(CpuId::new(0), || {
        let cpu = Cpu::online(&machine, CpuId::new(0))?;
        let section = cpu.read_side();
        let root = Node::<User<_>>::allocate(&machine, FourLevels::ROOT)?;
        let page = Vaddr::new(0x7000)..Vaddr::new(0x7000 + FRAME_SIZE);
        // The range is locked for as long as the cursor lives.
        let mut cursor = Cursor::lock(root.borrow(&section), page.clone())?;
        let property = Property::new(PageFlags::USER | PageFlags::WRITE);
        cursor.map(MappedItem::Tracked { frame: Frame::allocate(&machine)?, property })?;
        cursor.jump(page.start)?;
        let found = cursor.query()?.item.ok_or("the page is mapped")?;
        println!("{:?} leads to {:?}", page.start, found.frame);
        cursor.protect(page.end, |_| Property::new(PageFlags::USER))?;
        cursor.jump(page.start)?;
        println!("{} page unmapped", cursor.unmap(page.end)?);
        Ok(())
    })
}
