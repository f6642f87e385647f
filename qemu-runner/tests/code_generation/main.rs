//! On metal the facade vanishes: read from the machine code, of the kernel that boots and of a
//! release build.
//!
//! *The kernel*, as `just qemu` builds and boots it, has functions called `probe_*` for this
//! (`backend-baremetal/kernel/src/tests/probes.rs`). Its words are watched and can be sabotaged;
//! that must cost those nothing who find a lock free.
//!
//! *A library* of the functions in `backend-baremetal/codegen/functions.rs`, called `weft_*`, is
//! compiled as `cargo build --release` does, without link-time optimisation: the sites are
//! constants and everything on these paths can be inlined across crates, so a kernel need not ask
//! for it.
//!
//! Each function is followed along its uncontended paths, see [`machine_code`], and what is met
//! there is compared with a promise. Loads that compute an address (the handle, the parts, the
//! base) are allowed for by a maximum. The `control_*` functions of both break one promise each,
//! and must be reported for it.

mod machine_code;

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use iced_x86::Mnemonic;
use weft_qemu_runner::image;

use crate::machine_code::{Image, Trace};

/// What a function promises about its paths.
struct Promise {
    /// Whether data decides between several paths.
    branches: bool,
    locked: &'static [Mnemonic],
    stores: usize,
    loads_max: usize,
}

impl Promise {
    /// Sentences on what is not as promised, on any path.
    fn violations(&self, paths: &[Trace]) -> Vec<String> {
        let mut violations = Vec::new();
        let mut demand = |holds: bool, sentence: String| {
            if !holds {
                violations.push(sentence);
            }
        };
        let Self { branches, locked, stores, loads_max } = self;
        demand(*branches || paths.len() == 1, format!("{} paths, not one", paths.len()));
        for path in paths {
            demand(path.locked == *locked, format!("locked {:?}, not {locked:?}", path.locked));
            demand(path.stores == *stores, format!("{} stores, not {stores}", path.stores));
            demand(path.loads <= *loads_max, format!("{} loads, over {loads_max}", path.loads));
            demand(path.calls == 0, format!("{} calls", path.calls));
            demand(path.fences == 0, format!("{} fences", path.fences));
            demand(!path.endless, "a loop".to_owned());
        }
        violations
    }
}

/// The kernel's image, built once.
fn kernel() -> &'static Image {
    static KERNEL: OnceLock<Image> = OnceLock::new();
    KERNEL.get_or_init(|| Image::read(&image::build().unwrap_or_else(|why| panic!("{why}"))))
}

/// The library, built once.
fn library() -> &'static Image {
    static LIBRARY: OnceLock<Image> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("code-generation");
        let output = Command::new(env!("CARGO"))
            .args(["rustc", "--release", "--offline", "--package", "weft-backend-baremetal"])
            .args(["--example", "codegen"])
            .arg("--target-dir")
            .arg(&directory)
            .args(["--", "-Ccodegen-units=1"])
            .current_dir(image::workspace().expect("tests run in the workspace"))
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .output()
            .expect("cargo starts");
        let messages = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the functions do not compile:\n{messages}");
        let name = format!("{DLL_PREFIX}codegen{DLL_SUFFIX}");
        Image::read(&directory.join("release/examples").join(name))
    })
}

#[track_caller]
fn keeps(image: &Image, function: &str, promise: &Promise) -> Vec<Trace> {
    let paths = image.follow(function);
    let violations = promise.violations(&paths);
    let said: String = paths.iter().map(Trace::to_string).collect();
    println!("{function}: {said}");
    assert!(violations.is_empty(), "{function}: {}\n{said}", violations.join("; "));
    paths
}

#[track_caller]
fn breaks(image: &Image, function: &str, promise: &Promise, expected: &str) {
    let violations = promise.violations(&image.follow(function));
    assert!(
        violations.iter().any(|violation| violation == expected),
        "{function} is not reported for `{expected}`, but for {violations:?}"
    );
}

const EXCHANGE: &[Mnemonic] = &[Mnemonic::Cmpxchg];
/// The way to the lock word leads through the handle, its machine's parts and their base.
const LOCK_AND_UNLOCK: Promise =
    Promise { branches: false, locked: EXCHANGE, stores: 1, loads_max: 6 };
const LOCK: Promise = Promise { branches: false, locked: EXCHANGE, stores: 0, loads_max: 4 };
const UNLOCK: Promise = Promise { branches: false, locked: &[], stores: 1, loads_max: 4 };
const LOAD: Promise = Promise { branches: false, locked: &[], stores: 0, loads_max: 1 };
const LOAD_IN_NODE: Promise = Promise { branches: false, locked: &[], stores: 0, loads_max: 5 };
/// The level is loaded, too. The store is a register's, on the stack, with its load: there is a
/// call in the function, to what refuses a corrupt entry.
const WALK: Promise = Promise { branches: true, locked: &[], stores: 1, loads_max: 7 };

/// A load and a return, and no more.
#[track_caller]
fn is_one_load(image: &Image, function: &str) {
    for path in keeps(image, function, &LOAD) {
        let mnemonics: Vec<_> = path.instructions.iter().map(|it| it.mnemonic()).collect();
        assert_eq!(mnemonics, [Mnemonic::Mov, Mnemonic::Ret], "{function} is more than a load");
    }
}

