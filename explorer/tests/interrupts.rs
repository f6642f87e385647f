//! Handlers of interrupts: what they are ordered with, and what they are not.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::sync::{Arc, Mutex as Shared};

use weft_explorer::{
    Atomic, FailureKind, Model, Mutex, Options, Verdict, Window, choose, explore, fence, spawn,
};

/// What the program returns in its executions.
fn outcomes<T: Ord + Send>(model: Model, program: impl Fn() -> T + Send + Sync) -> BTreeSet<T> {
    let seen = Shared::new(BTreeSet::new());
    let options = Options { model, find_duplicates: true, ..Options::default() };
    let report = explore(&options, || {
        let outcome = program();
        seen.lock().expect("no test panics with the lock").insert(outcome);
    });
    assert_eq!((report.verdict, report.duplicates), (Verdict::Exhausted, 0), "{model}");
    seen.into_inner().expect("no test panics with the lock")
}

/// A CPU that can be interrupted: how often it was, and whether its own thread has been there.
#[derive(Clone, Default)]
struct Cpu {
    interrupted: u32,
    has_published: bool,
}

/// How the sender changes the data of the others.
#[derive(Clone, Copy)]
enum Way {
    Interrupt,
    /// The version that is too strong: it is ordered with everything that the sender does.
    Lock,
}

fn send(cpu: &Mutex<Cpu>, sent: &Window, way: Way) -> bool {
    let handle = |data: &mut Cpu| {
        data.interrupted += 1;
        data.has_published
    };
    match way {
        Way::Interrupt => cpu.interrupt(sent, |data, _| handle(data)),
        Way::Lock => cpu.with(handle),
    }
}

/// The first CPU publishes `word` with interrupts masked. Whether the sender found that done, and
/// what the second CPU reads after its own interrupt.
fn two_targets(way: Way) -> (bool, Option<u64>) {
    let shared = Arc::new((
        Atomic::named("word", 0),
        Mutex::named("cpu 1", Cpu::default()),
        Mutex::named("cpu 2", Cpu::default()),
    ));
    let first = Arc::clone(&shared);
    let publisher = spawn(move || {
        let mut cpu = first.1.lock();
        first.0.store(1, Relaxed);
        cpu.has_published = true;
    });
    let second = Arc::clone(&shared);
    let reader = spawn(move || {
        let is_interrupted = second.2.lock().interrupted > 0;
        is_interrupted.then(|| second.0.load(Relaxed))
    });
    let sent = Window::open();
    let was_published = send(&shared.1, &sent, way);
    send(&shared.2, &sent, way);
    fence(SeqCst);
    publisher.join();
    (was_published, reader.join())
}

#[test]
fn a_target_does_not_learn_what_only_another_target_knew() {
    for model in Model::ALL {
        let seen = outcomes(model, || two_targets(Way::Interrupt));
        assert!(seen.contains(&(true, Some(0))), "{model}: {seen:?}");
        assert!(seen.contains(&(true, Some(1))), "{model}: {seen:?}");
        let seen = outcomes(model, || two_targets(Way::Lock));
        assert!(!seen.contains(&(true, Some(0))), "{model}: a lock is too strong, so this tests");
    }
}

#[test]
fn the_sender_learns_by_its_next_acquire_fence() {
    let program = |is_fenced: bool| {
        move || {
            let shared = Arc::new((Atomic::new(0), Mutex::new(Cpu::default())));
            let first = Arc::clone(&shared);
            let publisher = spawn(move || {
                let mut cpu = first.1.lock();
                first.0.store(1, Relaxed);
                cpu.has_published = true;
            });
            let was_published = send(&shared.1, &Window::open(), Way::Interrupt);
            if is_fenced {
                fence(Acquire);
            }
            let read = shared.0.load(Relaxed);
            publisher.join();
            (was_published, read)
        }
    };
    for model in Model::ALL {
        assert!(outcomes(model, program(false)).contains(&(true, 0)), "{model}: not before");
        assert!(!outcomes(model, program(true)).contains(&(true, 0)), "{model}: but then");
    }
}

