//! Boots machines, as many at a time as the host can run, and puts together what they said.
//!
//! A machine that counts instructions is one thread of the host, and is the same run whatever else
//! the host does: so as many run at a time as there are cores. One whose processors are threads has
//! the host to itself.

use std::io::{IsTerminal as _, stderr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use weft_qemu_runner::host::{Accelerator, Qemu};
use weft_qemu_runner::machine::{self, Settings};
use weft_qemu_runner::models::{self, Models};
use weft_qemu_runner::protocol::argument;
use weft_qemu_runner::summary::{Boots, Row, Summary, Twin};
use weft_qemu_runner::symbols;
use weft_qemu_runner::verdict::{self, Failure, Request, Verdict};
use weft_shell::{complain, interruption};

use crate::arguments::Arguments;
use crate::catalogue::{Known, KnownTwin};
use crate::record::Record;

/// How much more often than a whole world a broken one is tried in a boot, at most: it ends at the
/// first failure, so only those that are noticed late take longer. `retire_vs_quiesce` with a
/// forgotten CPU is noticed in 28 of 40 boots of 5,000 runs.
const TWIN_REPEAT_FACTOR: u64 = 5;
/// How many seeds a broken world is tried with if one boot of each is asked for. More runs with one
/// seed do not help where processors have fallen into step: the same broken world was not noticed
/// in 20,000 runs with one seed, and with nine others in 3,500 on average.
const TWIN_SEEDS: u64 = 4;
/// How often a line is written where there is no terminal.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What stays the same from machine to machine.
pub(crate) struct Bench {
    pub(crate) qemu: Qemu,
    pub(crate) image: PathBuf,
    pub(crate) settings: Settings,
}

/// Something to run, in a whole world or a broken one.
#[derive(Clone, Copy)]
struct Subject<'a> {
    known: &'a Known,
    twin: Option<&'a KnownTwin>,
}

impl Subject<'_> {
    fn title(&self) -> String {
        let name = &self.known.name;
        self.twin.map_or(name.clone(), |twin| format!("{name} with {}", twin.sabotage))
    }

    /// Whether a boot came to what it should.
    fn ends_well(&self, verdict: &Verdict) -> bool {
        match self.twin {
            None => verdict.failure.is_none(),
            Some(twin) => verdict.fails_with(&twin.messages),
        }
    }
}

/// A machine to boot: for which subject, and the how many-th of all.
#[derive(Clone, Copy)]
struct Task {
    subject: usize,
    number: u64,
    seed: u64,
}

/// Runs everything, whole worlds first, until all is done or we are interrupted.
pub(crate) fn run_all(
    bench: &Bench,
    arguments: &Arguments,
    selected: &[Known],
    record: &Record,
) -> Result<Summary, String> {
    let started = Instant::now();
    let whole = selected.iter().map(|known| Subject { known, twin: None });
    let broken = selected
        .iter()
        .flat_map(|known| known.twins.iter().map(move |twin| (known, Some(twin))))
        .filter(|_| arguments.has_twins())
        .map(|(known, twin)| Subject { known, twin });
    let subjects: Vec<Subject<'_>> = whole.chain(broken).collect();
    let seed = arguments.seed();
    interruption::catch()?;
    let progress = Progress::new();
    let fleet = Fleet { bench, arguments, subjects: &subjects, record, progress };
    let boots = match arguments.soak {
        Some(time) => {
            let count = selected.len() as u64;
            let tasks = (0..).map(|number| task(number, (number % count) as usize, seed));
            // Everything at least once: what was never booted is no part of a soak.
            fleet.boot(tasks.take_while(|task| task.number < count || started.elapsed() < time))
        }
        None => {
            let times = arguments.boots;
            fleet.progress.expect(subjects.len() as u64 * times);
            let tasks = |from: usize, to: usize| {
                (from..to).flat_map(move |subject| {
                    (0..times).map(move |number| task(number, subject, seed))
                })
            };
            let mut boots = fleet.boot(tasks(0, selected.len()));
            boots.extend(fleet.boot(tasks(selected.len(), subjects.len())));
            boots
        }
    };
    fleet.progress.finish();
    let mut summary = Summary {
        rows: Vec::new(),
        twins: Vec::new(),
        qemu: bench.qemu.version.clone(),
        accelerator: bench.settings.accelerator,
        cpus: bench.settings.cpus,
        seed,
        sabotage: arguments.sabotage,
        demand: arguments.demand,
        models: Models::default(),
        unfinished: Vec::new(),
        elapsed: started.elapsed(),
    };
    let expected = if arguments.soak.is_some() { 1 } else { arguments.boots };
    fleet.report(boots, expected as usize, &mut summary);
    if !arguments.no_models && !interruption::should_stop() {
        let command = arguments.model_check.as_deref();
        summary.models = models::ask(&mut summary.rows, command, arguments.sabotage);
    }
    Ok(summary)
}

