//! Memory: data races, use after free, leaks, and what is used without being published.

use crate::{expect, failure, outcomes};
use loom::alloc::{Layout, Track, alloc, dealloc};
use loom::cell::{Cell, UnsafeCell};
use loom::sync::Arc;
use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicPtr, AtomicUsize};
use loom::thread;

struct Shared {
    data: UnsafeCell<Vec<u32>>,
    flag: AtomicUsize,
}

#[expect(unsafe_code, reason = "what a cell is for")]
fn publish(order: std::sync::atomic::Ordering) {
    let shared = Arc::new(Shared { data: UnsafeCell::new(Vec::new()), flag: AtomicUsize::new(0) });
    let other = Arc::clone(&shared);
    thread::spawn(move || {
        // SAFETY: the reader waits for the flag.
        other.data.with_mut(|data| unsafe { (*data).push(7) });
        other.flag.store(1, order);
    });
    if shared.flag.load(Acquire) == 1 {
        // SAFETY: the flag says that the writer is done.
        shared.data.with(|data| assert_eq!(unsafe { &*data }, &[7]));
    }
}

#[test]
fn accesses_that_nothing_orders_are_a_race_with_both_places() {
    loom::model(|| publish(Release));
    let message = failure(|| publish(Relaxed));
    let places = ["a plain read", "memory.rs:27", "a plain write", "memory.rs:22"];
    expect(&message, &["Causality violation", "data race"]);
    expect(&message, &places);
}

#[test]
fn a_cell_is_not_entered_twice() {
    let message = failure(|| {
        let cell = UnsafeCell::new(0);
        cell.with(|_| cell.with_mut(|_| ()));
    });
    expect(&message, &["an UnsafeCell is accessed to write while it is being read", "memory.rs"]);
    loom::model(|| {
        let cell = Cell::new(3);
        assert_eq!((cell.replace(4), cell.get()), (3, 4));
        assert_eq!(cell.into_inner(), 4);
    });
}

/// A box in an atomic pointer, taken and freed while another thread may use it.
#[expect(unsafe_code, reason = "what is wrong here is what is tested")]
fn free_while_used(waits: bool) {
    let node = Box::into_raw(Box::new(AtomicUsize::new(1)));
    let shared = Arc::new((AtomicPtr::new(node), AtomicUsize::new(0)));
    let other = Arc::clone(&shared);
    let thread = thread::spawn(move || {
        let taken = other.0.swap(std::ptr::null_mut(), AcqRel);
        if waits {
            while other.1.load(Acquire) == 0 {
                thread::yield_now();
            }
        }
        // SAFETY: none, unless it has waited.
        drop(unsafe { Box::from_raw(taken) });
    });
    let taken = shared.0.load(Acquire);
    if waits || !taken.is_null() {
        if let Some(node) = std::ptr::NonNull::new(taken) {
            thread::yield_now();
            if !waits {
                // The other thread has freed it, in one execution.
                while !shared.0.load(Acquire).is_null() {
                    thread::yield_now();
                }
                thread.join().unwrap();
            }
            // SAFETY: the other thread waits.
            unsafe { node.as_ref() }.store(2, Relaxed);
        }
        shared.1.store(1, Release);
    }
}

#[test]
fn an_object_in_freed_memory_is_not_used() {
    loom::model(|| free_while_used(true));
    let message = failure(|| free_while_used(false));
    let parts = ["use after free: AtomicUsize at", "allocated by thread 0", "freed by thread 1"];
    expect(&message, &parts);
}

#[test]
#[expect(unsafe_code, reason = "what is wrong here is what is tested")]
fn what_has_to_be_freed_is() {
    loom::model(|| drop(Track::new(Arc::new(1))));
    let leaks: [fn(); 3] = [
        || {
            let _ = std::mem::ManuallyDrop::new(Arc::new(1));
        },
        || {
            let _ = std::mem::ManuallyDrop::new(Track::new(1));
        },
        || {
            // SAFETY: the layout is not empty.
            let _ = unsafe { alloc(Layout::new::<u64>()) };
        },
    ];
    for leak in leaks {
        expect(
            &failure(leak),
            &["leak: what was made at tests/facade/memory.rs", "is never freed"],
        );
    }
    loom::model(|| {
        let layout = Layout::new::<u64>();
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc(layout) };
        // SAFETY: it was just allocated.
        unsafe { dealloc(memory, layout) };
    });
}

#[test]
#[expect(unsafe_code, reason = "what is wrong here is what is tested")]
fn an_object_is_published_before_it_is_used() {
    let program = |order| {
        move || {
            let shared = Arc::new(AtomicPtr::new(std::ptr::null_mut::<AtomicUsize>()));
            let other = Arc::clone(&shared);
            thread::spawn(move || {
                other.store(Box::into_raw(Box::new(AtomicUsize::new(5))), order);
            });
            let node = shared.load(Acquire);
            // SAFETY: it is null or a box that is never freed.
            if let Some(node) = unsafe { node.as_ref() } {
                assert_eq!(node.load(Relaxed), 5);
            }
        }
    };
    loom::model(program(Release));
    let message = failure(program(Relaxed));
    expect(&message, &["Causality violation", "the use of AtomicUsize", "its making by thread 1"]);
}

#[test]
fn an_arc_has_one_last_owner_and_takes_over_what_has_no_size() {
    let seen = outcomes(|| {
        let value = Arc::new(1);
        let other = Arc::clone(&value);
        let thread = thread::spawn(move || Arc::into_inner(other).is_some());
        let mine = Arc::into_inner(value).is_some();
        let theirs = thread.join().unwrap();
        assert!(mine != theirs, "the value has not exactly one last owner");
        mine
    });
    assert_eq!(seen, [false, true]);
    loom::model(|| {
        let slice: std::sync::Arc<[u16]> = std::sync::Arc::new([1, 2, 3]);
        let slice = Arc::from_std(slice);
        let shown: Arc<dyn std::fmt::Debug> = Arc::from_std(std::sync::Arc::new(7));
        assert_eq!((&slice[1..], Arc::strong_count(&slice)), (&[2, 3][..], 1));
        assert_eq!(format!("{shown:?}"), "7");
        let mut once = Arc::new(3);
        *Arc::get_mut(&mut once).unwrap() += 1;
        assert_eq!(Arc::try_unwrap(once).unwrap(), 4);
    });
}