#[test]
fn the_holder_learns_what_was_known_when_the_interrupt_was_sent() {
    let program = |is_sent_first: bool| {
        move || {
            let shared = Arc::new((Atomic::new(0), Mutex::new(Cpu::default())));
            let first = Arc::clone(&shared);
            let holder = spawn(move || {
                let is_interrupted = first.1.lock().interrupted > 0;
                (is_interrupted, first.0.load(Relaxed))
            });
            let early = Window::open();
            shared.0.store(1, Relaxed);
            let sent = if is_sent_first { early } else { Window::open() };
            send(&shared.1, &sent, Way::Interrupt);
            holder.join()
        }
    };
    for model in Model::ALL {
        let learns_nothing = outcomes(model, program(false)).contains(&(true, 0));
        assert!(!learns_nothing, "{model}: what was known then is learnt");
        let learns_no_more = outcomes(model, program(true)).contains(&(true, 0));
        assert!(learns_no_more, "{model}: and no more than that");
    }
}

#[test]
fn a_handler_loads_for_the_holder_and_not_for_the_sender() {
    // The sender has read the newer value after it has sent; the handler need not see it.
    for model in Model::ALL {
        let seen = outcomes(model, || {
            let shared = Arc::new((Atomic::new(0), Mutex::new(Cpu::default())));
            let sent = Window::open();
            shared.0.store(1, Relaxed);
            let read = shared.1.interrupt(&sent, |_, here| shared.0.load_within(here, |_| true));
            fence(SeqCst);
            (read, shared.0.load(Relaxed))
        });
        assert_eq!(seen, BTreeSet::from([(0, 1), (1, 1)]), "{model}");
    }
}

#[test]
fn a_window_of_the_handler_is_the_holder_s() {
    // What the holder knew before the interrupt, it does not forget by it.
    for model in Model::ALL {
        let seen = outcomes(model, || {
            let shared = Arc::new((Atomic::new(1), Mutex::new((Window::default(), 0))));
            let first = Arc::clone(&shared);
            let holder = spawn(move || {
                let mut cpu = first.1.lock();
                first.0.swap(2, Relaxed);
                cpu.1 += 1;
                drop(cpu);
                let (mut window, stage) = *first.1.lock();
                (stage, first.0.load_within(&mut window, |_| true))
            });
            shared.1.interrupt(&Window::open(), |cpu, here| {
                *cpu = if cpu.1 == 1 { (*here, 2) } else { *cpu };
            });
            fence(SeqCst);
            holder.join()
        });
        assert_eq!(seen, BTreeSet::from([(1, 1), (1, 2), (2, 2)]), "{model}");
    }
}

#[test]
fn the_order_of_all_writes_passes_through_a_handler() {
    for model in Model::ALL {
        let seen = outcomes(model, || {
            let words = (Atomic::new(0), Atomic::new(0));
            let shared = Arc::new((words, Mutex::new(Cpu::default())));
            let first = Arc::clone(&shared);
            let writer = spawn(move || {
                first.0.0.store(1, Relaxed);
                first.0.1.store(1, Relaxed);
            });
            let second = Arc::clone(&shared);
            let holder = spawn(move || {
                let mut cpu = second.1.lock();
                cpu.has_published = second.0.1.load(Relaxed) == 1;
            });
            let has_seen = send(&shared.1, &Window::open(), Way::Interrupt);
            fence(Acquire);
            let read = shared.0.0.load(Relaxed);
            writer.join();
            holder.join();
            (has_seen, read)
        });
        let is_ordered = !seen.contains(&(true, 0));
        assert_eq!(is_ordered, model != Model::Rc11, "{model}: {seen:?}");
    }
}

