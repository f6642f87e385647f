//! The runner, the kernel and QEMU together: whatever goes wrong is recognised for what it is.
//!
//! Each test boots a machine, or runs the command. Without QEMU they are reported as ignored; with
//! `REQUIRE_QEMU=1` that is a failure, so that a build service cannot lose them silently.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Output};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use libtest_mimic::{Arguments, Failed, Trial};
use weft_qemu_runner::host::{self, Accelerator, Qemu};
use weft_qemu_runner::machine::{self, Ending, Run, Settings};
use weft_qemu_runner::protocol::{Line, argument};
use weft_qemu_runner::verdict::{self, Failure, Place, Request, Verdict};
use weft_qemu_runner::{image, symbols, walker};

/// How long a machine that is going to hang gets. It boots in a tenth of that.
const PATIENCE: Duration = Duration::from_secs(4);
const CPUS: usize = 4;
/// Keeps the command from building and asking the models.
const NO_MODELS: &str = "--no-models";

/// What the machines have in common.
struct Bench {
    qemu: Qemu,
    image: PathBuf,
}

impl Bench {
    fn settings(&self) -> Settings {
        Settings { cpus: CPUS, ..Settings::default() }
    }

    fn run(&self, settings: &Settings, command_line: &str) -> Run {
        machine::run(&self.qemu, &self.image, settings, command_line).expect("QEMU starts")
    }

    /// A test that passes, with all the patience there is.
    fn good_test(&self, name: &str) -> Verdict {
        let request = Request { name: name.to_owned(), repetitions: 1 };
        let run = self.run(&self.settings(), &format!("{}={name}", argument::SELF_TEST));
        verdict::of(&request, &run)
    }

    /// A test that may hang.
    fn self_test(&self, name: &str) -> Verdict {
        let request = Request { name: name.to_owned(), repetitions: 1 };
        let settings = Settings { patience: PATIENCE, ..self.settings() };
        let run = self.run(&settings, &format!("{}={name}", argument::SELF_TEST));
        verdict::of(&request, &run)
    }

    fn scenario(&self, name: &str, repetitions: u64, more: &str) -> Verdict {
        let request = Request { name: name.to_owned(), repetitions };
        let (scenario, repeat) = (argument::SCENARIO, argument::REPEAT);
        let command_line = format!("{scenario}={name} {repeat}={repetitions} {more}");
        verdict::of(&request, &self.run(&self.settings(), &command_line))
    }
}

type Test = fn(&Bench) -> Result<(), Failed>;

