//! Functions of a linked image, disassembled and followed.
//!
//! A function is followed along the paths that are taken when nobody else is there: a `lock
//! cmpxchg` finds what it expects, so the branch that depends on it is decided. Any other
//! conditional branch is followed both ways. Paths that end in a panic (an undefined instruction,
//! behind a call that does not return) do not count. On the others instructions are counted: locked
//! ones, calls, fences, and loads and stores of memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use iced_x86::{
    ConditionCode, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory,
    Mnemonic, OpAccess, OpKind,
};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

/// A linked program or library.
pub(crate) struct Image {
    bytes: Vec<u8>,
}

/// A function by the addresses of its instructions.
struct Function {
    start: u64,
    instructions: BTreeMap<u64, Instruction>,
}

impl Image {
    /// Reads the image in a file.
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path);
        Self { bytes: bytes.unwrap_or_else(|error| panic!("{}: {error}", path.display())) }
    }

    fn object(&self) -> object::File<'_> {
        object::File::parse(&*self.bytes).expect("the linker writes objects that can be read")
    }

    /// The names of all functions, as the linker has them.
    pub(crate) fn functions(&self) -> Vec<String> {
        let object = self.object();
        let functions = object.symbols().filter(|symbol| symbol.kind() == object::SymbolKind::Text);
        functions.filter_map(|symbol| Some(symbol.name().ok()?.to_owned())).collect()
    }

    fn function(&self, name: &str) -> Function {
        let object = self.object();
        let symbol = object.symbols().find(|symbol| symbol.name() == Ok(name));
        let symbol = symbol.unwrap_or_else(|| panic!("the image has no function {name}"));
        let section = symbol.section_index().and_then(|index| object.section_by_index(index).ok());
        let section = section.unwrap_or_else(|| panic!("{name} is in no section"));
        let code = section.data_range(symbol.address(), symbol.size()).ok().flatten();
        let code = code.filter(|code| !code.is_empty());
        let code = code.unwrap_or_else(|| panic!("the image has no code of {name}"));
        let decoder = Decoder::with_ip(64, code, symbol.address(), DecoderOptions::NONE);
        let instructions = decoder.into_iter().map(|instruction| (instruction.ip(), instruction));
        Function { start: symbol.address(), instructions: instructions.collect() }
    }

    /// Follows a function, and gives the path that returns with the fewest calls; of those with as
    /// few, the shortest.
    pub(crate) fn straightest(&self, name: &str) -> Trace {
        let function = self.function(name);
        let mut info = InstructionInfoFactory::new();
        let mut seen = BTreeSet::new();
        let mut number = 0;
        let mut walkers = BTreeMap::new();
        let mut next = vec![Walker { at: function.start, ..Walker::default() }];
        loop {
            for walker in next.drain(..) {
                number += 1;
                let trace = &walker.trace;
                walkers.insert((trace.calls, trace.instructions.len(), number), walker);
            }
            let first = walkers.pop_first();
            let (_, walker) = first.unwrap_or_else(|| panic!("{name} has no path that returns"));
            if seen.insert((walker.at, walker.exchanged)) {
                match walker.step(&function, &mut info) {
                    Step::Over(trace) if !trace.endless => return trace,
                    Step::Panics | Step::Over(_) => {}
                    Step::On(walker) => next.push(walker),
                    Step::Both(one, other) => next.extend([one, other]),
                }
            }
        }
    }

    /// Follows a function, and gives the paths that return.
    pub(crate) fn follow(&self, name: &str) -> Vec<Trace> {
        let function = self.function(name);
        let mut info = InstructionInfoFactory::new();
        let mut over = Vec::new();
        let mut walkers = vec![Walker { at: function.start, ..Walker::default() }];
        while let Some(walker) = walkers.pop() {
            match walker.step(&function, &mut info) {
                Step::Panics => {}
                Step::Over(trace) => over.push(trace),
                Step::On(walker) => walkers.push(walker),
                Step::Both(one, other) => walkers.extend([one, other]),
            }
        }
        assert!(!over.is_empty(), "{name} has no path that returns");
        over
    }
}

