//! The template of `new-scenario` is a race that works: it gets the tests of any scenario file.

#[path = "../skeleton/writer_vs_reader.rs"]
mod writer_vs_reader;

use writer_vs_reader::accept;

weft_backend_loom::tests!();
