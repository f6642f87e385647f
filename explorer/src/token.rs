//! Replay tokens: a failing execution in a few bytes.
//!
//! No recorded interleaving and no search: a replay runs the program with the default schedule and
//! the newest value as the default choice, and only what deviates is written down. Each part is
//!
//! * `t.i<u.j`: event `i` of thread `t` reads event `j` of thread `u` (`t.i<i`: the initial value);
//! * `t.i@p`: the write has coherence position `p` relative to the other writes with such a part;
//! * `t.i?v`: the choice is `v`;
//! * `t.i+n`: the thread that is spawned has number `n`, where that is not the lowest one free;
//! * `t:n`: the failure happens when thread `t` has `n` events and plain accesses. No thread goes
//!   further before all are there, so that no thread runs past the point of failure.
//!
//! A read whose source does not exist yet stops its thread, which is retried in the next *round*,
//! when the other threads have gone on. The execution is finished when a round adds nothing.
//!
//! The token begins with the memory model and a fingerprint of the failing execution (its
//! operations with their locations, orders and values, but not their lines), so that the token of
//! another program, or of this one before it was changed, is refused and never misread.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::accesses::Item;
use crate::consistency::Model;
use crate::event::{EventId, INITIAL, Kind, THREADS_MAX, Update};
use crate::graph::Graph;

/// What has to be chosen to arrive at a graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) reads: BTreeMap<EventId, EventId>,
    pub(crate) places: BTreeMap<EventId, usize>,
    pub(crate) picks: BTreeMap<EventId, u64>,
    /// Which number a thread gets that is spawned here.
    pub(crate) numbers: BTreeMap<EventId, usize>,
    /// Events and plain accesses per thread.
    pub(crate) lengths: [usize; THREADS_MAX],
}

impl Script {
    /// Everything that was chosen in a graph.
    pub(crate) fn of(graph: &Graph) -> Script {
        let mut script = Script::default();
        for id in &graph.order {
            let event = graph.event(*id);
            match event.request.kind {
                Kind::Read => {
                    script.reads.insert(*id, event.reads_from);
                }
                Kind::Choose => {
                    script.picks.insert(*id, event.value);
                }
                Kind::Spawn => {
                    script.numbers.insert(*id, event.request.location as usize);
                }
                _ => {}
            }
        }
        for (thread, length) in script.lengths.iter_mut().enumerate() {
            *length = graph.threads[thread].len() + graph.plain[thread].len();
        }
        for place in graph.places() {
            let positions = place.coherence.iter().enumerate();
            script.places.extend(positions.map(|(position, write)| (*write, position)));
        }
        script
    }
}

/// Steers a run of the program along a script, and notes which parts of it mattered.
#[derive(Debug)]
pub(crate) struct Guide {
    script: Script,
    reads: BTreeMap<EventId, EventId>,
    places: BTreeMap<EventId, usize>,
    numbers: BTreeMap<EventId, usize>,
    /// The script does not fit the program.
    pub(crate) misfit: bool,
}

impl Guide {
    pub(crate) fn new(script: Script) -> Guide {
        Guide {
            script,
            reads: BTreeMap::new(),
            places: BTreeMap::new(),
            numbers: BTreeMap::new(),
            misfit: false,
        }
    }

    /// Whether a thread has to stop before its event `index`, with `added` events in the graph.
    pub(crate) fn holds_back(&self, thread: usize, index: usize, added: usize) -> bool {
        index >= self.script.lengths[thread] && added < self.script.lengths.iter().sum()
    }

    pub(crate) fn is_complete(&self, graph: &Graph) -> bool {
        graph.size() >= self.script.lengths.iter().sum()
    }

    pub(crate) fn source_of(&self, read: EventId) -> Option<EventId> {
        self.script.reads.get(&read).copied()
    }

    pub(crate) fn note_read(&mut self, read: EventId, source: EventId) {
        self.reads.insert(read, source);
    }

    pub(crate) fn pick_of(&self, choice: EventId) -> u64 {
        self.script.picks.get(&choice).copied().unwrap_or(0)
    }