/// What was met on a path.
#[derive(Clone, Default)]
pub(crate) struct Trace {
    /// The locked instructions.
    pub(crate) locked: Vec<Mnemonic>,
    /// Calls, and jumps to other functions.
    pub(crate) calls: usize,
    /// Fences.
    pub(crate) fences: usize,
    /// Instructions that read memory.
    pub(crate) loads: usize,
    /// Instructions that write memory.
    pub(crate) stores: usize,
    /// Whether the path was given up, because it does not end.
    pub(crate) endless: bool,
    /// All of them.
    pub(crate) instructions: Vec<Instruction>,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { locked, calls, fences, loads, stores, .. } = self;
        writeln!(
            f,
            "{} instructions: {} locked, {stores} stores, {loads} loads, {calls} calls, \
             {fences} fences",
            self.instructions.len(),
            locked.len()
        )?;
        self.instructions.iter().try_for_each(|instruction| writeln!(f, "    {instruction}"))
    }
}

impl Trace {
    /// Counts one instruction that does not change the flow.
    fn count(&mut self, instruction: &Instruction, info: &mut InstructionInfoFactory) {
        let mnemonic = instruction.mnemonic();
        let is_memory = |operand| instruction.op_kind(operand) == OpKind::Memory;
        // An exchange with memory is locked, with the prefix or without.
        let exchanges = mnemonic == Mnemonic::Xchg && (0..instruction.op_count()).any(is_memory);
        if instruction.has_lock_prefix() || exchanges {
            self.locked.push(mnemonic);
            return;
        }
        if matches!(mnemonic, Mnemonic::Mfence | Mnemonic::Lfence | Mnemonic::Sfence) {
            self.fences += 1;
        }
        let used = info.info(instruction).used_memory();
        let any = |kinds: &[OpAccess]| used.iter().any(|memory| kinds.contains(&memory.access()));
        let (reads, writes) = (
            [OpAccess::Read, OpAccess::CondRead, OpAccess::ReadWrite, OpAccess::ReadCondWrite],
            [OpAccess::Write, OpAccess::CondWrite, OpAccess::ReadWrite, OpAccess::ReadCondWrite],
        );
        self.loads += usize::from(any(&reads));
        self.stores += usize::from(any(&writes));
    }
}

/// A path that is being followed.
#[derive(Clone, Default)]
struct Walker {
    at: u64,
    /// Whether the flags are those of an exchange.
    exchanged: bool,
    trace: Trace,
}

/// What comes of one instruction.
enum Step {
    Panics,
    Over(Trace),
    On(Walker),
    Both(Walker, Walker),
}

impl Walker {
    fn step(mut self, function: &Function, info: &mut InstructionInfoFactory) -> Step {
        let Function { instructions, .. } = function;
        // Each instruction is passed at most once on a path without loops.
        let here = instructions.get(&self.at);
        let Some(here) = here.filter(|_| self.trace.instructions.len() < instructions.len()) else {
            self.trace.endless = true;
            return Step::Over(self.trace);
        };
        self.trace.instructions.push(*here);
        self.at = here.next_ip();
        let target = here.near_branch_target();
        match here.flow_control() {
            FlowControl::Exception => return Step::Panics,
            FlowControl::Return => return Step::Over(self.trace),
            FlowControl::Call | FlowControl::IndirectCall => self.trace.calls += 1,
            FlowControl::UnconditionalBranch if instructions.contains_key(&target) => {
                self.at = target;
            }
            FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => {
                self.trace.calls += 1;
                return Step::Over(self.trace);
            }
            FlowControl::ConditionalBranch => match here.condition_code() {
                ConditionCode::e if self.exchanged => self.at = target,
                ConditionCode::ne if self.exchanged => {}
                _ => return Step::Both(Self { at: target, ..self.clone() }, self),
            },
            _ => self.trace.count(here, info),
        }
        let exchanges = here.mnemonic() == Mnemonic::Cmpxchg && here.has_lock_prefix();
        self.exchanged = exchanges || self.exchanged && here.rflags_modified() == 0;
        Step::On(self)
    }
}