const TESTS: [(&str, Test); 32] = [
    ("every_scenario_file_is_in_the_kernel", every_scenario_file_is_in_the_kernel),
    ("the_kernels_own_tests_pass", the_kernels_own_tests_pass),
    ("the_machine_sees_the_cores_tables", the_machine_sees_the_cores_tables),
    ("a_changed_entry_is_named", a_changed_entry_is_named),
    ("a_scenario_passes_and_is_counted", a_scenario_passes_and_is_counted),
    ("one_seed_is_one_run", one_seed_is_one_run),
    ("one_seed_is_one_run_beside_others", one_seed_is_one_run_beside_others),
    ("processors_that_are_threads_pass", processors_that_are_threads_pass),
    ("a_panic_is_a_violation", a_panic_is_a_violation),
    ("a_lost_count_is_a_violation", a_lost_count_is_a_violation),
    ("a_fault_is_a_violation", a_fault_is_a_violation),
    ("constants_are_not_executed", constants_are_not_executed),
    ("a_stack_overflow_is_a_violation", a_stack_overflow_is_a_violation),
    ("a_triple_fault_is_a_reset", a_triple_fault_is_a_reset),
    ("a_hang_is_located", a_hang_is_located),
    ("a_hang_without_interrupts_is_located", a_hang_without_interrupts_is_located),
    ("a_hang_with_the_serial_lock_is_located", a_hang_with_the_serial_lock_is_located),
    ("chatter_is_a_hang", chatter_is_a_hang),
    ("silence_is_a_hang", silence_is_a_hang),
    ("a_forgotten_unlock_is_located", a_forgotten_unlock_is_located),
    ("a_processor_that_does_not_answer_is_named", a_processor_that_does_not_answer_is_named),
    ("ending_without_a_closing_line_is_no_pass", ending_without_a_closing_line_is_no_pass),
    ("announcing_more_than_is_run_is_no_pass", announcing_more_than_is_run_is_no_pass),
    ("a_scenario_that_does_not_exist_is_no_pass", a_scenario_that_does_not_exist_is_no_pass),
    ("a_machine_that_qemu_refuses_is_an_internal_error", qemu_refuses),
    ("missing_shootdowns_are_caught", missing_shootdowns_are_caught),
    ("forgotten_holders_are_caught", forgotten_holders_are_caught),
    ("missing_grace_periods_are_caught", missing_grace_periods_are_caught),
    ("frames_that_are_never_freed_are_missed", frames_that_are_never_freed_are_missed),
    ("nodes_that_are_out_of_order_are_named", nodes_that_are_out_of_order_are_named),
    ("what_models_do_not_allow_is_a_failure", what_models_do_not_allow_is_a_failure),
    ("the_command_says_what_to_do", the_command_says_what_to_do),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let required = env::var_os("REQUIRE_QEMU").is_some_and(|value| value == "1");
    let qemu = host::find_qemu();
    // Only QEMU may be missing: a kernel that does not build is a failure.
    let ignored = qemu.is_err() && !required;
    let bench = qemu.and_then(|qemu| Ok(Bench { qemu, image: image::build()? }));
    let (bench, reason) = match bench {
        Ok(bench) => (Some(Arc::new(bench)), String::new()),
        Err(reason) => (None, reason),
    };
    if ignored {
        eprintln!("machines are not tested: {reason}");
    }
    let trial = |(name, test): (&'static str, Test)| {
        let (bench, reason) = (bench.clone(), reason.clone());
        let run = move || bench.as_deref().map_or_else(|| Err(reason.into()), test);
        Trial::test(name, run).with_ignored_flag(ignored)
    };
    libtest_mimic::run(&arguments, TESTS.into_iter().map(trial).collect()).exit_code()
}

/// Fails unless the verdict is the failure that is wanted.
fn demand(verdict: &Verdict, wanted: impl Fn(&Failure) -> bool) -> Result<(), Failed> {
    match &verdict.failure {
        Some(failure) if wanted(failure) => Ok(()),
        other => Err(format!("not what was wanted: {other:?}, log {:?}", verdict.log).into()),
    }
}

fn demand_pass(verdict: &Verdict) -> Result<(), Failed> {
    match &verdict.failure {
        None => Ok(()),
        failure => Err(format!("it did not pass: {failure:?}, log {:?}", verdict.log).into()),
    }
}

fn demand_message(verdict: &Verdict, part: &str) -> Result<(), Failed> {
    demand(
        verdict,
        |failure| matches!(failure, Failure::Violation { message, .. } if message.contains(part)),
    )
}

/// A hang in which every processor answered, as `wanted` demands of each place.
fn demand_hang(verdict: &Verdict, wanted: impl Fn(&Place) -> bool) -> Result<(), Failed> {
    demand(verdict, |failure| match failure {
        Failure::Hang(places) => {
            let cpus = places.iter().map(|place| place.cpu);
            cpus.eq(0..CPUS as u64) && places.iter().all(&wanted)
        }
        _ => false,
    })
}

