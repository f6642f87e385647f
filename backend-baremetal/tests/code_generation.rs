//! On metal the facade vanishes: read from the assembly of `codegen/functions.rs`.
//!
//! Each function is followed from its label along the paths that are taken when nobody else is
//! there: a `lock cmpxchg` finds what it expects, so the branch that depends on it is decided. Any
//! other conditional branch is followed both ways, if the promise says that there may be some, and
//! else reported. Paths that end in a panic do not count. On the others instructions are counted:
//! locked ones, calls, fences, and loads and stores of memory. Loads that compute an address (the
//! handle, the parts, the base) are allowed for by a maximum.
//!
//! The `control_*` functions break one promise each, and must be reported for it.
//!
//! The functions are compiled as `cargo build --release` does, without link-time optimisation: the
//! sites are constants and everything on these paths can be inlined across crates, so a kernel
//! need not ask for it.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What was met on a path.
#[derive(Clone, Default)]
struct Trace {
    locked: usize,
    calls: usize,
    fences: usize,
    loads: usize,
    stores: usize,
    /// A branch that nothing decides, where the path was given up.
    undecided: Option<String>,
    instructions: Vec<String>,
}

/// What a function promises about its paths.
struct Promise {
    /// Whether there are branches that the data decides.
    branches: bool,
    locked: usize,
    stores: usize,
    loads_max: usize,
}

impl Trace {
    /// Sentences on what is not as promised.
    fn violations(&self, promise: &Promise) -> Vec<String> {
        let mut violations = Vec::new();
        let mut demand = |holds: bool, sentence: String| {
            if !holds {
                violations.push(sentence);
            }
        };
        let Promise { locked, stores, loads_max, .. } = promise;
        demand(self.locked == *locked, format!("{} locked, not {locked}", self.locked));
        demand(self.stores == *stores, format!("{} stores, not {stores}", self.stores));
        demand(self.loads <= *loads_max, format!("{} loads, over {loads_max}", self.loads));
        demand(self.calls == 0, format!("{} calls", self.calls));
        demand(self.fences == 0, format!("{} fences", self.fences));
        if let Some(branch) = self.undecided.as_ref() {
            demand(false, format!("nothing decides `{branch}`"));
        }
        violations
    }

    /// Counts one instruction that does not change the flow.
    fn count(&mut self, mnemonic: &str, operands: &str) {
        let operands = split_operands(operands);
        let is_memory = |operand: &&str| operand.contains('(');
        let (target, sources) =
            operands.split_last().map_or((None, &[][..]), |(t, s)| (Some(t), s));
        let reads = sources.iter().any(is_memory);
        let writes = target.is_some_and(is_memory);
        match mnemonic {
            "lock" => self.locked += 1,
            "mfence" | "lfence" | "sfence" => self.fences += 1,
            _ if mnemonic.starts_with("xchg") && (reads || writes) => self.locked += 1,
            _ if mnemonic.starts_with("lea") || mnemonic.starts_with("nop") => {}
            _ if mnemonic.starts_with("push") => self.stores += 1,
            _ if mnemonic.starts_with("pop") => self.loads += 1,
            _ => {
                let only_reads = ["cmp", "test"].iter().any(|name| mnemonic.starts_with(name));
                let only_writes = ["mov", "set"].iter().any(|name| mnemonic.starts_with(name));
                self.loads += usize::from(reads || writes && !only_writes);
                self.stores += usize::from(writes && !only_reads);
            }
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { locked, calls, fences, loads, stores, .. } = self;
        writeln!(
            f,
            "{} instructions: {locked} locked, {stores} stores, {loads} loads, {calls} calls, \
             {fences} fences",
            self.instructions.len()
        )?;
        self.instructions.iter().try_for_each(|instruction| writeln!(f, "    {instruction}"))
    }
}

/// Cuts at the commas that are not inside parentheses.
fn split_operands(text: &str) -> Vec<&str> {
    let mut depth = 0;
    text.split(|character| {
        depth += i32::from(character == '(') - i32::from(character == ')');
        character == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|operand| !operand.is_empty())
    .collect()
}

/// The lines of a function that are instructions or labels.
fn body<'a>(assembly: &'a str, function: &str) -> Vec<&'a str> {
    let label = format!("{function}:");
    let body: Vec<&str> = assembly
        .lines()
        .skip_while(|line| *line != label)
        .take_while(|line| !line.starts_with(".Lfunc_end"))
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty() && (line.ends_with(':') || !line.starts_with('.')))
        .collect();
    assert!(!body.is_empty(), "the assembly has no function {function}");
    body
}

/// A path that is being followed.
#[derive(Clone, Default)]
struct Walker {
    position: usize,
    /// Whether the flags are those of an exchange.
    exchanged: bool,
    trace: Trace,
}

