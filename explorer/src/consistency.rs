//! What each memory model forbids.
//!
//! Coherence, atomicity of read-modify-writes and the absence of `porf` cycles hold by
//! construction: lower bounds, the place of an exclusive write, and events that are only ever added
//! last. What remains is checked here, on the whole graph, and only after a choice that is not
//! "the newest": a new event that takes the newest value or place has no successor in any of the
//! relations below and so closes no cycle.
//!
//! * **RC11**: the `SeqCst` accesses and fences have an order, see `sequential`.
//! * **TSO** (Owens, Sarkar, Sewell 2009, in the axiomatic form of Alglave, Maranget, Tautschnig
//!   2014): `ppo | rfe | co | fr` is acyclic, where `ppo` is program order without write-to-read
//!   pairs. Read-modify-writes, `SeqCst` writes and `SeqCst` fences order everything, as the usual
//!   mapping of C11 to x86 does. The model here is TSO *and* RC11.
//! * **SC**: `sb | rf | co | fr` is acyclic.
//!
//! Events that stand apart from their thread (see `window`) come behind what they know instead of
//! what is before them in program order. What follows in program order comes behind a load within a
//! window at once, and behind a handler from the next acquire fence on.
//!
//! Both stronger models are prefix-closed and allow the newest choice always, which is what TruSt
//! asks of a model; the exploration still proposes RC11's choices and drops what the model forbids.

use std::fmt;
use std::sync::atomic::Ordering;

use crate::event::{Event, EventId, INITIAL, Kind};
use crate::graph::Graph;

/// The memory model under which executions are consistent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Model {
    /// C11 as repaired by Lahav et al., PLDI'17, without load buffering.
    #[default]
    Rc11,
    /// x86: stores wait in a first-in first-out buffer.
    Tso,
    /// Sequential consistency.
    Sc,
}

impl Model {
    /// Every memory model, the weakest one first.
    pub const ALL: [Model; 3] = [Model::Rc11, Model::Tso, Model::Sc];
}

impl fmt::Display for Model {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Model::Rc11 => "RC11",
            Model::Tso => "TSO",
            Model::Sc => "SC",
        })
    }
}

impl Graph {
    /// Whether the model allows this graph, given that it was built by coherent choices.
    pub(crate) fn is_consistent(&self, model: Model) -> bool {
        match model {
            Model::Rc11 => self.sequential_order_exists(),
            Model::Tso => self.sequential_order_exists() && self.global_order_exists(true),
            Model::Sc => self.global_order_exists(false),
        }
    }

    /// Whether one total order explains what the model keeps of program order, and all values.
    fn global_order_exists(&self, tso: bool) -> bool {
        let mut successors: Vec<Vec<u32>> = vec![Vec::new(); self.order.len()];
        self.add_preserved_program_order(tso, &mut successors);
        let position = |id: EventId| self.event(id).position;
        for place in self.places() {
            for pair in place.coherence.windows(2) {
                successors[position(pair[0]) as usize].push(position(pair[1]));
            }
            for read in &place.reads {
                let event = self.event(*read);
                if event.request.kind != Kind::Read {
                    continue;
                }
                let source = event.reads_from;
                if source != INITIAL && !(tso && self.is_forwarded(source, *read)) {
                    successors[position(source) as usize].push(event.position);
                }
                let newer = self.coherence_position(event.request.location, source);
                let own =
                    |write: &&EventId| **write == read.successor() && self.is_exclusive(**write);
                let next = place.coherence[newer..].iter().find(|write| !own(write));
                if let Some(write) = next {
                    successors[event.position as usize].push(position(*write));
                }
            }
        }
        is_acyclic(&successors)
    }

    /// Under TSO a thread reads its own writes from its buffer, before they are visible.
    fn is_forwarded(&self, write: EventId, read: EventId) -> bool {
        let event = self.event(write);
        write.thread == read.thread && !is_locked(event) && !event.stands_apart()
    }