fn every_scenario_file_is_in_the_kernel(bench: &Bench) -> Result<(), Failed> {
    let run = bench.run(&bench.settings(), argument::LIST);
    let listed: BTreeSet<String> = run
        .lines
        .iter()
        .filter_map(|line| match line {
            Line::Scenario { name, .. } => Some(name.clone()),
            _ => None,
        })
        .collect();
    let directory = fs::read_dir(image::workspace()?.join("scenarios/tests"))?;
    let files = directory.filter_map(|entry| {
        Some(entry.ok()?.file_name().to_str()?.strip_suffix(".rs")?.to_owned())
    });
    let files: BTreeSet<String> = files.collect();
    if run.ending == Ending::Good && !files.is_empty() && listed == files {
        Ok(())
    } else {
        Err(format!("{:?}: {listed:?} are listed, {files:?} are there", run.ending).into())
    }
}

fn the_kernels_own_tests_pass(bench: &Bench) -> Result<(), Failed> {
    let names = [
        "good-traps",
        "good-faults",
        "good-rights",
        "good-stale",
        "good-protect",
        "good-asked",
        "good-lazy",
        "good-tags",
        "good-windows",
        "good-audit",
    ];
    for name in names {
        demand_pass(&bench.good_test(name))?;
    }
    initiators_and_waiters_answer(bench)?;
    let storm = bench.good_test("good-storm");
    demand_pass(&storm)?;
    let metrics = ["shootdowns", "interrupts sent", "requests answered"];
    let [asked, sent, answered] = metrics.map(|name| storm.metric(name));
    // Every processor takes its page away 100 times, and all the others run on the table.
    let (rounds, others) = (CPUS as u64 * 100, CPUS as u64 - 1);
    if (asked, sent, answered) == (rounds, rounds * others, rounds * others) {
        Ok(())
    } else {
        Err(format!("{asked} shootdowns, {sent} interrupts, {answered} answers").into())
    }
}

/// Two processors ask at a time, a hundred times, and all others wait for their locks.
fn initiators_and_waiters_answer(bench: &Bench) -> Result<(), Failed> {
    let verdict = bench.good_test("good-waiters");
    demand_pass(&verdict)?;
    let metrics = ["shootdowns", "interrupts sent", "answered while waiting for a lock"];
    let [asked, sent, waiting] = metrics.map(|name| verdict.metric(name));
    if (asked, sent) == (200, 200 * (CPUS as u64 - 1)) && waiting > 0 {
        Ok(())
    } else {
        Err(format!("{asked} shootdowns, {sent} interrupts, {waiting} answers").into())
    }
}

/// The self-test of tables, with a seed, whole or broken.
fn tables(bench: &Bench, more: &str) -> Verdict {
    let request = Request { name: "good-tables".to_owned(), repetitions: 1 };
    let command_line = format!("{}=good-tables {more}", argument::SELF_TEST);
    verdict::of(&request, &bench.run(&bench.settings(), &command_line))
}

fn the_machine_sees_the_cores_tables(bench: &Bench) -> Result<(), Failed> {
    let verdict = tables(bench, "seed=1");
    demand_pass(&verdict)?;
    let sizes = ["pages of 4 KiB", "pages of 2 MiB", "pages of 1 GiB"];
    let printed: u64 = sizes.iter().map(|name| verdict.metric(name)).sum();
    let agreed = verdict.metric(walker::AGREED);
    if agreed == printed && agreed > 5000 {
        Ok(())
    } else {
        Err(format!("{printed} pages were built, {agreed} agreed").into())
    }
}

/// The seed decides whether another frame, other rights, nothing, or one page more is there.
fn a_changed_entry_is_named(bench: &Bench) -> Result<(), Failed> {
    for seed in 0..4 {
        let verdict = tables(bench, &format!("seed={seed} sabotage=tables-changed"));
        let address = verdict.metric("entry changed at");
        demand_message(&verdict, &format!("at {address:#x}: "))?;
        demand_message(&verdict, "the machine's own walk disagrees with the core's at 1 of ")?;
    }
    Ok(())
}

