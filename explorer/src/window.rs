//! Loads that may have been done earlier, as paging hardware does them.
//!
//! A CPU may keep what it has read from a page table until software invalidates it, and use it much
//! later. A TLB need not be modelled for that: what is used now was read by a load at *some* time
//! since the last invalidation. A [`Window`] is the point since when; a load within it
//! ([`Atomic::load_within`]) is a load by an observer that was forked when the window was opened
//! and is joined at the load. So it is one event with more sources than an ordinary load has, and
//! the following changes in the rest of the engine:
//!
//! * *Coherence.* The load reads nothing older than what the window knows; see
//!   [`Graph::window_bound`]. A value that cannot be kept is read now: then what the thread knows
//!   counts too.
//! * *Order.* The load stands apart from its thread (`Event::stands_apart`): before it come the
//!   events that the window knows and the window's earlier loads, and no others of its thread. That
//!   is what `psc` and the order of TSO and SC look at. Whatever its thread does next comes behind
//!   it, and knows what it read.
//! * *Choices* need nothing else. The newest value is always allowed, the window's view is part of
//!   what caused the load, so a revisit keeps it, and a load that took an old value is not maximal.
//!
//! The handler of an interrupt ([`Mutex::interrupt`](crate::Mutex::interrupt)) stands apart in the
//! same way: it is played by the thread that sent it, and knows what that thread knew then.

use std::panic::Location;
use std::sync::atomic::Ordering;

use crate::atomic::Atomic;
use crate::consistency::Model;
use crate::engine::{Engine, Stop, perform, with};
use crate::event::{Cacheable, Event, EventId, INITIAL, Kind, Request, Update, View};
use crate::graph::Graph;
use crate::inert::{inert_load, is_inert};

/// A point since which loads may have been done: see [`Atomic::load_within`].
///
/// The default one knows nothing, so that any value may be read that was ever there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// What the window's loads have to know.
    pub(crate) known: View,
    /// The window's last load, behind which the next one is done.
    pub(crate) last: EventId,
}

impl Default for Window {
    fn default() -> Window {
        Window { known: View::default(), last: INITIAL }
    }
}

impl Window {
    /// A window that opens here: its loads know what the calling thread knows now.
    ///
    /// Where hardware invalidates what it has kept, software has a fence or an instruction that
    /// serialises; the model of that instruction has a `SeqCst` fence before it opens the window.
    pub fn open() -> Window {
        if is_inert() {
            return Window::default();
        }
        with(|engine| engine.open_window())
    }

    /// Opens no earlier than the other one.
    ///
    /// If loads were done within both, their next load knows what all of them have learnt, and is
    /// done behind one of them: the later one, if one thread has done both.
    pub fn join(&mut self, other: &Window) {
        self.known.join(&other.known);
        if self.last == INITIAL || other.last != INITIAL && other.last > self.last {
            self.last = other.last;
        }
    }
}

impl Atomic {
    /// Loads the value as paging hardware does: at any time since the window was opened if the
    /// value is one that `cacheable` lets it keep, and otherwise now.
    ///
    /// It is an acquire load. The window's later loads are done behind it: they know what it has
    /// learnt. Inert while the thread unwinds, as [`Atomic::load`] is.
    ///
    /// ```
    /// use std::sync::atomic::Ordering::Release;
    /// use weft_explorer::{Atomic, Options, Window, explore};
    ///
    /// let is_present = |entry: u64| entry != 0;
    /// let report = explore(&Options::default(), move || {
    ///     let entry = Atomic::new(1);
    ///     let mut window = Window::open();
    ///     entry.store(0, Release);
    ///     // Nothing was invalidated since: the old entry may be used still.
    ///     let used = entry.load_within(&mut window, is_present);
    ///     // Now something is.
    ///     let used_later = entry.load_within(&mut Window::open(), is_present);
    ///     assert!(used <= 1 && used_later == 0);
    /// });
    /// assert_eq!(report.executions, 2);
    /// ```
    #[track_caller]
    pub fn load_within(&self, window: &mut Window, cacheable: fn(u64) -> bool) -> u64 {
        let at = Location::caller();
        inert_load(at).unwrap_or_else(|| {
            perform(|engine| {
                let location = self.handle().enter(engine, at)?;
                engine.load_within(location, window, Cacheable(cacheable), at)
            })
        })
    }
}