    /// The number of a thread that is spawned; the lowest that is free, unless the script says
    /// something else.
    pub(crate) fn number_of(&mut self, spawn: EventId, lowest: usize) -> Option<usize> {
        let number = self.script.numbers.get(&spawn).copied().unwrap_or(lowest);
        if number != lowest {
            self.numbers.insert(spawn, number);
        }
        Some(number)
    }

    /// Where in coherence a new write goes, unless it goes last; `coherence` includes it, last.
    pub(crate) fn place_of(&mut self, write: EventId, coherence: &[EventId]) -> Option<usize> {
        let position = *self.script.places.get(&write)?;
        let later =
            |other: &EventId| self.script.places.get(other).is_some_and(|place| *place > position);
        let index = coherence.iter().position(later)?;
        // A position is relative to the other writes of the location: note them too.
        for other in coherence {
            if let Some(place) = self.script.places.get(other) {
                self.places.insert(*other, *place);
            }
        }
        Some(index)
    }

    /// How much has happened; a round that leaves this unchanged was the last one.
    pub(crate) fn notes(&self) -> usize {
        self.reads.len() + self.places.len()
    }

    /// The token of the graph at which the guide has arrived.
    pub(crate) fn token(&self, model: Model, graph: &Graph) -> Token {
        let picks = self.script.picks.iter().filter(|(_, value)| **value != 0);
        Token {
            model,
            fingerprint: fingerprint(graph, &self.script.lengths),
            script: Script {
                reads: self.reads.clone(),
                places: self.places.clone(),
                picks: picks.map(|(id, value)| (*id, *value)).collect(),
                numbers: self.numbers.clone(),
                lengths: self.script.lengths,
            },
        }
    }
}

/// A number that identifies the first events of each thread of a graph, source lines apart (FNV-1a,
/// so that it never changes).
pub(crate) fn fingerprint(graph: &Graph, lengths: &[usize; THREADS_MAX]) -> u32 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut feed = |number: u64| {
        for byte in number.to_le_bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for (thread, length) in lengths.iter().enumerate() {
        feed(graph.items(thread).take(*length).count() as u64);
        for item in graph.items(thread).take(*length) {
            let request = item.request();
            let (value, source) = match item {
                Item::Event(event) => (event.value, event.reads_from),
                Item::Access(access) => (access.value, INITIAL),
            };
            feed(request.kind as u64);
            feed(request.order as u64 * 8 + request.failure_order as u64);
            feed(u64::from(request.location));
            feed(value);
            feed(u64::from(source.thread) << 16 | u64::from(source.index));
            let (tag, first, second) = match request.update {
                // As a compare-exchange that waits, which it once was.
                Update::Lock if request.kind == Kind::Write => (9, 1, 0),
                Update::Lock => (6, 0, 1),
                Update::None => (0, 0, 0),
                Update::CompareExchange { expected, new } => (1, expected, new),
                Update::Add(operand) => (2, operand, 0),
                Update::Exchange(new) => (3, new, 0),
                Update::Or(operand) => (4, operand, 0),
                Update::And(operand) => (5, operand, 0),
                Update::AwaitExchange { expected, new } => (6, expected, new),
                Update::AwaitEqual(value) => (7, value, 0),
                Update::AwaitUnequal(value) => (8, value, 0),
                Update::Store(value) => (9, value, 0),
                Update::Choose(count) => (10, count, 0),
                Update::Xor(operand) => (11, operand, 0),
                Update::Nand(operand) => (12, operand, 0),
                Update::Max(operand) => (13, operand, 0),
                Update::Min(operand) => (14, operand, 0),
                Update::Within(_) => (15, 0, 0),
                Update::Interrupt => (16, 0, 0),
                Update::Return => (17, 0, 0),
                Update::Narrow { operation, operand, bits } => {
                    (18 + operation as u64, operand, u64::from(bits))
                }
                Update::AwaitAdd { limit, operand } => (24, limit, operand),
            };
            [tag, first, second].into_iter().for_each(&mut feed);
        }
    }
    (hash ^ hash >> 32) as u32
}

/// A printable recipe for one failing execution of one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub(crate) model: Model,
    pub(crate) fingerprint: u32,
    pub(crate) script: Script,
}

impl Token {
    /// The memory model under which the execution was found.
    pub fn model(&self) -> Model {
        self.model
    }
}