fn task(number: u64, subject: usize, seed: u64) -> Task {
    Task { subject, number, seed: seed.wrapping_add(number) }
}

/// What one boot came to, and with which seed.
struct Boot {
    seed: u64,
    verdict: Verdict,
}

/// Everything that boots need.
struct Fleet<'a> {
    bench: &'a Bench,
    arguments: &'a Arguments,
    subjects: &'a [Subject<'a>],
    record: &'a Record,
    progress: Progress,
}

impl Fleet<'_> {
    /// Boots machines until there are no tasks any more or we are interrupted, and gives what they
    /// came to in the order of the tasks. What was running when an interruption came is no result.
    fn boot(&self, tasks: impl Iterator<Item = Task> + Send) -> Vec<(Task, Boot)> {
        let mut tasks = tasks.peekable();
        let Some(first) = tasks.peek() else { return Vec::new() };
        let at_a_time = match self.settings(&self.subjects[first.subject]).accelerator {
            Accelerator::Counted => self.arguments.jobs(),
            Accelerator::Threads | Accelerator::Kvm => 1,
        };
        let done = Mutex::new(Vec::new());
        side_by_side(at_a_time, tasks, |task| {
            let subject = &self.subjects[task.subject];
            self.progress.begins(&subject.title());
            let boot = self.boot_seeds(subject, task.seed);
            if !interruption::should_stop() {
                let sabotage = self.sabotage(subject);
                let (name, sabotage) = (&subject.known.name, sabotage.as_deref());
                self.record.boot(name, sabotage, boot.seed, &boot.verdict);
                if self.arguments.fail_fast && !subject.ends_well(&boot.verdict) {
                    interruption::enough();
                }
                lock(&done).push((task, boot));
            }
            self.progress.ends();
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(task, _)| (task.subject, task.number));
        done
    }

    /// A broken world is run as reproducibly as possible, so that one that is noticed today is
    /// noticed tomorrow.
    fn settings(&self, subject: &Subject<'_>) -> Settings {
        let settings = self.bench.settings.clone();
        match subject.twin {
            Some(_) => Settings { accelerator: Accelerator::Counted, ..settings },
            None => settings,
        }
    }

    /// A broken world is tried more often than a whole one, since it ends at the first failure.
    fn request(&self, subject: &Subject<'_>) -> Request {
        let factor = if subject.twin.is_some() { TWIN_REPEAT_FACTOR } else { 1 };
        let repeat = self.arguments.repeat.saturating_mul(factor);
        let repetitions = if subject.known.self_test { 1 } else { repeat };
        Request { name: subject.known.name.clone(), repetitions }
    }

    fn sabotage(&self, subject: &Subject<'_>) -> Option<String> {
        let broken = self.arguments.sabotage.map(|sabotage| sabotage.to_string());
        subject.twin.map(|twin| twin.sabotage.clone()).or(broken)
    }

    /// Boots one machine, and a broken world with further seeds until it is noticed, unless boots
    /// are counted.
    fn boot_seeds(&self, subject: &Subject<'_>, seed: u64) -> Boot {
        let tried_again = subject.twin.is_some() && self.arguments.boots == 1;
        let last = if tried_again { seed.saturating_add(TWIN_SEEDS - 1) } else { seed };
        let boot = |seed| Boot { seed, verdict: self.boot_one(subject, seed) };
        let is_over = |boot: &Boot| subject.ends_well(&boot.verdict) || interruption::should_stop();
        (seed..last).map(boot).find(is_over).unwrap_or_else(|| boot(last))
    }

    /// Boots one machine.
    fn boot_one(&self, subject: &Subject<'_>, seed: u64) -> Verdict {
        let request = self.request(subject);
        let what = if subject.known.self_test { argument::SELF_TEST } else { argument::SCENARIO };
        let mut command_line = format!("{what}={}", request.name);
        for (key, value) in [(argument::REPEAT, request.repetitions), (argument::SEED, seed)] {
            command_line += &format!(" {key}={value}");
        }
        if let Some(sabotage) = self.sabotage(subject) {
            command_line += &format!(" {}={sabotage}", argument::SABOTAGE);
        }
        let Bench { qemu, image, .. } = self.bench;
        match machine::run(qemu, image, &self.settings(subject), &command_line) {
            Ok(run) => verdict::of(&request, &run),
            Err(sentence) => Verdict::without_run(sentence),
        }
    }

    /// A command that boots the same machine again.
    fn again(&self, subject: &Subject<'_>, seed: u64) -> String {
        let Request { name, repetitions } = self.request(subject);
        let settings = self.settings(subject);
        let mut again = format!("just qemu {name} --cpus {}", settings.cpus);
        again += &format!(" --repeat {repetitions} --seed {seed}");
        if settings.accelerator == Accelerator::Counted {
            again += " --deterministic";
        }
        if let Some(sabotage) = self.sabotage(subject) {
            again += &format!(" --sabotage {sabotage}");
        }
        again
    }

    /// Writes down what came of the subjects. Each was to be booted `expected` times, at least.
    fn report(&self, boots: Vec<(Task, Boot)>, expected: usize, summary: &mut Summary) {
        let mut boots = boots.into_iter().peekable();
        for (number, subject) in self.subjects.iter().enumerate() {
            let mut own = Vec::new();
            while let Some((_, boot)) = boots.next_if(|(task, _)| task.subject == number) {
                own.push(boot);
            }
            if own.len() < expected {
                summary.unfinished.push(subject.title());
            }
            if own.is_empty() {
                continue;
            }
            match subject.twin {
                None => summary.rows.push(self.row(subject, own)),
                Some(twin) => summary.twins.push(self.twin(subject, twin, own)),
            }
        }
    }

    /// Of whole worlds the first that fails is told.
    fn row(&self, subject: &Subject<'_>, boots: Vec<Boot>) -> Row {
        let (counted, told) = counted(&boots, true, |verdict| verdict.failure.is_some());
        let seed = boots[told].seed;
        let verdict = Verdict::of_all(boots.into_iter().map(|boot| boot.verdict).collect());
        Row {
            request: self.request(subject),
            self_test: subject.known.self_test,
            places: places(&self.bench.image, verdict.failure.as_ref()),
            verdict,
            boots: counted,
            seed,
            again: self.again(subject, seed),
            page: None,
        }
    }

    /// Of broken worlds the first that is not noticed is told.
    fn twin(&self, subject: &Subject<'_>, twin: &KnownTwin, mut boots: Vec<Boot>) -> Twin {
        let is_caught = |verdict: &Verdict| verdict.fails_with(&twin.messages);
        let (counted, told) = counted(&boots, false, is_caught);
        let Boot { seed, verdict } = boots.swap_remove(told);
        Twin {
            name: subject.known.name.clone(),
            sabotage: twin.sabotage.clone(),
            messages: twin.messages.clone(),
            verdict,
            boots: counted,
            seed,
            again: self.again(subject, seed),
        }
    }
}

