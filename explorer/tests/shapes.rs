//! Shapes that others measure with: as many executions as GenMC publishes for them.
//!
//! The programs are those of GenMC's test suite (Kokologiannakis and Vafeiadis, CAV'21; directory
//! `tests/correct`), with its RC11 counts. GenMC turns a loop that retries into an assumption that
//! the first attempt succeeds, so these do too.

use std::sync::Arc;
use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};

use weft_explorer::{Atomic, Options, Plain, Verdict, assume, explore, fence, spawn};

#[track_caller]
fn expect(name: &str, executions: u64, program: impl Fn() + Send + Sync) {
    for workers in [1, 2] {
        let options = Options { workers, ..Options::default() };
        let report = explore(&options, &program);
        let found = (report.verdict, report.executions);
        assert_eq!(found, (Verdict::Exhausted, executions), "{name}, {workers} workers: {report}");
    }
}

fn words(count: usize, initial: u64) -> Vec<Atomic> {
    (0..count).map(|_| Atomic::new(initial)).collect()
}

/// Spawns threads that share `shared`, and leaves them alone.
fn threads<S: Send + Sync + 'static>(
    count: usize,
    shared: S,
    body: impl Fn(&S, usize) + Copy + Send + 'static,
) {
    let shared = Arc::new(shared);
    for index in 0..count {
        let shared = Arc::clone(&shared);
        spawn(move || body(&shared, index));
    }
}

/// What a lock protects: two threads in it at once would race.
fn section(cell: &Plain<u64>, value: u64) {
    cell.set(value);
    assert_eq!(cell.get(), value);
}

#[test]
fn counters() {
    expect("ainc 6", 720, || {
        threads(6, Atomic::new(0), |word, _| {
            word.fetch_add(1, Relaxed);
        });
    });
    expect("casrot 7", 523, || {
        threads(7, Atomic::new(0), |word, index| {
            let index = index as u64;
            let _ = word.compare_exchange(index, index + 1, Relaxed, Relaxed);
        });
    });
}

#[test]
fn readers_and_writers() {
    expect("readers 2", 4, || {
        threads(3, Atomic::new(0), |word, index| match index {
            0 => word.store(42, Release),
            _ => {
                word.load(Acquire);
            }
        });
    });
    expect("lastzero 5", 64, || {
        threads(6, words(6, 0), |words, index| match index {
            0 => {
                let mut last = words.len() - 1;
                while words[last].load(Acquire) != 0 {
                    last -= 1;
                }
            }
            _ => words[index].store(words[index - 1].load(Acquire) + 1, Release),
        });
    });
    expect("big0", 82_472, || {
        threads(4, words(4, 0), |words, index| {
            let read = |which: &[usize]| {
                for one in which {
                    words[*one].load(Acquire);
                }
            };
            let write = |first: usize| {
                for value in 1..=3 {
                    words[first].store(value, Release);
                    words[first + 1].store(value, Release);
                }
            };
            match index {
                0 => read(&[0, 1, 2, 3, 0, 1, 2]),
                1 => read(&[0, 1, 2]),
                2 => write(0),
                _ => write(2),
            }
        });
    });
}

#[test]
fn fibonacci() {
    expect("fib_bench 5", 525_630, || {
        threads(3, words(2, 1), |words, index| {
            if index == 2 {
                assert!(words[0].load(Acquire) <= 1440 && words[1].load(Acquire) <= 1440);
                return;
            }
            for _ in 0..5 {
                let sum = words[0].load(Acquire) + words[1].load(Acquire);
                words[index].store(sum, Release);
            }
        });
    });
}

#[test]
fn ticket_lock() {
    expect("ticketlock 2", 2, || {
        threads(2, (Atomic::new(0), Atomic::new(0), Plain::new(0)), |lock, index| {
            let ticket = lock.0.fetch_add(1, Relaxed);
            lock.1.await_eq(ticket, Acquire);
            section(&lock.2, index as u64);
            lock.1.store(lock.1.load(Relaxed) + 1, Release);
        });
    });
}

#[test]
fn lock_that_tests_before_it_sets() {
    for (count, executions) in [(2, 4), (3, 36)] {
        expect("ttaslock", executions, || {
            threads(count, (Atomic::new(0), Plain::new(0)), |lock, index| {
                lock.0.await_eq(0, Relaxed);
                assume(lock.0.swap(1, Acquire) == 0);
                section(&lock.1, index as u64);
                lock.0.store(0, Release);
            });
        });
    }
}

const BIAS: u64 = 0x0010_0000;

fn read_locked(lock: &(Atomic, Plain<u64>)) {
    let before = lock.0.fetch_sub(1, Acquire) as i64;
    if before <= 0 {
        lock.0.fetch_add(1, Relaxed);
        assume(false);
    }
    lock.1.get();
    lock.0.fetch_add(1, Release);
}

