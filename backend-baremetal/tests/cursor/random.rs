//! Random programs, against the specification; and what a fuzzer would make of random bytes.
//!
//! The programs are the same in every run, unless `PROPTEST_RNG_SEED` says otherwise; how many
//! there are is for `PROPTEST_CASES` to say. Without it they take some seconds, unoptimised.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config as Settings, RngSeed, TestRunner};
use weft_core::format::PageFlags;
use weft_core::geometry::{FourLevels, TinyThree};
use weft_scenarios::random::Random;

use crate::architecture::{Architecture, Sv39, Sv48};
use crate::interpreter::{reached, run, run_bytes};
use crate::program::{Change, Operation, Place, Program, Rights, Span, Step, Transaction, Way};
use crate::watched::start;

/// Enough for everything that one program can map.
const FRAMES: u64 = 1 << 15;
/// A table of two entries to a node costs next to nothing, and has few places for anything.
const CASES: u32 = 80;
const TINY_CASES: u32 = 300;

/// Of rights: a mark is made.
const MARK: u16 = PageFlags::MARK.bits();

/// What programs have to get into: a situation that was not tried has not been checked.
const SITUATIONS: [&str; 44] = [
    "no memory for a range",
    "page mapped",
    "huge mapped",
    "mapped at the end",
    "mapped over",
    "mapped too long",
    "mapped misaligned",
    "mapped a misfit",
    "no memory to map",
    "many mapped",
    "many refused",
    "many rolled back",
    "no memory to map many",
    "replaced",
    "replaced by a mark",
    "a mark replaced",
    "a mark split",
    "withheld",
    "given back",
    "a part replaced",
    "nothing to replace",
    "no memory to replace",
    "a page taken",
    "a part taken",
    "a node taken",
    "no memory to take",
    "a page protected",
    "a part protected",
    "no memory to protect the next",
    "a range changed",
    "no memory for a range of parts",
    "split",
    "no memory to split",
    "moved",
    "a huge page moved",
    "parts moved",
    "moved nothing",
    "moved onto itself",
    "moved onto something",
    "no memory to move",
    "merged",
    "merged no node",
    "merged unlike pages",
    "merged owners",
];

fn places() -> impl Strategy<Value = Place> {
    prop_oneof![
        8 => (any::<[u8; 5]>(), prop_oneof![3 => Just(0), 1 => -2..3_i8])
            .prop_map(|(indices, pages)| Place::Indices(indices, pages)),
        4 => any::<u8>().prop_map(Place::Within),
        6 => (0..6_u8).prop_map(Place::Ahead),
        2 => (0..4_u8).prop_map(Place::Back),
        2 => (0..3_u8).prop_map(Place::Aligned),
        2 => Just(Place::Start),
        4 => Just(Place::End),
        1 => any::<u64>().prop_map(Place::Raw),
    ]
}

fn spans() -> impl Strategy<Value = Span> {
    prop_oneof![
        6 => (places(), places()).prop_map(|(one, other)| Span::Between(one, other)),
        6 => (places(), any::<u8>(), any::<u8>())
            .prop_map(|(start, level, count)| Span::Entries { start, level, count }),
        1 => (any::<u64>(), any::<u64>()).prop_map(|(start, end)| Span::Raw(start, end)),
    ]
}

fn rights() -> impl Strategy<Value = Rights> {
    // Few of them, so that neighbours are alike often enough.
    let flags = prop_oneof![
        4 => Just(1_u16), 2 => Just(0x31_u16), 1 => Just(0x101_u16), 1 => Just(0x201_u16),
        1 => any::<u16>(),
    ];
    (flags, prop_oneof![4 => Just(0_u8), 1 => any::<u8>()])
        .prop_map(|(flags, cache)| Rights { flags, cache })
}

fn changes() -> impl Strategy<Value = Change> {
    let bits = || prop_oneof![Just(0), Just(1), Just(0x30), Just(0x100), any::<u16>()];
    (bits(), bits(), weighted(0.2, any::<u8>())).prop_map(|(clears, sets, cache)| Change {
        clears,
        sets,
        cache,
    })
}

fn merges() -> impl Strategy<Value = Operation> {
    any::<(u8, bool)>().prop_map(|(part, writes)| Operation::Merge { part, writes })
}

