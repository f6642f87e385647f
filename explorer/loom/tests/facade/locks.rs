//! What threads wait with: locks, condition variables, barriers, channels, notifications.

use crate::{expect, failure, outcomes};
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::Relaxed;
use loom::sync::{Arc, Barrier, Condvar, Mutex, Notify, RwLock, mpsc};
use loom::thread;

#[test]
fn a_mutex_lets_one_thread_in_and_passes_on_what_it_did() {
    loom::model(|| {
        let shared = Arc::new(Mutex::new(Vec::new()));
        let others = [1, 2].map(|value| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.lock().unwrap().push(value))
        });
        others.into_iter().for_each(|other| other.join().unwrap());
        let mut seen = std::mem::take(&mut *shared.lock().unwrap());
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
    });
}

#[test]
fn try_lock_fails_while_another_thread_has_the_mutex() {
    let seen = outcomes(|| {
        let shared = Arc::new(Mutex::new(0));
        let other = Arc::clone(&shared);
        let thread = thread::spawn(move || *other.lock().unwrap() += 1);
        let got = shared.try_lock().map(|value| *value).ok();
        thread.join().unwrap();
        got
    });
    assert_eq!(seen, [None, Some(0), Some(1)]);
}

#[test]
fn locks_in_two_orders_are_a_deadlock() {
    let message = failure(|| {
        let locks = Arc::new((Mutex::new(()), Mutex::new(())));
        let other = Arc::clone(&locks);
        thread::spawn(move || {
            let _second = other.1.lock();
            let _first = other.0.lock();
        });
        let _first = locks.0.lock();
        let _second = locks.1.lock();
    });
    expect(&message, &["deadlock", "thread 0 waits", "thread 1 waits", "facade/locks.rs"]);
}

#[test]
fn readers_share_and_writers_do_not() {
    let seen = outcomes(|| {
        let lock = Arc::new((RwLock::new(0), AtomicUsize::new(0)));
        let others = [0, 1].map(|_| {
            let lock = Arc::clone(&lock);
            thread::spawn(move || {
                let value = lock.0.read().unwrap();
                let before = lock.1.fetch_add(1, Relaxed);
                lock.1.fetch_sub(1, Relaxed);
                (*value, before)
            })
        });
        {
            let mut value = lock.0.write().unwrap();
            assert_eq!(lock.1.fetch_add(8, Relaxed), 0, "a reader is in");
            *value += 1;
            lock.1.fetch_sub(8, Relaxed);
        }
        let seen = others.map(|other| other.join().unwrap());
        assert!(seen.iter().all(|(_, before)| *before < 2), "the writer is in");
        seen.iter().map(|(_, before)| before).sum::<usize>()
    });
    assert_eq!(seen, [0, 1], "both readers may be in");
}

/// A queue of one, under a mutex, with a condition variable.
struct Slot {
    full: Mutex<bool>,
    changed: Condvar,
}

fn take(slot: &Slot) {
    let mut full = slot.full.lock().unwrap();
    while !*full {
        full = slot.changed.wait(full).unwrap();
    }
    *full = false;
}

fn pass_twice(notify: fn(&Condvar)) {
    let slot = Arc::new(Slot { full: Mutex::new(false), changed: Condvar::new() });
    let taker = Arc::clone(&slot);
    let thread = thread::spawn(move || take(&taker));
    *slot.full.lock().unwrap() = true;
    notify(&slot.changed);
    thread.join().unwrap();
}

#[test]
fn a_wait_ends_with_a_notification_and_a_lost_one_is_a_deadlock() {
    loom::model(|| pass_twice(Condvar::notify_one));
    loom::model(|| pass_twice(Condvar::notify_all));
    let message = failure(|| pass_twice(|_| ()));
    expect(&message, &["deadlock", "thread 1 waits"]);
}

#[test]
fn one_notification_is_for_one_of_two_threads() {
    let program = |notify: fn(&Condvar)| {
        move || {
            let slot = Arc::new(Slot { full: Mutex::new(false), changed: Condvar::new() });
            let waiters = [0, 1].map(|_| {
                let slot = Arc::clone(&slot);
                thread::spawn(move || {
                    let mut open = slot.full.lock().unwrap();
                    while !*open {
                        open = slot.changed.wait(open).unwrap();
                    }
                })
            });
            *slot.full.lock().unwrap() = true;
            notify(&slot.changed);
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        }
    };
    loom::model(program(Condvar::notify_all));
    expect(&failure(program(Condvar::notify_one)), &["deadlock"]);
}

#[test]
fn a_barrier_lets_all_pass_together_and_has_one_leader() {
    loom::model(|| {
        let shared = Arc::new((Barrier::new(2), AtomicUsize::new(0)));
        let other = Arc::clone(&shared);
        let cross = |shared: &(Barrier, AtomicUsize)| {
            shared.1.fetch_add(1, Relaxed);
            let first = shared.0.wait().is_leader();
            assert!(shared.1.load(Relaxed) >= 2, "a thread has passed alone");
            shared.1.fetch_add(1, Relaxed);
            shared.0.wait();
            assert_eq!(shared.1.load(Relaxed), 4);
            first
        };
        let thread = thread::spawn(move || cross(&other));
        let mine = cross(&shared);
        assert_ne!(thread.join().unwrap(), mine);
    });
    let alone = || {
        Barrier::new(2).wait();
    };
    expect(&failure(alone), &["deadlock"]);
}

#[test]
fn a_channel_ends_when_its_senders_are_gone() {
    let seen = outcomes(|| {
        let (sender, receiver) = mpsc::channel();
        let others = [1, 2].map(|value| {
            let sender = sender.clone();
            thread::spawn(move || sender.send(value).unwrap())
        });
        drop(sender);
        let seen = (receiver.recv().unwrap(), receiver.recv().unwrap());
        assert_eq!(receiver.recv(), Err(mpsc::RecvError));
        others.into_iter().for_each(|other| other.join().unwrap());
        seen
    });
    assert_eq!(seen, [(1, 2), (2, 1)]);
    let message = failure(|| {
        let (_sender, receiver) = mpsc::channel::<()>();
        let _ = receiver.recv();
    });
    expect(&message, &["deadlock", "facade/locks.rs"]);
}

#[test]
fn a_channel_without_a_receiver_gives_messages_back() {
    loom::model(|| {
        let (sender, receiver) = mpsc::channel();
        assert_eq!(receiver.try_recv(), Err(mpsc::TryRecvError::Empty));
        sender.send(1).unwrap();
        assert_eq!(receiver.try_recv(), Ok(1));
        drop(receiver);
        assert_eq!(sender.send(2), Err(mpsc::SendError(2)));
    });
}

#[test]
fn a_notification_is_kept_until_it_is_waited_for() {
    let program = |notifies: bool| {
        move || {
            let notify = Arc::new(Notify::new());
            let other = Arc::clone(&notify);
            let thread = thread::spawn(move || other.wait());
            if notifies {
                notify.notify();
            }
            thread.join().unwrap();
        }
    };
    loom::model(program(true));
    expect(&failure(program(false)), &["deadlock"]);
}