fn write_locked(lock: &(Atomic, Plain<u64>)) {
    if lock.0.fetch_sub(BIAS, Acquire) != BIAS {
        lock.0.fetch_add(BIAS, Relaxed);
        assume(false);
    }
    lock.1.set(42);
    lock.0.fetch_add(BIAS, Release);
}

#[test]
fn reader_writer_lock() {
    expect("linuxrwlocks", 14, || {
        threads(2, (Atomic::new(BIAS), Plain::new(0)), |lock, _| {
            read_locked(lock);
            write_locked(lock);
        });
    });
}

#[test]
fn lamports_fast_lock() {
    expect("lamport 2", 16, || {
        let shared = (words(3, 0), Atomic::new(0), Atomic::new(0));
        threads(2, shared, |(busy, x, y), index| {
            let (own, me) = (&busy[index + 1], index as u64 + 1);
            loop {
                own.store(1, SeqCst);
                x.store(me, SeqCst);
                if y.load(SeqCst) != 0 {
                    own.store(0, SeqCst);
                    y.await_eq(0, SeqCst);
                    continue;
                }
                y.store(me, SeqCst);
                if x.load(SeqCst) == me {
                    break;
                }
                own.store(0, SeqCst);
                for other in &busy[1..] {
                    other.await_eq(0, SeqCst);
                }
                if y.load(SeqCst) == me {
                    break;
                }
                y.await_eq(0, SeqCst);
            }
            y.store(0, SeqCst);
            own.store(0, SeqCst);
        });
    });
}

/// Peterson's lock as it was written, without the exchange that it needs under RC11: only counted.
fn peterson(store: Ordering, load: Ordering) {
    threads(2, words(4, 0), move |words, index| {
        let (mine, other, turn, x) = (&words[index], &words[1 - index], &words[2], &words[3]);
        mine.store(1, store);
        turn.store(1 - index as u64, store);
        while other.load(load) == 1 && turn.load(load) == 1 - index as u64 {
            turn.wait_for_change();
        }
        x.store(index as u64, store);
        x.load(load);
        mine.store(0, store);
    });
}

#[test]
fn petersons_lock() {
    expect("peterson", 22, || peterson(Release, Acquire));
    expect("peterson-sc", 4, || peterson(SeqCst, SeqCst));
}

#[test]
fn dekkers_lock() {
    expect("dekker_f", 3, || {
        threads(2, words(3, 0), |words, index| {
            words[index].store(1, Relaxed);
            fence(SeqCst);
            if words[1 - index].load(Relaxed) == 0 {
                words[2].store(index as u64, Relaxed);
                assert_eq!(words[2].load(Relaxed), index as u64, "the other thread got in");
            }
        });
    });
}

#[test]
fn szymanskis_lock() {
    expect("szymanski 1", 6, || {
        threads(2, (words(2, 0), Atomic::new(0)), |(flags, shared), index| {
            let (mine, other) = (&flags[index], &flags[1 - index]);
            let announce = |value| {
                mine.store(value, Relaxed);
                fence(SeqCst);
            };
            announce(1);
            assume(other.load(Relaxed) < 3);
            announce(3);
            if other.load(Relaxed) == 1 {
                announce(2);
                assume(other.load(Relaxed) == 4);
            }
            announce(4);
            assume(other.load(Relaxed) < 2);
            shared.store(index as u64, Relaxed);
            shared.load(Relaxed);
            shared.load(Relaxed);
            fence(SeqCst);
            if other.load(Relaxed) >= 2 {
                assume(other.load(Relaxed) > 3);
            }
            mine.store(0, Relaxed);
        });
    });
}

/// Treiber's stack: node numbers with a counter above them, so that no exchange succeeds by chance.
struct Stack {
    top: Atomic,
    next: Vec<Atomic>,
    value: Vec<Plain<u64>>,
    x: Vec<Atomic>,
}

impl Stack {
    fn new() -> Stack {
        let value = (0..13).map(|_| Plain::new(0)).collect();
        Stack { top: Atomic::new(0), next: words(13, 0x666), value, x: words(3, 0) }
    }

    fn push(&self, thread: usize) {
        self.x[thread].store(thread as u64 + 42, Relaxed);
        let node = 1 + thread * 4;
        self.value[node].set(thread as u64);
        loop {
            let top = self.top.load(Acquire);
            self.next[node].store(top, Relaxed);
            let new = ((top >> 32) + 1) << 32 | node as u64;
            if self.top.compare_exchange(top, new, Release, Relaxed).is_ok() {
                return;
            }
        }
    }

    fn pop(&self) {
        let top = self.top.load(Acquire);
        let node = (top & 0xffff_ffff) as usize;
        if node == 0 {
            return;
        }
        let next = self.next[node].load(Relaxed) & 0xffff_ffff;
        let new = ((top >> 32) + 1) << 32 | next;
        assume(self.top.compare_exchange(top, new, Release, Relaxed).is_ok());
        let thread = self.value[node].get();
        if thread != 0 {
            self.x[thread as usize].load(Relaxed);
        }
    }
}

