//! Runs jobs in child processes, as many at a time as there are workers.
//!
//! Each worker thread takes the next job and asks children for its stages. Everything that is shown
//! goes through the main thread, which also looks for an interruption: then no further job is
//! begun, the children that run are killed, and what has finished is kept.

use std::collections::VecDeque;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use weft_backend_loom::child;
use weft_backend_loom::report::{Report, Request};

use crate::jobs::{self, Job, Purpose};
use crate::progress::Board;

/// How often the main thread looks around.
const TICK: Duration = Duration::from_millis(100);

/// Whether the user has interrupted the command.
pub(crate) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether the user has interrupted the command.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// A job that is over: a report, or one sentence on how the child ended without one.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// The job.
    pub(crate) job: Job,
    /// What came out.
    pub(crate) result: Result<Report, String>,
}

/// News from a worker.
enum News {
    Started(usize, String),
    Executions(usize, u64),
    Done(usize, usize, Box<Result<Report, String>>),
}

/// Runs `jobs`, in any order, and gives back those that were finished, in the order given.
pub(crate) fn run(jobs: Vec<Job>, workers: usize, board: &mut Board) -> Vec<Done> {
    board.expect(&jobs);
    let mut results: Vec<Option<Result<Report, String>>> = jobs.iter().map(|_| None).collect();
    let queue = Mutex::new(by_length(&jobs));
    let (sender, news) = mpsc::channel();
    thread::scope(|scope| {
        for worker in 0..workers.min(jobs.len()) {
            let (queue, jobs, sender) = (&queue, &jobs, sender.clone());
            scope.spawn(move || work(worker, queue, jobs, &sender));
        }
        drop(sender);
        loop {
            match news.recv_timeout(TICK) {
                Ok(News::Started(worker, title)) => board.started(worker, title),
                Ok(News::Executions(worker, count)) => board.executions(worker, count),
                Ok(News::Done(worker, index, result)) => {
                    board.done(worker, &jobs[index], &result);
                    // A child that was killed by our own interruption has no result.
                    if result.is_ok() || !interrupted() {
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
    let finished = jobs.into_iter().zip(results);
    finished.filter_map(|(job, result)| Some(Done { job, result: result? })).collect()
}

/// The order in which jobs are begun: those that may take longest first.
fn by_length(jobs: &[Job]) -> VecDeque<usize> {
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|index| {
        let job = &jobs[*index];
        (job.purpose != Purpose::Row, !job.checker.exhaustive)
    });
    order.into()
}

fn work(worker: usize, queue: &Mutex<VecDeque<usize>>, jobs: &[Job], news: &Sender<News>) {
    // The main thread listens until every worker is gone, so sending cannot fail.
    let tell = |one| drop(news.send(one));
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(index) = next.filter(|_| !interrupted()) else { return };
        let job = &jobs[index];
        tell(News::Started(worker, job.title()));
        tracing::info!("begins: {}", job.title());
        let result = explore(job, |count| tell(News::Executions(worker, count)));
        match &result {
            Ok(report) => tracing::info!(
                "ends: {}: {} after {} executions in {:.2} s",
                job.title(),
                report.verdict_text,
                report.executions,
                report.elapsed.as_secs_f64()
            ),
            Err(error) => tracing::warn!("{}: {error}", job.title()),
        }
        tell(News::Done(worker, index, Box::new(result)));
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
    command.args(["child", job.scenario, job.checker.name]);
    // A group of its own: the terminal's Ctrl-C reaches us alone, and we end the children.
    command.process_group(0);
    child::ask_until(&mut command, request, interrupted, progress)
}