fn a_scenario_passes_and_is_counted(bench: &Bench) -> Result<(), Failed> {
    let verdict = bench.scenario("protect_vs_hardware", 50, "seed=1");
    demand_pass(&verdict)?;
    let outcomes: u64 = verdict.outcomes.iter().map(|count| count.times).sum();
    let refused = verdict.outcomes.iter().find(|count| count.name == "protected, then refused");
    let refused = refused.map(|count| count.times);
    let roots = verdict.metric("root loads");
    let faults = verdict.metric("page faults");
    if (outcomes, roots, Some(faults), verdict.cpus) == (50, 100, refused, CPUS as u64) {
        Ok(())
    } else {
        Err(format!("{outcomes} outcomes, {roots} roots, {faults} faults, {refused:?}").into())
    }
}

fn one_seed_is_one_run(bench: &Bench) -> Result<(), Failed> {
    let print = |seed| {
        let verdict = bench.scenario("walk_vs_grow", 100, &format!("seed={seed}"));
        demand_pass(&verdict).map(|()| verdict.fingerprint)
    };
    let (first, second, other) = (print(1)?, print(1)?, print(2)?);
    if first == second && first != other {
        Ok(())
    } else {
        Err(format!("seed 1 gives {first:x} and {second:x}, seed 2 {other:x}").into())
    }
}

/// Machines that run beside each other do not change each other's runs.
fn one_seed_is_one_run_beside_others(_: &Bench) -> Result<(), Failed> {
    let print = |jobs| {
        let arguments = ["walk_vs", "--repeat", "20", "--deterministic", "--no-twins", NO_MODELS];
        let output = command(&[arguments.as_slice(), &["--jobs", jobs]].concat());
        let said = String::from_utf8_lossy(&output.stdout);
        let print = said.lines().find(|line| line.starts_with("FINGERPRINT"));
        print.map(str::to_owned).ok_or_else(|| format!("there is no fingerprint: {said}"))
    };
    let (alone, beside) = (print("1")?, print("3")?);
    if alone == beside { Ok(()) } else { Err(format!("{alone}, and beside {beside}").into()) }
}

fn processors_that_are_threads_pass(bench: &Bench) -> Result<(), Failed> {
    let settings = Settings { cpus: 2, accelerator: Accelerator::Threads, ..bench.settings() };
    let request = Request { name: "lock_vs_lock".to_owned(), repetitions: 20 };
    let run = bench.run(&settings, "scenario=lock_vs_lock repeat=20 seed=1");
    demand_pass(&verdict::of(&request, &run))
}

fn a_panic_is_a_violation(bench: &Bench) -> Result<(), Failed> {
    demand(&bench.self_test("bad-panic"), |failure| match failure {
        Failure::Violation { cpu: 0, message, location } => {
            message == "this panic is\na test\tof panics"
                && location.starts_with("backend-baremetal/kernel/src/tests/selftest.rs:")
        }
        _ => false,
    })
}

fn a_lost_count_is_a_violation(bench: &Bench) -> Result<(), Failed> {
    demand_message(&bench.self_test("bad-count"), "in the kernel's table: a node has lost count")
}

fn a_fault_is_a_violation(bench: &Bench) -> Result<(), Failed> {
    let verdict = bench.self_test("bad-fault");
    demand_message(&verdict, "page fault at 0x12345678 error 0x0")?;
    let Some(Failure::Violation { message, .. }) = &verdict.failure else { unreachable!() };
    let names = symbols::names_in(&bench.image, message);
    if names.iter().any(|name| name.contains("bad_fault at backend-baremetal/kernel/src")) {
        Ok(())
    } else {
        Err(format!("the instruction is said to be in {names:?}").into())
    }
}

fn constants_are_not_executed(bench: &Bench) -> Result<(), Failed> {
    demand_message(&bench.self_test("bad-fetch"), "error 0x11")
}

fn a_stack_overflow_is_a_violation(bench: &Bench) -> Result<(), Failed> {
    demand_message(&bench.self_test("bad-overflow"), "a kernel stack overflowed")
}