#[test]
fn treibers_stack() {
    expect("treiber-stack 2 writers, 1 reader", 18, || {
        threads(3, Stack::new(), |stack, index| match index {
            2 => stack.pop(),
            _ => stack.push(index),
        });
    });
    expect("treiber-stack 2 threads that do both", 18, || {
        threads(2, Stack::new(), |stack, index| {
            stack.push(index);
            stack.pop();
        });
    });
}

/// A queue of four slots; the upper half of `both` counts reads that have begun, the lower one
/// writes.
struct Queue {
    slots: Vec<Plain<u64>>,
    both: Atomic,
    read: Atomic,
    written: Atomic,
}

impl Queue {
    /// Takes a place, if `next` finds one; returns it with the counters before.
    fn begin(&self, next: fn(u64, u64) -> Option<u64>) -> Option<(u64, u64)> {
        let both = self.both.load(Acquire);
        let (read, written) = (both >> 16, both & 0xffff);
        let new = next(read, written)?;
        assume(self.both.compare_exchange(both, new, AcqRel, Acquire).is_ok());
        Some((read, written))
    }

    fn write(&self) {
        let next = |read, written| (written != read + 4).then_some(read << 16 | (written + 1));
        if let Some((read, written)) = self.begin(next) {
            self.read.await_eq(read, Acquire);
            self.slots[written as usize % 4].set(1);
            self.written.fetch_add(1, Release);
        }
    }

    /// Returns whether there was something to read.
    fn fetch(&self) -> bool {
        let next = |read, written| (written != read).then_some((read + 1) << 16 | written);
        let Some((_, written)) = self.begin(next) else { return false };
        self.written.await_eq(written, Acquire);
        self.read.fetch_add(1, Release);
        true
    }
}

#[test]
fn bounded_queue() {
    expect("mpmc-queue, 1 writer, 1 reader", 3, || {
        let [both, read, written] = [0; 3].map(Atomic::new);
        let slots = (0..4).map(|_| Plain::new(0)).collect();
        let queue = Queue { slots, both, read, written };
        queue.write();
        threads(2, queue, |queue, index| match index {
            0 => queue.write(),
            _ => while queue.fetch() {},
        });
    });
}

/// Michael and Scott's queue, with node numbers and counters as in [`Stack`]; node 0 is none.
struct Linked {
    head: Atomic,
    tail: Atomic,
    next: Vec<Atomic>,
    value: Vec<Plain<u64>>,
}

fn node_of(pointer: u64) -> usize {
    (pointer & 0xffff_ffff) as usize
}

fn counted(pointer: u64, node: usize) -> u64 {
    ((pointer >> 32) + 1) << 32 | node as u64
}

impl Linked {
    fn new() -> Linked {
        let next = (0..10).map(|node| Atomic::new(if node == 1 { 0 } else { 0x666 })).collect();
        let value = (0..10).map(|_| Plain::new(0)).collect();
        Linked { head: Atomic::new(1), tail: Atomic::new(1), next, value }
    }

    fn swing(word: &Atomic, from: u64, to: usize) -> bool {
        word.compare_exchange(from, counted(from, to), Release, Relaxed).is_ok()
    }

    fn enqueue(&self, thread: usize) {
        let node = 2 + thread * 4;
        self.value[node].set(thread as u64 * 10);
        let fresh = self.next[node].load(Relaxed) & !0xffff_ffff;
        self.next[node].store(fresh, Relaxed);
        loop {
            let tail = self.tail.load(Acquire);
            let last = &self.next[node_of(tail)];
            let next = last.load(Acquire);
            if tail != self.tail.load(Relaxed) {
                continue;
            }
            assert_ne!(node_of(next), 0x666, "the node has been made");
            if node_of(next) == 0 && Linked::swing(last, next, node) {
                Linked::swing(&self.tail, tail, node);
                return;
            }
            let next = node_of(last.load(Acquire));
            Linked::swing(&self.tail, tail, next);
        }
    }

    fn dequeue(&self) -> Option<u64> {
        loop {
            let head = self.head.load(Acquire);
            let tail = self.tail.load(Acquire);
            let next = node_of(self.next[node_of(head)].load(Acquire));
            // GenMC takes this round for one without effect.
            assume(self.head.load(Relaxed) == head);
            if node_of(head) != node_of(tail) {
                let value = self.value[next].get();
                assume(Linked::swing(&self.head, head, next));
                return Some(value);
            }
            assert_ne!(next, 0x666, "the node has been made");
            if next == 0 {
                return None;
            }
            Linked::swing(&self.tail, tail, next);
        }
    }
}

#[test]
fn linked_queue() {
    expect("ms-queue, 2 threads that do both", 50, || {
        threads(2, Linked::new(), |queue, index| {
            queue.enqueue(index);
            queue.dequeue();
        });
    });
}