fn operations() -> impl Strategy<Value = Operation> {
    prop_oneof![
        2 => Just(Operation::Query),
        2 => Just(Operation::FindNext),
        6 => places().prop_map(Operation::Jump),
        1 => places().prop_map(Operation::Visit),
        8 => (prop_oneof![9 => 0..4_u8, 1 => any::<u8>()], places(), rights())
            .prop_map(|(level, frame, rights)| Operation::Map { level, frame, rights }),
        3 => rights().prop_map(Operation::MapTracked),
        4 => (places(), 0..4_u16, rights(), weighted(0.5, rights()), weighted(0.2, 0..4_u8))
            .prop_map(|(end, frame, rights, others, misfit)| {
                Operation::MapPages { end, frame, rights, others, misfit }
            }),
        2 => (places(), rights(), weighted(0.5, rights()))
            .prop_map(|(end, rights, others)| Operation::MapTrackedPages { end, rights, others }),
        4 => (weighted(0.6, 0..4_u8), places(), rights())
            .prop_map(|(level, frame, rights)| Operation::Replace { level, frame, rights }),
        4 => Just(Operation::TakeNext),
        3 => places().prop_map(Operation::Unmap),
        3 => changes().prop_map(Operation::ProtectNext),
        3 => (places(), changes()).prop_map(|(end, change)| Operation::Protect(end, change)),
        2 => Just(Operation::Split),
        3 => (places(), places()).prop_map(|(end, to)| Operation::Move { end, to }),
        2 => merges(),
        1 => Just(Operation::Flush),
        3 => (places(), any::<bool>())
            .prop_map(|(at, writes)| Operation::Hardware { at, writes }),
    ]
}

fn failure(probability: f64) -> impl Strategy<Value = Option<u8>> {
    // The first one most often: many operations need no second.
    weighted(probability, prop_oneof![1 => Just(0), 1 => 0..4_u8])
}

fn step(operation: Operation) -> Step {
    Step { operation, failure: None }
}

/// What is done in a row: most often one operation.
fn phrases() -> impl Strategy<Value = Vec<Step>> {
    let alone = (operations(), failure(0.15))
        .prop_map(|(operation, failure)| vec![Step { operation, failure }]);
    // A huge page needs a place where it can begin.
    let huge = || {
        (0..4_u8, places(), rights()).prop_map(|(level, frame, rights)| {
            let map = Operation::Map { level, frame, rights };
            vec![step(Operation::Jump(Place::Aligned(level))), step(map)]
        })
    };
    let partial = prop_oneof![
        Just(Operation::TakeNext),
        rights().prop_map(|rights| Operation::Replace { level: None, frame: Place::Start, rights }),
        rights().prop_map(|rights| {
            let rights = Rights { flags: rights.flags | MARK, ..rights };
            Operation::Replace { level: Some(0), frame: Place::Start, rights }
        }),
        changes().prop_map(Operation::ProtectNext),
        (1..5_u8).prop_map(|pages| Operation::Unmap(Place::Ahead(pages))),
        (1..5_u8, changes())
            .prop_map(|(pages, change)| Operation::Protect(Place::Ahead(pages), change)),
        Just(Operation::Split),
    ];
    // Some of it: the cursor is behind the page when that is mapped.
    let part = (huge(), 1..5_u8, partial, failure(0.4)).prop_map(
        |(mut steps, pages, operation, failure)| {
            steps.push(step(Operation::Jump(Place::Back(pages))));
            steps.push(Step { operation, failure });
            steps
        },
    );
    // Parts, and all of them together again.
    let whole = (huge(), merges()).prop_map(|(mut steps, merge)| {
        let back = Operation::Jump(Place::Back(1));
        steps.extend([back, Operation::Split, merge].map(step));
        steps
    });
    // What was mapped goes elsewhere: to where it is aligned, or not.
    let shifts = (0..4_u8, places(), rights(), -3..4_i8, failure(0.3));
    let shifted = shifts.prop_map(|(level, frame, rights, count, failure)| {
        let map = Operation::Map { level, frame, rights };
        let back = Operation::Jump(Place::Entries(level, -1));
        let (end, to) = (Place::Entries(level, 1), Place::Entries(level, count));
        let steps = [Operation::Jump(Place::Aligned(level)), map, back].map(step);
        let mut steps = steps.to_vec();
        steps.push(Step { operation: Operation::Move { end, to }, failure });
        steps
    });
    let moved = (huge(), 1..7_u8, places(), 1..7_u8, failure(0.3)).prop_map(
        |(mut steps, back, to, pages, failure)| {
            steps.push(step(Operation::Jump(Place::Back(back))));
            let operation = Operation::Move { end: Place::Ahead(pages), to };
            steps.push(Step { operation, failure });
            steps
        },
    );
    // Huge pages of different rights next to each other, and all of them changed at once.
    let several =
        (0..4_u8, vec((places(), rights()), 2..4), changes()).prop_map(|(level, pages, change)| {
            let map = |(frame, rights)| step(Operation::Map { level, frame, rights });
            let mut steps = vec![step(Operation::Jump(Place::Aligned(level)))];
            steps.extend(pages.into_iter().map(map));
            steps.extend(
                [Operation::Jump(Place::Start), Operation::Protect(Place::End, change)].map(step),
            );
            steps
        });
    // Boxed: a strategy is as large as all that it is made of, and lies on the stack.
    let common = prop_oneof![12 => alone.boxed(), 3 => huge().boxed(), 3 => part.boxed()];
    let moved = prop_oneof![1 => moved.boxed(), 3 => shifted.boxed()];
    prop_oneof![18 => common.boxed(), 5 => moved.boxed(), 1 => whole.boxed(), 1 => several.boxed()]
}