fn a_triple_fault_is_a_reset(bench: &Bench) -> Result<(), Failed> {
    demand(&bench.self_test("bad-reset"), |failure| *failure == Failure::Reset)
}

fn a_hang_is_located(bench: &Bench) -> Result<(), Failed> {
    demand_hang(&bench.self_test("bad-hang"), |place| place.interruptible)
}

fn a_hang_without_interrupts_is_located(bench: &Bench) -> Result<(), Failed> {
    demand_hang(&bench.self_test("bad-hang-masked"), |place| !place.interruptible)
}

fn a_hang_with_the_serial_lock_is_located(bench: &Bench) -> Result<(), Failed> {
    demand_hang(&bench.self_test("bad-hang-locked"), |place| {
        place.interruptible == (place.cpu != 0)
    })
}

fn chatter_is_a_hang(bench: &Bench) -> Result<(), Failed> {
    demand_hang(&bench.self_test("bad-chatter"), |_| true)
}

fn silence_is_a_hang(bench: &Bench) -> Result<(), Failed> {
    demand_hang(&bench.self_test("bad-silence"), |place| place.interruptible == (place.cpu != 0))
}

fn a_forgotten_unlock_is_located(bench: &Bench) -> Result<(), Failed> {
    let verdict = bench.self_test("bad-unlock");
    demand_hang(&verdict, |place| place.interruptible)?;
    let Some(Failure::Hang(places)) = &verdict.failure else { unreachable!() };
    let names = symbols::names(&bench.image, places[1].rip);
    let waits = |name: &String| name.contains("acquire at core/src/lock.rs:");
    if names.iter().any(waits) {
        Ok(())
    } else {
        Err(format!("processor 1 is in {names:?}").into())
    }
}

/// It has its interrupts off, and says where it is all the same.
fn a_processor_that_does_not_answer_is_named(bench: &Bench) -> Result<(), Failed> {
    let verdict = bench.good_test("bad-deaf");
    demand_message(&verdict, "processor 1 does not answer a request to flush Page(")?;
    demand_message(&verdict, "it has not taken the request up")?;
    demand_message(&verdict, "with interrupts off")?;
    let Some(Failure::Violation { message, .. }) = &verdict.failure else { unreachable!() };
    let names = symbols::names_in(&bench.image, message);
    if names.iter().any(|name| name.contains("a_processor_is_deaf")) {
        Ok(())
    } else {
        Err(format!("processor 1 is said to be in {names:?}").into())
    }
}

fn ending_without_a_closing_line_is_no_pass(bench: &Bench) -> Result<(), Failed> {
    let said = "it did not say that bad-silent-end passed";
    demand(&bench.self_test("bad-silent-end"), |failure| failure.to_string().contains(said))
}

fn announcing_more_than_is_run_is_no_pass(bench: &Bench) -> Result<(), Failed> {
    let said = "it announced [2] scenarios instead of one";
    demand(&bench.self_test("bad-overcount"), |failure| failure.to_string().contains(said))
}

fn a_scenario_that_does_not_exist_is_no_pass(bench: &Bench) -> Result<(), Failed> {
    demand_message(&bench.scenario("sun_vs_moon", 1, ""), "there is no scenario called sun_vs_moon")
}

fn qemu_refuses(bench: &Bench) -> Result<(), Failed> {
    let settings = Settings { memory: "no memory".to_owned(), ..bench.settings() };
    let request = Request { name: String::new(), repetitions: 1 };
    let verdict = verdict::of(&request, &bench.run(&settings, argument::LIST));
    demand(&verdict, |failure| matches!(failure, Failure::Internal(_)))
}

/// A self-test in a broken world.
fn broken_test(bench: &Bench, name: &str, sabotage: &str) -> Verdict {
    let request = Request { name: name.to_owned(), repetitions: 1 };
    let (test, broken) = (argument::SELF_TEST, argument::SABOTAGE);
    let command_line = format!("{test}={name} {broken}={sabotage}");
    verdict::of(&request, &bench.run(&bench.settings(), &command_line))
}

