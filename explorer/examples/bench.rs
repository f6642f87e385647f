//! Executions, time and memory of locks and litmus shapes, as a table.
//!
//! `cargo run --release -p weft-explorer --example bench [-- --large] [-- --workers <n>]`

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use weft_explorer::{Atomic, JoinHandle, Mutex, Options, Report, explore, spawn};

type Body = Arc<dyn Fn() + Send + Sync>;

/// Runs one body per thread, the first one on the main thread.
fn run_threads(count: usize, body: &Body) {
    let others: Vec<JoinHandle<()>> = (1..count)
        .map(|_| {
            let body = Arc::clone(body);
            spawn(move || body())
        })
        .collect();
    body();
    for other in others {
        other.join();
    }
}

fn mutex(threads: usize, rounds: usize) {
    let counter = Arc::new(Mutex::new(0));
    let shared = Arc::clone(&counter);
    let body: Body = Arc::new(move || (0..rounds).for_each(|_| shared.with(|value| *value += 1)));
    run_threads(threads, &body);
    counter.with(|value| assert_eq!(*value, threads * rounds, "no increment is lost"));
}

fn increment(counter: &Atomic) {
    let value = counter.load(Relaxed);
    counter.store(value + 1, Relaxed);
}

fn ticket_lock(threads: usize, rounds: usize) {
    let words = Arc::new((Atomic::new(0), Atomic::new(0), Atomic::new(0)));
    let shared = Arc::clone(&words);
    let body: Body = Arc::new(move || {
        for _ in 0..rounds {
            let ticket = shared.0.fetch_add(1, Relaxed);
            shared.1.await_eq(ticket, Acquire);
            increment(&shared.2);
            shared.1.store(ticket + 1, Release);
        }
    });
    run_threads(threads, &body);
    assert_eq!(words.2.load(Relaxed), (threads * rounds) as u64, "no increment is lost");
}

fn exchange_lock(threads: usize, rounds: usize, acquire: fn(&Atomic)) {
    let words = Arc::new((Atomic::new(0), Atomic::new(0)));
    let shared = Arc::clone(&words);
    let body: Body = Arc::new(move || {
        for _ in 0..rounds {
            acquire(&shared.0);
            increment(&shared.1);
            shared.0.store(0, Release);
        }
    });
    run_threads(threads, &body);
    assert_eq!(words.1.load(Relaxed), (threads * rounds) as u64, "no increment is lost");
}

fn awaiting(word: &Atomic) {
    word.await_cas(0, 1, Acquire);
}

fn spinning(word: &Atomic) {
    while word.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
        word.wait_for_change();
    }
}

/// Two writers, and two readers that load both words in opposite orders.
fn iriw() {
    let words = Arc::new((Atomic::new(0), Atomic::new(0)));
    let (first, second, reader) = (Arc::clone(&words), Arc::clone(&words), Arc::clone(&words));
    let others = [
        spawn(move || first.0.store(1, Release)),
        spawn(move || second.1.store(1, Release)),
        spawn(move || {
            reader.0.load(Acquire);
            reader.1.load(Acquire);
        }),
    ];
    words.1.load(Acquire);
    words.0.load(Acquire);
    for other in others {
        other.join();
    }
}

/// Two writers of one word, and two readers that load it twice.
fn coherence() {
    let word = Arc::new(Atomic::new(0));
    let writers = [1, 2].map(|value| {
        let word = Arc::clone(&word);
        spawn(move || word.store(value, Relaxed))
    });
    let reader = Arc::clone(&word);
    let reader = spawn(move || (reader.load(Relaxed), reader.load(Relaxed)));
    word.load(Relaxed);
    word.load(Relaxed);
    writers.into_iter().for_each(JoinHandle::join);
    reader.join();
}

fn peak_memory_kib() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM: ?");
    line.split_whitespace().nth(1).unwrap_or("?").to_owned()
}

fn print(name: &str, report: &Report) {
    let seconds = report.elapsed.as_secs_f64();
    println!(
        "{name:<16} {:>10} {:>9} {:>9} {:>9} {:>10.2} ms {:>8.0}/s {:>6} kB  {}",
        report.executions,
        report.blocked,
        report.redundant,
        report.conflicts,
        seconds * 1e3,
        report.runs as f64 / seconds,
        peak_memory_kib(),
        report.verdict
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let is_large = arguments.iter().any(|argument| argument == "--large");
    let workers = arguments.iter().position(|argument| argument == "--workers");
    let workers = workers.and_then(|index| arguments.get(index + 1)?.parse().ok()).unwrap_or(1);
    let options = Options { workers, ..Options::default() };
    println!(
        "{:<16} {:>10} {:>9} {:>9} {:>9} {:>13} {:>10} {:>9}",
        "program", "executions", "blocked", "redundant", "conflicts", "time", "runs", "peak RSS"
    );
    let mut sizes = vec![(2, 1), (2, 2), (3, 1), (3, 2), (4, 1), (4, 2), (5, 1)];
    if is_large {
        sizes.extend([(3, 3), (6, 1), (5, 2)]);
    }
    for (threads, rounds) in sizes {
        let size = format!("{threads}x{rounds}");
        let title = |name| format!("{name} {size}");
        print(&title("mutex"), &explore(&options, || mutex(threads, rounds)));
        if threads * rounds < 8 {
            print(&title("ticket"), &explore(&options, || ticket_lock(threads, rounds)));
        }
        let program = || exchange_lock(threads, rounds, awaiting);
        print(&title("cas await"), &explore(&options, program));
        let program = || exchange_lock(threads, rounds, spinning);
        print(&title("cas spin"), &explore(&options, program));
    }
    print("iriw", &explore(&options, iriw));
    print("corr2", &explore(&options, coherence));
}
