//! Several CPUs at once, each in a range of its own, a GiB apart from the others.
//!
//! Each thread maps its range and unmaps it, again and again. All begin at the same moment: they
//! wait for one another, awake, and the clock runs from when the first one starts to when the last
//! one is done. A run with one thread is made in the same way, so that what threads cost by
//! themselves is in both.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::workload::{self, Operation, Role, Span, State, Table, Workload};

/// What a thread is told to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    Prepare,
    Run,
    Verify,
}

/// What a thread answers.
enum Answer {
    Done,
    Ran { result: u64, started: Instant, ended: Instant },
    Verified(Result<(), String>),
}

struct Worker {
    orders: Sender<Order>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
}

/// Threads that map and unmap.
pub struct Parallel {
    name: String,
    role: Role,
    units: u64,
    workers: Vec<Worker>,
}

impl fmt::Debug for Parallel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parallel").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How many pages a thread maps in one run, about: enough that a scheduler which begins with two
/// threads on one CPU has moved them apart long before the end.
const PAGES: u64 = 1 << 23;
/// The same where each page is a transaction.
const PAGES_ONE_BY_ONE: u64 = 1 << 18;

/// What a span usually has.
const PAGES_USUAL: u64 = 1 << 15;

/// How often a thread maps and unmaps its range in one run. It maps it once more at the end, so
/// that there is something to see.
pub fn repetitions(span: &Span) -> u64 {
    let pages = if span.chunk == 1 { PAGES_ONE_BY_ONE } else { PAGES };
    // A smaller span is a smaller test, not more repetitions.
    pages / span.pages.max(PAGES_USUAL)
}

impl Parallel {
    /// Starts `threads` threads. Each makes its table with `table`, which is given its number.
    pub fn new<T, F>(name: String, role: Role, threads: usize, span: Span, table: F) -> Self
    where
        T: Table,
        F: Fn(usize) -> T + Send + Sync + 'static,
    {
        let table = Arc::new(table);
        let ready = Arc::new(AtomicUsize::new(0));
        let worker = |number: usize| {
            let (orders, inbox) = channel();
            let (outbox, answers) = channel();
            let (table, ready) = (Arc::clone(&table), Arc::clone(&ready));
            let span = span.for_thread(number as u64);
            let thread = thread::spawn(move || {
                let mut seat = Seat { table: table(number), span, threads, ready, result: 0 };
                for order in inbox {
                    // Nobody listens any more once the row is over.
                    let _ = outbox.send(seat.obey(order));
                }
            });
            Worker { orders, answers, thread: Some(thread) }
        };
        let workers = (0..threads).map(worker).collect();
        let units = span.pages * (2 * repetitions(&span) + 1) * threads as u64;
        Self { name, role, units, workers }
    }

    fn ask(&self, order: Order) -> Vec<Answer> {
        for worker in &self.workers {
            worker.orders.send(order).expect("workers listen until they are dropped");
        }
        let answer = |worker: &Worker| worker.answers.recv().expect("a worker panicked");
        self.workers.iter().map(answer).collect()
    }
}

/// A thread's side.
struct Seat<T> {
    table: T,
    span: Span,
    threads: usize,
    /// How many threads have ever arrived at the start.
    ready: Arc<AtomicUsize>,
    result: u64,
}

impl<T: Table> Seat<T> {
    fn obey(&mut self, order: Order) -> Answer {
        match order {
            Order::Prepare => {
                self.table.prepare(State::Nodes, &self.span);
                self.table.rest();
                Answer::Done
            }
            Order::Run => {
                self.wait();
                let started = Instant::now();
                let result = self.run();
                let ended = Instant::now();
                self.result = result;
                self.table.rest();
                Answer::Ran { result, started, ended }
            }
            Order::Verify => Answer::Verified(self.verify()),
        }
    }

    /// Waits until all threads are here. They pass together each time, so the count goes up in
    /// steps of their number.
    fn wait(&self) {
        let mine = self.ready.fetch_add(1, Ordering::AcqRel);
        let all_here = (mine / self.threads + 1) * self.threads;
        while self.ready.load(Ordering::Acquire) < all_here {
            // Two threads may begin on one CPU.
            thread::yield_now();
        }
    }

    fn run(&mut self) -> u64 {
        let mut unmapped = 0;
        for _ in 0..repetitions(&self.span) {
            self.table.run(Operation::Map, &self.span);
            unmapped += self.table.run(Operation::Unmap, &self.span);
        }
        self.table.run(Operation::Map, &self.span);
        unmapped
    }

    fn verify(&self) -> Result<(), String> {
        if self.result != self.span.pages * repetitions(&self.span) {
            return Err(format!("{} pages were unmapped", self.result));
        }
        workload::verify(Operation::Map, State::Nodes, &self.span, &self.table, self.span.pages)
    }
}

impl Workload for Parallel {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn role(&self) -> Role {
        self.role
    }

    fn units(&self) -> u64 {
        self.units
    }

    fn prepare(&mut self) {
        // One after the other: some tables grow without locks.
        for worker in &self.workers {
            worker.orders.send(Order::Prepare).expect("workers listen until they are dropped");
            worker.answers.recv().expect("a worker panicked");
        }
    }

    fn run(&mut self) -> u64 {
        self.timed().0
    }

    fn timed(&mut self) -> (u64, Duration) {
        let mut times: Option<(Instant, Instant)> = None;
        let mut sum = 0;
        for answer in self.ask(Order::Run) {
            let Answer::Ran { result, started, ended } = answer else { continue };
            sum += result;
            let (first, last) = times.unwrap_or((started, ended));
            times = Some((first.min(started), last.max(ended)));
        }
        let (first, last) = times.expect("there is a worker");
        (sum, last - first)
    }

    fn verify(&mut self, _result: u64) -> Result<(), String> {
        let verdict = |answer| match answer {
            Answer::Verified(verdict) => verdict,
            Answer::Done | Answer::Ran { .. } => Err("a worker did something else".to_owned()),
        };
        self.ask(Order::Verify).into_iter().try_for_each(verdict)
    }
}

impl Drop for Parallel {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let (closed, _) = channel();
            worker.orders = closed;
            if let Some(thread) = worker.thread.take() {
                // A worker that panicked has said so already.
                let _ = thread.join();
            }
        }
    }
}