/// Follows a function along its uncontended paths, up to the first undecided branch unless there
/// may be `branches`.
fn follow(assembly: &str, function: &str, branches: bool) -> Vec<Trace> {
    let body = body(assembly, function);
    let labels: HashMap<&str, usize> = (body.iter().enumerate())
        .filter_map(|(position, line)| line.strip_suffix(':').map(|label| (label, position)))
        .collect();
    let mut over = Vec::new();
    let mut walkers = vec![Walker::default()];
    while let Some(mut walker) = walkers.pop() {
        let Walker { position, exchanged, trace } = &mut walker;
        // Each instruction is passed at most once on a path without loops.
        let line = body.get(*position).filter(|_| trace.instructions.len() < body.len());
        let Some(line) = line else {
            trace.undecided = Some("a loop, or an end without a return".to_owned());
            over.push(walker.trace);
            continue;
        };
        *position += 1;
        if line.ends_with(':') {
            walkers.push(walker);
            continue;
        }
        trace.instructions.push(line.replace('\t', " "));
        let (mnemonic, operands) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let operands = operands.trim();
        let mut is_over = false;
        match mnemonic {
            "ud2" => continue,
            "retq" | "ret" => is_over = true,
            "callq" | "call" => trace.calls += 1,
            "jmp" => match labels.get(operands) {
                Some(&target) => *position = target,
                None => {
                    trace.calls += 1;
                    is_over = true;
                }
            },
            "je" if *exchanged => *position = labels[operands],
            "jne" if *exchanged => {}
            _ if mnemonic.starts_with('j') && branches => {
                walkers.push(Walker { position: labels[operands], ..walker.clone() });
            }
            _ if mnemonic.starts_with('j') => {
                trace.undecided = Some(line.replace('\t', " "));
                is_over = true;
            }
            _ => trace.count(mnemonic, operands),
        }
        let keeps_flags = ["mov", "lea", "set", "push", "pop", "j", "nop"];
        walker.exchanged = operands.starts_with("cmpxchg")
            || walker.exchanged && keeps_flags.iter().any(|name| mnemonic.starts_with(name));
        if is_over { over.push(walker.trace) } else { walkers.push(walker) }
    }
    assert!(!over.is_empty(), "{function} has no path that returns");
    over
}

/// Compiles the functions once and gives their assembly.
fn assembly() -> &'static str {
    static ASSEMBLY: OnceLock<String> = OnceLock::new();
    ASSEMBLY.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("code-generation");
        let file: PathBuf = directory.join("functions.s");
        let output = Command::new(env!("CARGO"))
            .args(["rustc", "--release", "--offline", "--package", "weft-backend-baremetal"])
            .args(["--example", "codegen"])
            .arg("--target-dir")
            .arg(&directory)
            .args(["--", "-Ccodegen-units=1", &format!("--emit=asm={}", file.display())])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .output()
            .expect("cargo starts");
        let messages = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the functions do not compile:\n{messages}");
        std::fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{}: {error}; remove its directory", file.display()))
    })
}

fn keeps(function: &str, promise: &Promise) {
    for path in follow(assembly(), function, promise.branches) {
        println!("{function}: {path}");
        let violations = path.violations(promise);
        assert!(violations.is_empty(), "{function}: {}\n{path}", violations.join("; "));
    }
}

fn breaks(function: &str, promise: &Promise, expected: &str) {
    let paths = follow(assembly(), function, promise.branches);
    let violations: Vec<_> = paths.iter().flat_map(|path| path.violations(promise)).collect();
    assert!(
        violations.iter().any(|violation| violation == expected),
        "{function} is not reported for `{expected}`, but for {violations:?}"
    );
}

const LOCK_AND_UNLOCK: Promise = Promise { branches: false, locked: 1, stores: 1, loads_max: 6 };
const LOAD: Promise = Promise { branches: false, locked: 0, stores: 0, loads_max: 1 };
const LOAD_IN_NODE: Promise = Promise { branches: false, locked: 0, stores: 0, loads_max: 5 };
/// The level is loaded, too. The store is the entry's, on the stack: for the panic on a corrupt
/// one, which prints it.
const WALK: Promise = Promise { branches: true, locked: 0, stores: 1, loads_max: 6 };

#[test]
fn lock_and_unlock_are_one_locked_instruction_and_one_store() {
    keeps("weft_lock_unlock", &LOCK_AND_UNLOCK);
    keeps("weft_try_lock_unlock", &LOCK_AND_UNLOCK);
}

#[test]
fn an_entry_load_is_one_load() {
    keeps("weft_entry_load", &LOAD);
    for path in follow(assembly(), "weft_entry_load", false) {
        assert_eq!(
            path.instructions.len(),
            2,
            "an entry load is more than a load and a return\n{path}"
        );
    }
}

#[test]
fn reading_a_locked_node_is_address_arithmetic_and_one_load() {
    keeps("weft_guard_read", &LOAD_IN_NODE);
    keeps("weft_guard_is_stray", &LOAD_IN_NODE);
}

#[test]
fn a_walk_decodes_the_entry_in_place() {
    keeps("weft_walk", &WALK);
    keeps("weft_walk_flags", &WALK);
    let paths = follow(assembly(), "weft_walk", true);
    assert!(paths.len() > 2, "nothing, a node and a page are told apart");
}

#[test]
fn an_unlock_by_swap_is_noticed() {
    breaks("control_unlock_by_swap", &LOCK_AND_UNLOCK, "2 locked, not 1");
    breaks("control_unlock_by_swap", &LOCK_AND_UNLOCK, "0 stores, not 1");
}

#[test]
fn a_second_exchange_is_noticed() {
    breaks("control_two_exchanges", &LOCK_AND_UNLOCK, "2 locked, not 1");
}

#[test]
fn a_call_is_noticed() {
    breaks("control_call", &LOCK_AND_UNLOCK, "1 calls");
}

#[test]
fn a_call_behind_a_branch_is_noticed() {
    breaks("control_call_on_one_path", &WALK, "1 calls");
}

#[test]
fn a_fence_is_noticed() {
    // Where `mfence` is slower, the compiler writes a locked instruction on the stack instead.
    breaks("control_fence", &LOCK_AND_UNLOCK, "2 locked, not 1");
}

#[test]
fn a_second_load_is_noticed() {
    breaks("control_load_twice", &LOAD, "2 loads, over 1");
}
