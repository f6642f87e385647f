//! Boots the kernel under QEMU, watches it, and says how it went.
//!
//! Every scenario gets a machine of its own: a failure stops the machine, and what the others say
//! is not lost. The kernel speaks in the lines of [`protocol`], a package that both ends depend
//! on.
//!
//! * [`image`]: builds the kernel with cargo; a test reads its machine code;
//! * [`host`]: which QEMU there is, and which accelerator fits;
//! * [`machine`]: one run of QEMU, with a deadline and a question where each processor is;
//!   `orphan`: QEMU does not outlive us;
//! * [`verdict`]: what the run means. A pass needs four things that agree: the announced number,
//!   the line of the scenario, the closing line, the exit status;
//! * [`walker`]: the core's walk of a table beside that of QEMU's monitor;
//! * [`models`]: what machines saw beside what the model checkers allow;
//! * [`symbols`]: names for addresses;
//! * [`summary`], [`documents`], [`table`], `page`: everything put together, and written down.

mod control;
pub mod documents;
pub mod host;
pub mod image;
pub mod machine;
pub mod models;
#[expect(unsafe_code, reason = "what a child does before it becomes QEMU")]
mod orphan;
mod page;
pub mod summary;
pub mod symbols;
pub mod table;
pub mod verdict;
pub mod walker;

pub use weft_protocol as protocol;