#[test]
fn the_kernel_locks_with_one_locked_instruction_and_unlocks_with_one_store() {
    keeps(kernel(), "probe_lock", &LOCK);
    keeps(kernel(), "probe_unlock", &UNLOCK);
    keeps(kernel(), "probe_lock_unlock", &LOCK_AND_UNLOCK);
    keeps(kernel(), "probe_try_lock_unlock", &LOCK_AND_UNLOCK);
}

#[test]
fn the_kernel_loads_an_entry_with_one_load() {
    is_one_load(kernel(), "probe_entry_load");
    keeps(kernel(), "probe_guard_read", &LOAD_IN_NODE);
}

/// What the probes are made of is inlined everywhere else, too: there is nothing to call.
#[test]
fn the_kernel_has_no_functions_for_locks_and_words() {
    let functions = kernel().functions();
    assert!(functions.iter().any(|name| name == "probe_lock"), "functions have names");
    let parts = ["SpinLock", "RawLock", "LockWord", "WatchedWord", "EntryWord", "AtomicWord"];
    let is_part = |name: &&String| parts.iter().any(|part| name.contains(part));
    let calls: Vec<_> = functions.iter().filter(is_part).collect();
    assert!(calls.is_empty(), "the kernel has functions of their own for {calls:?}");
}

#[test]
fn a_kernel_that_watches_every_lock_is_noticed() {
    breaks(kernel(), "control_watched_lock", &LOCK_AND_UNLOCK, "1 calls");
}

#[test]
fn a_kernel_that_locks_twice_is_noticed() {
    breaks(
        kernel(),
        "control_lock_twice",
        &LOCK_AND_UNLOCK,
        "locked [Cmpxchg, Cmpxchg], not [Cmpxchg]",
    );
    breaks(kernel(), "control_lock_twice", &LOCK_AND_UNLOCK, "2 stores, not 1");
}

#[test]
fn a_kernel_that_loads_an_entry_twice_is_noticed() {
    breaks(kernel(), "control_load_twice", &LOAD, "2 loads, over 1");
}

#[test]
fn lock_and_unlock_are_one_locked_instruction_and_one_store() {
    keeps(library(), "weft_lock_unlock", &LOCK_AND_UNLOCK);
    keeps(library(), "weft_try_lock_unlock", &LOCK_AND_UNLOCK);
}

#[test]
fn an_entry_load_is_one_load() {
    is_one_load(library(), "weft_entry_load");
}

#[test]
fn reading_a_locked_node_is_address_arithmetic_and_one_load() {
    keeps(library(), "weft_guard_read", &LOAD_IN_NODE);
    keeps(library(), "weft_guard_is_stray", &LOAD_IN_NODE);
}

#[test]
fn a_walk_decodes_the_entry_in_place() {
    keeps(library(), "weft_walk_flags", &WALK);
    let paths = keeps(library(), "weft_walk", &WALK);
    assert!(paths.len() > 2, "nothing, a node and a page are told apart");
}

/// What is not as it should be on the way through a transaction on one page, where its nodes exist.
/// One call is allowed for, of the cursor's destructor. The stores are the cursor itself, on the
/// stack, and registers.
fn transaction_violations(function: &str) -> Vec<String> {
    let path = library().straightest(function);
    println!("{function}: {path}");
    let Trace { locked, calls, stores, .. } = path;
    let mut violations = Vec::new();
    violations.extend((locked != EXCHANGE).then(|| format!("locked {locked:?}")));
    violations.extend((calls > 1).then(|| format!("{calls} calls, over 1")));
    violations.extend((stores > 40).then(|| format!("{stores} stores, over 40")));
    violations
}

#[test]
fn a_page_is_mapped_in_place() {
    let violations = transaction_violations("weft_map_page");
    assert!(violations.is_empty(), "{violations:?}");
}

#[test]
fn a_page_mapped_out_of_line_is_noticed() {
    let violations = transaction_violations("control_map_page_out_of_line");
    assert!(violations.iter().any(|it| it == "2 calls, over 1"), "{violations:?}");
}

#[test]
fn an_unlock_by_swap_is_noticed() {
    breaks(
        library(),
        "control_unlock_by_swap",
        &LOCK_AND_UNLOCK,
        "locked [Cmpxchg, Xchg], not [Cmpxchg]",
    );
    breaks(library(), "control_unlock_by_swap", &LOCK_AND_UNLOCK, "0 stores, not 1");
}

#[test]
fn a_second_exchange_is_noticed() {
    breaks(
        library(),
        "control_two_exchanges",
        &LOCK_AND_UNLOCK,
        "locked [Cmpxchg, Cmpxchg], not [Cmpxchg]",
    );
}

#[test]
fn a_call_is_noticed() {
    breaks(library(), "control_call", &LOCK_AND_UNLOCK, "1 calls");
}

#[test]
fn a_call_behind_a_branch_is_noticed() {
    breaks(library(), "control_call_on_one_path", &WALK, "1 calls");
}

#[test]
fn a_fence_is_noticed() {
    // Where `mfence` is slower, the compiler writes a locked instruction on the stack instead.
    breaks(library(), "control_fence", &LOCK_AND_UNLOCK, "locked [Cmpxchg, Or], not [Cmpxchg]");
}

#[test]
fn a_second_load_is_noticed() {
    breaks(library(), "control_load_twice", &LOAD, "2 loads, over 1");
}