    fn add_preserved_program_order(&self, tso: bool, successors: &mut [Vec<u32>]) {
        for (thread, events) in self.threads.iter().enumerate() {
            // Only the last event of each class that orders later ones needs an edge.
            let (mut last_of_all, mut last_read, mut last_write) = (None, None, None);
            // Events that stand apart since the last one of the thread that is behind them all;
            // those of handlers count from the fence on with which the thread learns of their end.
            let (mut apart, mut unlearnt): (Vec<u32>, Vec<u32>) = Default::default();
            for (index, event) in events.iter().enumerate() {
                if event.stands_apart() {
                    self.order_apart(event, tso, successors);
                    if tso {
                        self.order_before_missed(EventId::new(thread, index), successors);
                    }
                    let list = if event.is_of_handler() { &mut unlearnt } else { &mut apart };
                    list.push(event.position);
                    continue;
                }
                if event.is_acquire_fence() {
                    apart.append(&mut unlearnt);
                }
                if tso && !is_ordered_by_tso(event) {
                    continue;
                }
                let mut after = |earlier: Option<u32>| {
                    if let Some(earlier) = earlier {
                        successors[earlier as usize].push(event.position);
                    }
                };
                let locked = !tso || is_locked(event);
                let is_read = event.request.kind == Kind::Read;
                apart.iter().for_each(|earlier| after(Some(*earlier)));
                if locked || is_read {
                    apart.clear();
                }
                after(last_of_all);
                after(last_read);
                if locked || !is_read {
                    after(last_write);
                }
                match (locked, is_read) {
                    (true, _) => last_of_all = Some(event.position),
                    (false, true) => last_read = Some(event.position),
                    (false, false) => last_write = Some(event.position),
                }
                if event.request.kind == Kind::Join {
                    let child = &self.threads[event.request.location as usize];
                    let learnt = child.iter().rposition(Event::is_acquire_fence).unwrap_or(0);
                    for (index, earlier) in child.iter().enumerate() {
                        if index < learnt || !earlier.is_of_handler() {
                            successors[earlier.position as usize].push(event.position);
                        }
                    }
                }
            }
        }
        for (child, spawn) in self.spawned.iter().enumerate() {
            let Some(spawn) = spawn else { continue };
            let (event, child) = (self.event(*spawn), &self.threads[child]);
            for later in child.iter().filter(|later| !later.stands_apart()) {
                successors[event.position as usize].push(later.position);
            }
        }
    }

    /// Orders an event that stands apart from its thread behind what it knows.
    fn order_apart(&self, event: &Event, tso: bool, successors: &mut [Vec<u32>]) {
        let mut after =
            |earlier: &Event| successors[earlier.position as usize].push(event.position);
        if event.after != INITIAL {
            after(self.event(event.after));
        }
        for (thread, count) in event.released.0.iter().enumerate() {
            let mut is_learnt = false;
            for earlier in self.threads[thread].iter().take(usize::from(*count)).rev() {
                is_learnt |= earlier.is_acquire_fence();
                if earlier.stands_apart() {
                    if is_learnt || !earlier.is_of_handler() {
                        after(earlier);
                    }
                } else if !tso || is_read_or_locked(earlier) {
                    // What is further back is before this one.
                    after(earlier);
                    break;
                }
            }
        }
    }

    /// A load that stands apart and misses a store of its own thread was done before that store
    /// entered the store buffer, and so before what its thread did behind it.
    fn order_before_missed(&self, id: EventId, successors: &mut [Vec<u32>]) {
        let event = self.event(id);
        if event.request.kind != Kind::Read || event.is_of_handler() {
            return;
        }
        let (location, events) = (event.request.location, &self.threads[id.thread()]);
        let newer = self.coherence_position(location, event.reads_from);
        let missed = &self.place(location).coherence[newer..];
        let first = usize::from(event.released.0[id.thread()]);
        let Some(store) = (first..id.index())
            .map(|index| EventId::new(id.thread(), index))
            .find(|other| missed.contains(other))
        else {
            return;
        };
        for later in &events[store.index() + 1..id.index()] {
            let knows_store = || later.stands_apart() && store.within(&later.released);
            let is_next = !later.stands_apart() && is_read_or_locked(later);
            if is_next || knows_store() {
                successors[event.position as usize].push(later.position);
            }
            if is_next {
                break;
            }
        }
    }
}

/// Whether TSO's order has anything to say about the event.
fn is_ordered_by_tso(event: &Event) -> bool {
    match event.request.kind {
        Kind::Fence => event.request.order == Ordering::SeqCst,
        Kind::PlainRead | Kind::PlainWrite | Kind::Choose => false,
        Kind::Read | Kind::Write | Kind::Spawn | Kind::Join => true,
    }
}

/// Whether x86 drains the store buffer at this event. Engine mutexes are no instructions: they
/// order what comes behind taking and before giving back, and nothing else.
fn is_locked(event: &Event) -> bool {
    let update = event.request.update;
    match event.request.kind {
        Kind::Read => update.may_write() && !update.is_of_mutex(),
        Kind::Write => {
            event.exclusive && !update.is_of_mutex() || event.request.order == Ordering::SeqCst
        }
        _ => true,
    }
}

/// Whether a load that comes next in the thread is behind the event.
fn is_read_or_locked(event: &Event) -> bool {
    is_ordered_by_tso(event) && (event.request.kind == Kind::Read || is_locked(event))
}

fn is_acyclic(successors: &[Vec<u32>]) -> bool {
    let mut pending = vec![0u32; successors.len()];
    for next in successors.iter().flatten() {
        pending[*next as usize] += 1;
    }
    let mut ready: Vec<usize> = (0..pending.len()).filter(|event| pending[*event] == 0).collect();
    let mut done = 0;
    while let Some(event) = ready.pop() {
        done += 1;
        for next in &successors[event] {
            pending[*next as usize] -= 1;
            if pending[*next as usize] == 0 {
                ready.push(*next as usize);
            }
        }
    }
    done == pending.len()
}