fn missing_shootdowns_are_caught(bench: &Bench) -> Result<(), Failed> {
    for name in ["good-stale", "good-protect", "good-storm", "good-waiters", "good-windows"] {
        let verdict = broken_test(bench, name, "no-shootdown");
        demand_message(&verdict, "used a translation that was taken away")?;
    }
    for name in ["good-asked", "good-lazy"] {
        let verdict = broken_test(bench, name, "no-shootdown");
        demand_message(&verdict, "processor 0 has flushed otherwise than is due")?;
    }
    Ok(())
}

/// The processor that is never asked is noticed by itself, or by those that count.
fn forgotten_holders_are_caught(bench: &Bench) -> Result<(), Failed> {
    for name in ["good-stale", "good-windows"] {
        let verdict = broken_test(bench, name, "forgotten-holder-1");
        demand_message(&verdict, "used a translation that was taken away")?;
    }
    let verdict = broken_test(bench, "good-asked", "forgotten-holder-1");
    demand_message(&verdict, "has flushed otherwise than is due")?;
    for (scenario, holder, message) in [
        ("activate_vs_unmap", 0, "use after free"),
        ("copy_vs_writes", 1, "a page is written after it was copied"),
        ("take_vs_use", 1, "use after free"),
        ("use_vs_unmap", 0, "a CPU uses a page that it was told is not mapped"),
    ] {
        let sabotage = format!("seed=1 sabotage=forgotten-holder-{holder}");
        demand_message(&bench.scenario(scenario, 300, &sabotage), message)?;
        // The other CPU holds nothing.
        let sabotage = format!("seed=1 sabotage=forgotten-holder-{}", 1 - holder);
        demand_pass(&bench.scenario(scenario, 300, &sabotage))?;
    }
    Ok(())
}

fn missing_grace_periods_are_caught(bench: &Bench) -> Result<(), Failed> {
    for (scenario, sabotage) in [
        ("retire_vs_quiesce", "freed-at-once"),
        ("walk_vs_detach", "freed-at-once"),
        ("walk_vs_detach", "forgotten-cpu-0"),
    ] {
        demand_pass(&bench.scenario(scenario, 300, "seed=1"))?;
        let broken = bench.scenario(scenario, 300, &format!("seed=1 sabotage={sabotage}"));
        let met_poison = |failure: &Failure| {
            let said = failure.to_string();
            said.contains("use after free") || said.contains("corrupt entry")
        };
        demand(&broken, met_poison)?;
    }
    Ok(())
}

fn frames_that_are_never_freed_are_missed(bench: &Bench) -> Result<(), Failed> {
    let broken = bench.scenario("walk_vs_detach", 5, "seed=1 sabotage=never-freed");
    demand_message(&broken, "leak: ")
}

/// The race leaves a root, two nodes below it, and a leaf: four nodes in each round.
fn nodes_that_are_out_of_order_are_named(bench: &Bench) -> Result<(), Failed> {
    let whole = bench.scenario("grow_vs_grow", 20, "seed=1");
    demand_pass(&whole)?;
    let audited = whole.metric("nodes audited");
    if audited != 20 * 4 {
        return Err(format!("{audited} nodes were audited").into());
    }
    for (sabotage, said) in [
        ("lost-count", "after the race: a node has lost count: it counts 1 children and has 2"),
        ("lock-kept", "after the race: a node is still locked after all CPUs have ended"),
        ("stray-kept", "after the race: a reachable node is marked stray"),
    ] {
        let broken = bench.scenario("grow_vs_grow", 20, &format!("seed=1 sabotage={sabotage}"));
        demand_message(&broken, said)?;
        demand_message(&broken, "(the node at Paddr(0x")?;
    }
    Ok(())
}

/// Runs the command.
fn command(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qemu-runner"));
    command.args(arguments).output().expect("the command starts")
}