/// Works on so many tasks at a time, until there are none any more or we are interrupted.
fn side_by_side<T: Send>(
    at_a_time: usize,
    tasks: impl Iterator<Item = T> + Send,
    work: impl Fn(T) + Sync,
) {
    let tasks = Mutex::new(tasks);
    // A function of its own: in the condition of a loop the guard would live as long as the body.
    let next = || lock(&tasks).next().filter(|_| !interruption::should_stop());
    let worker = || {
        while let Some(task) = next() {
            work(task);
        }
    };
    thread::scope(|scope| (0..at_a_time).for_each(|_| drop(scope.spawn(worker))));
}

/// How many boots went wrong, and where the first is of which `wrong` is true or not, as asked for;
/// without one, the first of all.
fn counted(boots: &[Boot], asked: bool, wrong: impl Fn(&Verdict) -> bool) -> (Boots, usize) {
    let wrong: Vec<bool> = boots.iter().map(|boot| wrong(&boot.verdict)).collect();
    let count = wrong.iter().filter(|wrong| **wrong).count();
    let told = wrong.iter().position(|wrong| *wrong == asked).unwrap_or(0);
    (Boots { all: boots.len() as u64, wrong: count as u64 }, told)
}

/// A lock that only protects values that are whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is seen while machines run: a bar on a terminal, and otherwise a line now and then.
struct Progress {
    bar: ProgressBar,
    last_line: Mutex<Instant>,
}