struct Name(EventId);

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == INITIAL {
            write!(formatter, "i")
        } else {
            write!(formatter, "{}.{}", self.0.thread, self.0.index)
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = match self.model {
            Model::Rc11 => "rc11",
            Model::Tso => "tso",
            Model::Sc => "sc",
        };
        write!(formatter, "{model}-{:08x}", self.fingerprint)?;
        let mut separators = std::iter::once("-").chain(std::iter::repeat(","));
        let mut separator = || separators.next().unwrap_or(",");
        for (read, source) in &self.script.reads {
            write!(formatter, "{}{}<{}", separator(), Name(*read), Name(*source))?;
        }
        for (write, place) in &self.script.places {
            write!(formatter, "{}{}@{place}", separator(), Name(*write))?;
        }
        for (choice, value) in &self.script.picks {
            write!(formatter, "{}{}?{value}", separator(), Name(*choice))?;
        }
        for (spawn, number) in &self.script.numbers {
            write!(formatter, "{}{}+{number}", separator(), Name(*spawn))?;
        }
        for (thread, length) in self.script.lengths.iter().enumerate().filter(|pair| *pair.1 > 0) {
            write!(formatter, "{}{thread}:{length}", separator())?;
        }
        Ok(())
    }
}

/// Why a text is not a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It does not begin with `rc11-`, `tso-` or `sc-`; carries the text.
    Model(String),
    /// What follows is not an eight-digit hexadecimal fingerprint; carries it.
    Fingerprint(String),
    /// A part of the list is malformed, or names a thread that cannot exist; carries the part.
    Part(String),
}

impl fmt::Display for TokenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, text) = match self {
            TokenError::Model(text) => ("does not begin with a memory model", text),
            TokenError::Fingerprint(text) => {
                ("has no fingerprint of eight hexadecimal digits", text)
            }
            TokenError::Part(text) => ("has a malformed part", text),
        };
        write!(formatter, "the replay token {what} (`{text}`): copy it whole from the report")
    }
}

impl std::error::Error for TokenError {}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Token, TokenError> {
        let mut sections = text.trim().splitn(3, '-');
        let model = match sections.next() {
            Some("rc11") => Model::Rc11,
            Some("tso") => Model::Tso,
            Some("sc") => Model::Sc,
            _ => return Err(TokenError::Model(text.to_owned())),
        };
        let digits = sections.next().unwrap_or("");
        let fingerprint = u32::from_str_radix(digits, 16)
            .ok()
            .filter(|_| digits.len() == 8 && !digits.starts_with('+'))
            .ok_or_else(|| TokenError::Fingerprint(digits.to_owned()))?;
        let mut script = Script::default();
        for part in sections.next().unwrap_or("").split(',') {
            parse_part(part, &mut script).ok_or_else(|| TokenError::Part(part.to_owned()))?;
        }
        Ok(Token { model, fingerprint, script })
    }
}

fn parse_event(text: &str) -> Option<EventId> {
    let (thread, index) = text.split_once('.')?;
    let thread: u8 = thread.parse().ok().filter(|thread| usize::from(*thread) < THREADS_MAX)?;
    Some(EventId { thread, index: index.parse().ok().filter(|index| *index < u16::MAX)? })
}

fn parse_part(part: &str, script: &mut Script) -> Option<()> {
    if let Some((read, source)) = part.split_once('<') {
        let source = if source == "i" { INITIAL } else { parse_event(source)? };
        script.reads.insert(parse_event(read)?, source);
    } else if let Some((write, place)) = part.split_once('@') {
        script.places.insert(parse_event(write)?, place.parse().ok()?);
    } else if let Some((choice, value)) = part.split_once('?') {
        script.picks.insert(parse_event(choice)?, value.parse().ok()?);
    } else if let Some((spawn, number)) = part.split_once('+') {
        let number = number.parse().ok().filter(|number| (1..THREADS_MAX).contains(number))?;
        script.numbers.insert(parse_event(spawn)?, number);
    } else {
        let (thread, length) = part.split_once(':')?;
        let thread: usize = thread.parse().ok()?;
        *script.lengths.get_mut(thread)? = length.parse::<u16>().ok()?.into();
    }
    Some(())
}