/// A model checker that saw less than the machine: what it did not see is a failure, which it is
/// asked to search for. One that cannot be asked is an error.
fn what_models_do_not_allow_is_a_failure(_: &Bench) -> Result<(), Failed> {
    let ask = |name: &str, texts: &[&str], code| {
        let folder = image::workspace()?.join("qemu-runner/tests/model-checks");
        let checker = folder.join(name);
        let checker = checker.to_str().expect("the path is text");
        let arguments =
            ["lock_vs_lock", "--repeat", "50", "--no-twins", "--counts", "--model-check", checker];
        let output = command(&arguments);
        let said = String::from_utf8_lossy(&output.stdout);
        if output.status.code() == Some(code) && texts.iter().all(|text| said.contains(text)) {
            Ok(())
        } else {
            Err(format!("{:?}: {said}", output.status.code()))
        }
    };
    let texts = [
        "FAILED lock_vs_lock: the models do not allow this outcome: right first",
        "left first: allowed",
        "right first: NOT ALLOWED",
        "SEED   1\n  AGAIN  just qemu lock_vs_lock --cpus 4 --repeat 50 --seed 1",
        "REPLAY    just replay wt2:00c0ffee:lock_vs_lock:explorer:-:1",
        "FAILED: 1 violation",
    ];
    ask("left-only", &texts, 1)?;
    ask("nobody", &["metal and models are not compared", "cannot be run"], 4)?;
    Ok(())
}

fn the_command_says_what_to_do(_: &Bench) -> Result<(), Failed> {
    // Building the models takes minutes, and is not what is tested here.
    let cases: [(&[&str], i32, &str); 15] = [
        (&["sun_vs_moon"], 4, "no scenario's name contains \"sun_vs_moon\"; --list shows"),
        (&["walk_vs_mop"], 4, "(a similar one is walk_vs_map)"),
        (&["lock_vs_lock", "--sabotage", "forgotten-cpu-9"], 4, "no selected scenario has a CPU 9"),
        (&["--cpus", "1", "lock_vs_lock"], 4, "--cpus 1 is too few"),
        (&["--image", "/nowhere"], 4, "there is no image /nowhere"),
        (&["--build"], 0, "weft-kernel\n"),
        (&["bad-panic"], 1, "FAILED bad-panic"),
        (
            &["lock_vs_lock", "--repeat", "2", "--sabotage", "freed-at-once", NO_MODELS],
            2,
            "SURVIVED in a broken world: freed-at-once",
        ),
        // One run has one outcome, and broken worlds are rarely noticed at once.
        (&["lock_vs_lock", "--repeat", "1", "--demand", NO_MODELS], 2, "not seen in 1 runs"),
        (&["retire_vs_quiesce", "--repeat", "1", NO_MODELS], 2, "forgotten-cpu-1: SURVIVED"),
        (&["lock_vs_lock", "--repeat", "5", "--format", "json", NO_MODELS], 0, "\"exit\": 0"),
        (&["good-stale", "--boots", "2", "--format", "json"], 0, "\"boots_caught\": 2"),
        (
            &["good-stale", "--boots", "3"],
            0,
            "good-stale with no-shootdown: noticed in 3 of 3 boots",
        ),
        (
            &["lock_vs_lock", "--repeat", "2", "--boots", "2", "--sabotage", "no-shootdown"],
            2,
            "lock_vs_lock with no-shootdown: noticed in 0 of 2 boots\nSURVIVED in a broken world",
        ),
        // So short that each is booted once.
        (&["good-stale", "good-lazy", "--soak", "1s"], 0, "2 self-tests, "),
    ];
    for (arguments, code, text) in cases {
        let output = command(arguments);
        let (out, err) = (&output.stdout, &output.stderr);
        let said = String::from_utf8_lossy(out) + String::from_utf8_lossy(err);
        if output.status.code() != Some(code) || !said.contains(text) {
            return Err(format!("{arguments:?}: {:?}, {said}", output.status.code()).into());
        }
    }
    Ok(())
}
