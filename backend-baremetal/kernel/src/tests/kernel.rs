//! What a test of the kernel gets.

use crate::services::metal::MetalMachine;
use crate::services::space::Space;

/// The kernel, as its tests see it.
pub(crate) struct Kernel {
    /// What the core runs on.
    pub(crate) machine: MetalMachine,
    /// The kernel's address space.
    pub(crate) space: &'static Space,
    /// The seed of everything random.
    pub(crate) seed: u64,
}