fn programs() -> impl Strategy<Value = Program> {
    let way = prop_oneof![
        6 => Just(Way::Lock),
        2 => Just(Way::TryLock),
        1 => Just(Way::Shared),
        1 => (0..7_u8).prop_map(Way::Covering),
    ];
    let transaction = (spans(), way, failure(0.15), vec(phrases(), 0..9), any::<bool>()).prop_map(
        |(range, way, failure, phrases, quiesces)| {
            let steps = phrases.concat();
            Transaction { range, way, failure, steps, quiesces }
        },
    );
    vec(transaction, 1..25).prop_map(|transactions| Program { transactions })
}

fn cursors_do_as_specified<G: Architecture>() {
    let mut settings = Settings::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        settings.cases = if G::ENTRIES == 2 { TINY_CASES } else { CASES };
    }
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        settings.rng_seed = RngSeed::Fixed(0x57_6566_7422);
    }
    settings.failure_persistence = None;
    if std::env::var_os("PROPTEST_MAX_SHRINK_ITERS").is_none() {
        settings.max_shrink_iters = 2000;
    }
    // The mapping of a machine is never given back, so all programs run on one.
    let machine = start::<G>(FRAMES);
    let outcome = TestRunner::new(settings).run(&programs(), |program| {
        run::<G>(&machine, &program);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("a cursor does not do what is specified: {failure}");
    }
    assert_eq!(machine.region().live(), 0, "every frame is given back");
    let reached = reached();
    let missed: Vec<_> = SITUATIONS.iter().filter(|it| !reached.contains(**it)).collect();
    assert!(missed.is_empty(), "no program got into these situations: {missed:?}");
}

#[test]
fn cursors_do_as_specified_on_four_levels() {
    cursors_do_as_specified::<FourLevels>();
}

#[test]
fn cursors_do_as_specified_on_tiny_three() {
    cursors_do_as_specified::<TinyThree>();
}

#[test]
fn cursors_do_as_specified_on_sv39() {
    cursors_do_as_specified::<Sv39>();
}

#[test]
fn cursors_do_as_specified_on_sv48() {
    cursors_do_as_specified::<Sv48>();
}

/// The fuzzer's body, without its guidance: see `backend-baremetal/fuzz`.
#[test]
fn cursors_do_as_specified_whatever_the_bytes() {
    fn check<G: Architecture>() {
        let machine = start::<G>(FRAMES);
        let mut random = Random::new(0x5765_6674);
        for length in (0..200).map(|number| number * 16) {
            let data: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
            run_bytes(&machine, &data);
        }
        assert_eq!(machine.region().live(), 0, "every frame is given back");
    }
    check::<FourLevels>();
    check::<TinyThree>();
    check::<Sv48>();
}