impl Engine {
    fn open_window(&self) -> Window {
        Window { known: self.known_here(), last: INITIAL }
    }

    fn load_within(
        &mut self,
        location: u32,
        window: &mut Window,
        cacheable: Cacheable,
        at: &'static Location<'static>,
    ) -> Result<u64, Stop> {
        let (order, update) = (Ordering::Acquire, Update::Within(cacheable));
        let request = Request { order, update, ..Request::new(Kind::Read, location, at) };
        let is_probing = self.is_probing();
        let (value, read) = self.read(request, Some(window))?;
        if !is_probing {
            let event = self.search.graph.event(read);
            if event.reads_from != INITIAL {
                let source = self.search.graph.event(event.reads_from);
                window.known.join(&source.released);
                if self.search.model == Model::Tso && event.reads_from.thread == read.thread {
                    // It was done behind its thread's own store, whether that was visible or not.
                    window.known.join(&source.happens_before);
                }
            }
            if !event.stands_apart() {
                // It was done now, and so are the loads behind it.
                window.known.join(&event.happens_before);
            }
            window.last = read;
        }
        Ok(value)
    }

    /// The window that opens in a handler, which begins with this read: what the interrupt knew
    /// when it was sent, and what the holder has released.
    pub(crate) fn window_of_handler(&self, read: EventId) -> Window {
        if self.is_probing() {
            return Window::default();
        }
        let write = read.successor();
        Window { known: self.search.graph.event(write).released, last: write }
    }

    /// A window has to reach a thread together with what happened before it was opened.
    pub(crate) fn refuse_unknown(
        &mut self,
        window: &Window,
        at: &'static Location<'static>,
    ) -> Result<(), Stop> {
        let thread = self.run.current;
        let graph = &self.search.graph;
        let (mut known, mut causes) = graph.start[thread];
        if let Some(last) = graph.threads[thread].last() {
            (known, causes) = (last.happens_before, last.causes);
            known.join(&last.pending_acquires);
        }
        let last_is_known = window.last == INITIAL || window.last.within(&causes);
        if known.contains(&window.known) && last_is_known {
            return Ok(());
        }
        Err(self.misuse(
            at,
            "a window knows what the thread that uses it does not: hand windows on in a Mutex, or \
             through a release and an acquire",
        ))
    }
}

impl Graph {
    /// The oldest coherence position that a load within the window may read: what the window knows
    /// counts, and what its earlier loads of the same location have read.
    pub(crate) fn window_bound(&self, location: u32, window: &Window) -> usize {
        let mut position = self.coherence_bound(location, &window.known);
        let mut last = window.last;
        while last != INITIAL {
            let event = self.event(last);
            if event.request.kind == Kind::Read && event.request.location == location {
                let read = self.coherence_position(location, event.reads_from);
                position = position.max(read);
            }
            last = event.after;
        }
        position
    }

    /// The oldest coherence position that a read may take which is in the graph, and would get
    /// `value` there.
    pub(crate) fn oldest_source(&self, read: EventId, value: u64) -> usize {
        let event = self.event(read);
        let location = event.request.location;
        let now = || {
            let known = self.known_before(read.thread(), read.index());
            self.coherence_bound(location, &known)
        };
        let window = Window { known: event.released, last: event.after };
        match event.request.update {
            Update::Within(_) if event.request.update.may_have_kept(value) => {
                self.window_bound(location, &window)
            }
            Update::Within(_) => now().max(self.window_bound(location, &window)),
            _ => now(),
        }
    }

    /// Whether a load has read what its thread could not have loaded then.
    pub(crate) fn is_old(&self, read: EventId) -> bool {
        let event = self.event(read);
        let location = event.request.location;
        let known = self.known_before(read.thread(), read.index());
        self.coherence_position(location, event.reads_from) < self.coherence_bound(location, &known)
    }

    /// What is known behind a load that stands apart, apart from what its thread did.
    pub(crate) fn learnt_apart(&self, load: &Event) -> View {
        let mut view = load.released;
        if load.reads_from != INITIAL {
            view.join(&self.event(load.reads_from).released);
        }
        view
    }
}