impl Progress {
    fn new() -> Self {
        let bar = ProgressBar::no_length();
        let style = ProgressStyle::with_template("{spinner} {human_pos} boots {elapsed} {msg}");
        bar.set_style(style.expect("the template is well formed"));
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar, last_line: Mutex::new(Instant::now()) }
    }

    /// So many boots are to come.
    fn expect(&self, boots: u64) {
        let style = ProgressStyle::with_template("{spinner} {pos}/{len} {elapsed} {msg}");
        self.bar.set_style(style.expect("the template is well formed"));
        self.bar.set_length(boots);
    }

    fn begins(&self, title: &str) {
        self.bar.set_message(title.to_owned());
    }

    fn ends(&self) {
        self.bar.inc(1);
        let mut last = lock(&self.last_line);
        if !stderr().is_terminal() && last.elapsed() > HEARTBEAT {
            *last = Instant::now();
            let of = self.bar.length().map_or(String::new(), |length| format!(" of {length}"));
            complain(&format!("{}{of} boots", self.bar.position()));
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Where processors were when it went wrong, in words.
fn places(image: &Path, failure: Option<&Failure>) -> Vec<String> {
    let lines = |names: Vec<String>| names.join("\n    in ");
    match failure {
        Some(Failure::Hang(places)) => {
            let describe = |place: &verdict::Place| {
                let interrupts = if place.interruptible { "on" } else { "off" };
                let names = lines(symbols::names(image, place.rip));
                format!("processor {}, interrupts {interrupts}: {names}", place.cpu)
            };
            places.iter().map(describe).collect()
        }
        Some(Failure::Violation { message, .. }) => {
            let names = symbols::names_in(image, message);
            if names.is_empty() { Vec::new() } else { vec![format!("in {}", lines(names))] }
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// Either task waits for the other one, so they end only beside each other.
    #[test]
    fn machines_run_side_by_side() {
        let ((to_first, from_second), (to_second, from_first)) = (channel(), channel());
        let tasks = [(to_second, from_second), (to_first, from_first)];
        let met = Mutex::new(0);
        side_by_side(2, tasks.into_iter(), |(tell, hear)| {
            if tell.send(()).is_ok() && hear.recv_timeout(Duration::from_secs(60)).is_ok() {
                *lock(&met) += 1;
            }
        });
        assert_eq!(met.into_inner().ok(), Some(2), "tasks that met the other one");
    }
}
