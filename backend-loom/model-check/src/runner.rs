//! Runs tasks in child processes, as many at a time as there are workers.
//!
//! Each worker thread takes the next task; for a job it asks children for its stages. Everything
//! that is shown goes through the main thread, which also looks whether to stop: then no further
//! task is begun, the children that run are ended, and what has finished is kept.

use std::collections::VecDeque;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use weft_backend_loom::child;
use weft_backend_loom::report::{Report, Request};
use weft_shell::interruption;

use crate::jobs::{self, Job, Purpose};
use crate::progress::Board;

/// How often the main thread looks around.
const TICK: Duration = Duration::from_millis(100);

/// What a worker does in child processes.
pub(crate) trait Task: Sync {
    /// What comes out.
    type Answer: Send;

    /// What tasks of this kind are called, many of them.
    fn kind(&self) -> &'static str;

    /// A name for progress lines.
    fn title(&self) -> String;

    /// Tasks of a low rank are begun first: those that may take longest.
    fn rank(&self) -> u8;

    /// Does it, and tells how many executions were done.
    ///
    /// # Errors
    ///
    /// One sentence on how a child ended without an answer.
    fn perform(&self, progress: &mut dyn FnMut(u64)) -> Result<Self::Answer, String>;

    /// How many executions were done for an answer.
    fn executions(answer: &Self::Answer) -> u64;
}

/// A task that is over: an answer, or one sentence on how the child ended without one.
#[derive(Clone, Debug)]
pub(crate) struct Done<T: Task = Job> {
    /// The task.
    pub(crate) job: T,
    /// What came out.
    pub(crate) result: Result<T::Answer, String>,
}

/// News from a worker.
enum News<A> {
    Started(usize, String),
    Executions(usize, u64),
    Done(usize, usize, Box<Result<A, String>>),
}

/// Runs `tasks`, in any order, and gives back those that were finished, in the order given.
pub(crate) fn run<T: Task>(tasks: Vec<T>, workers: usize, board: &mut Board) -> Vec<Done<T>> {
    run_heeding(tasks, workers, board, |_, _, _| {})
}

/// As [`run`], and tells of each task that is over as soon as it is: which one it is, and what came
/// out.
pub(crate) fn run_heeding<T: Task>(
    tasks: Vec<T>,
    workers: usize,
    board: &mut Board,
    mut heed: impl FnMut(usize, &T, &Result<T::Answer, String>),
) -> Vec<Done<T>> {
    board.expect(tasks.iter().map(Task::kind));
    let mut results: Vec<Option<Result<T::Answer, String>>> = tasks.iter().map(|_| None).collect();
    let mut order: Vec<usize> = (0..tasks.len()).collect();
    order.sort_by_key(|index| tasks[*index].rank());
    let queue = Mutex::new(VecDeque::from(order));
    let (sender, news) = mpsc::channel();
    thread::scope(|scope| {
        for worker in 0..workers.min(tasks.len()) {
            let (queue, tasks, sender) = (&queue, &tasks, sender.clone());
            scope.spawn(move || work(worker, queue, tasks, &sender));
        }
        drop(sender);
        loop {
            match news.recv_timeout(TICK) {
                Ok(News::Started(worker, title)) => board.started(worker, title),
                Ok(News::Executions(worker, count)) => board.executions(worker, count),
                Ok(News::Done(worker, index, result)) => {
                    let executions = (*result).as_ref().map_or(0, |answer| T::executions(answer));
                    board.done(worker, tasks[index].kind(), executions);
                    // A child that we ended ourselves has no result.
                    let is_ended = result.is_err() && interruption::is_here();
                    if !is_ended && !interruption::was_enough() {
                        heed(index, &tasks[index], &result);
                        results[index] = Some(*result);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            board.tick();
        }
    });
    board.finish();
    let finished = tasks.into_iter().zip(results);
    finished.filter_map(|(job, result)| Some(Done { job, result: result? })).collect()
}

fn work<T: Task>(
    worker: usize,
    queue: &Mutex<VecDeque<usize>>,
    tasks: &[T],
    news: &Sender<News<T::Answer>>,
) {
    // The main thread listens until every worker is gone, so sending cannot fail.
    let tell = |one| drop(news.send(one));
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(index) = next.filter(|_| !interruption::should_stop()) else { return };
        let task = &tasks[index];
        tell(News::Started(worker, task.title()));
        tracing::info!("begins: {}", task.title());
        let result = task.perform(&mut |count| tell(News::Executions(worker, count)));
        if let Err(error) = &result {
            tracing::warn!("{}: {error}", task.title());
        }
        tell(News::Done(worker, index, Box::new(result)));
    }
}

impl Task for Job {
    type Answer = Report;

    fn kind(&self) -> &'static str {
        match self.purpose {
            Purpose::Row => "rows",
            Purpose::Twin { .. } => "twins",
            Purpose::Site => "weakenings",
        }
    }

    fn title(&self) -> String {
        Self::title(self)
    }

    fn rank(&self) -> u8 {
        2 * u8::from(self.purpose != Purpose::Row) + u8::from(!self.checker.traits().exhaustive)
    }

    fn perform(&self, progress: &mut dyn FnMut(u64)) -> Result<Report, String> {
        let report = explore(self, progress)?;
        tracing::info!(
            "ends: {}: {} after {} executions in {:.2} s",
            self.title(),
            report.verdict,
            report.executions,
            report.elapsed.as_secs_f64()
        );
        Ok(report)
    }

    fn executions(report: &Report) -> u64 {
        report.executions
    }
}

/// Runs the stages of one job.
pub(crate) fn explore(job: &Job, mut progress: impl FnMut(u64)) -> Result<Report, String> {
    let mut earlier: Option<Report> = None;
    let mut before = 0;
    for (number, request) in job.stages.iter().enumerate() {
        tracing::debug!("{}: stage {number}: {request:?}", job.title());
        let report = ask(job, request, |count| progress(before + count))?;
        before += report.executions;
        let last = number + 1 == job.stages.len();
        let goes_on = !last && job.goes_on_after(&report);
        let report = match job.purpose {
            Purpose::Row => jobs::merge(earlier.take(), report),
            Purpose::Twin { .. } | Purpose::Site => Report { executions: before, ..report },
        };
        if !goes_on {
            return Ok(report);
        }
        earlier = Some(report);
    }
    Err("the job has no stages".to_owned())
}

/// Asks one child.
pub(crate) fn ask(
    job: &Job,
    request: &Request,
    progress: impl FnMut(u64),
) -> Result<Report, String> {
    let me = std::env::current_exe().map_err(|error| format!("cannot find myself: {error}"))?;
    let mut command = Command::new(me);
    command.args(["child", job.scenario, job.checker.name()]);
    // A group of its own: the terminal's Ctrl-C reaches us alone, and we end the children.
    command.process_group(0);
    child::ask_until(&mut command, request, interruption::should_stop, progress)
}