#[test]
fn taking_a_mutex_drains_no_store_buffer() {
    for model in Model::ALL {
        let seen = outcomes(model, || {
            let words = Arc::new((Atomic::new(0), Atomic::new(0)));
            let access = |own: &Atomic, other: &Atomic, cpu: &Mutex<()>| {
                own.store(1, Relaxed);
                let _held = cpu.lock();
                other.load(Acquire)
            };
            let cpus = Arc::new((Mutex::new(()), Mutex::new(())));
            let (shared, held) = (Arc::clone(&words), Arc::clone(&cpus));
            let other = spawn(move || access(&shared.0, &shared.1, &held.0));
            (access(&words.1, &words.0, &cpus.1), other.join())
        });
        assert_eq!(seen.contains(&(0, 0)), model != Model::Sc, "{model}: both are overtaken");
    }
}

#[test]
fn masked_cpus_that_interrupt_each_other_wait_for_ever() {
    let program = |is_masked: bool| {
        move || {
            let cpus = Arc::new([Mutex::new(Cpu::default()), Mutex::new(Cpu::default())]);
            let body = move |cpus: Arc<[Mutex<Cpu>; 2]>, own: usize| {
                let masked = is_masked.then(|| cpus[own].lock());
                send(&cpus[1 - own], &Window::open(), Way::Interrupt);
                fence(SeqCst);
                drop(masked);
            };
            let shared = Arc::clone(&cpus);
            let other = spawn(move || body(shared, 1));
            body(Arc::clone(&cpus), 0);
            other.join();
        }
    };
    let report = explore(&Options::default(), program(false));
    assert_eq!((report.verdict, report.executions), (Verdict::Exhausted, 1));
    let failure = explore(&Options::default(), program(true)).failure.expect("a deadlock");
    assert_eq!(failure.kind, FailureKind::Deadlock);
    assert!(failure.message.contains("waits at an interrupt of m"), "{}", failure.message);
}

#[test]
fn a_trace_tells_the_parts_of_a_handler() {
    let report = explore(&Options::default(), || {
        let cpu = Mutex::named("cpu 1", Cpu::default());
        send(&cpu, &Window::open(), Way::Interrupt);
        assert_eq!(cpu.lock().interrupted, 0, "it was interrupted");
    });
    let told = report.failure.expect("it fails").trace.to_string();
    let parts = ["T0.0 interrupt cpu 1", "T0.1 has interrupted cpu 1", "T0.2 return cpu 1"];
    let found = parts.map(|part| told.find(part).unwrap_or_else(|| panic!("{part}: {told}")));
    assert!(found.is_sorted(), "{told}");
}

/// The second CPU sets a flag after its interrupt; the first one looks for it before its own.
fn handlers_in_order(is_chosen: bool) -> bool {
    let shared =
        Arc::new((Atomic::new(0), [Mutex::new(Cpu::default()), Mutex::new(Cpu::default())]));
    let first = Arc::clone(&shared);
    let early = spawn(move || {
        let cpu = first.1[0].lock();
        cpu.interrupted == 0 && first.0.load(Relaxed) == 1
    });
    let second = Arc::clone(&shared);
    let late = spawn(move || {
        if second.1[1].lock().interrupted > 0 {
            second.0.store(1, Relaxed);
        }
    });
    let sent = Window::open();
    let order = if is_chosen && choose(2) == 1 { [1, 0] } else { [0, 1] };
    for cpu in order {
        send(&shared.1[cpu], &sent, Way::Interrupt);
    }
    fence(SeqCst);
    late.join();
    early.join()
}

#[test]
fn the_order_of_handlers_is_that_of_the_calls_unless_it_is_chosen() {
    // What the documentation of `interrupt` warns of, and what it advises.
    for model in Model::ALL {
        assert!(!outcomes(model, || handlers_in_order(false)).contains(&true), "{model}");
        assert!(outcomes(model, || handlers_in_order(true)).contains(&true), "{model}");
    }
}
