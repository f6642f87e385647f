//! A node whose children are taken out while CPUs look at them: what races of grace periods share.
//! A grace period ends too early where a CPU still looks at a child that has been freed.

use core::fmt;

use weft_core::entry::ChildRef;
use weft_core::node::Node;

use crate::scenario::Cpu;
use crate::tables::UserTable;
use crate::world::{Machine, World};

/// A node with empty nodes below it.
pub struct Parent<B: World> {
    node: Node<UserTable<B>>,
    children: usize,
}

impl<B: World> fmt::Debug for Parent<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parent").field("children", &self.children).finish_non_exhaustive()
    }
}

impl<B: World> Parent<B> {
    /// A node with so many children, in its first entries.
    #[track_caller]
    pub fn new(machine: &Machine<B>, children: usize) -> Self {
        let node = machine.node(2);
        let section = machine.section();
        let mut guard = node.borrow(&section).lock();
        for index in 0..children {
            let mut entry = guard.entry(index).expect("a node has an entry for each child");
            drop(entry.allocate_if_absent().expect("the set-up has frames enough"));
        }
        drop(guard);
        drop(section);
        Self { node, children }
    }

    /// Detaches a child, retires it, and announces a quiescent state.
    #[track_caller]
    pub fn detach(&self, cpu: &mut Cpu<B>, index: usize) {
        let section = cpu.read_side();
        let mut guard = self.node.borrow(&section).lock();
        let mut entry = guard.entry(index).expect("a node has an entry for each child");
        entry.detach().expect("the entry is managed").retire();
        drop(guard);
        drop(section);
        cpu.quiescent();
    }

    /// Looks at the children that are there, in one section, and announces a quiescent state. Says
    /// how many there are.
    #[track_caller]
    pub fn look(&self, cpu: &mut Cpu<B>) -> usize {
        let section = cpu.read_side();
        let parent = self.node.borrow(&section);
        let is_there = |index: &usize| match parent.walk(*index) {
            ChildRef::Node(child) => matches!(child.walk(0), ChildRef::Absent),
            _ => false,
        };
        let found = (0..self.children).filter(is_there).count();
        drop(section);
        cpu.quiescent();
        found
    }
}
