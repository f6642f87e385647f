//! One run of QEMU, from start to exit, under watch.
//!
//! The serial port comes in on a pipe, a line at a time; QEMU's own complaints on another. A kernel
//! that is [ready](Line::Ready) to be compared waits until QEMU has been asked for its walk of the
//! tables, and a byte has gone to the serial port. When
//! the deadline has passed, QEMU is asked over its control connection to interrupt every processor
//! in a way that cannot be masked. The kernel answers with a line for each processor, and exits. If
//! it does not, QEMU is killed. It is also killed when we go away, in whatever way: where the
//! system has that (Linux), it kills QEMU when the thread that started it is gone.
//!
//! The control connection is a pair of sockets, of which QEMU inherits one: there is no name in the
//! file system, and nothing to clean up. While QEMU starts, no other run may: it would inherit
//! that socket too.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::FdFlags;
use weft_shell::interruption;

use crate::control::Control;
use crate::host::{Accelerator, Qemu};
use crate::orphan;
use crate::protocol::{EXIT_BAD, EXIT_GOOD, Line};
use crate::walker;

/// How long the kernel may take to answer where everybody is.
const GRACE: Duration = Duration::from_secs(3);
/// How often interruptions are looked for.
const INTERRUPTION_LOOK: Duration = Duration::from_millis(100);
/// How many lines of log are kept: the first and the last half of it.
const LOG_LINES_MAX: usize = 400;
/// QEMU's words for a machine that KVM cannot go on with: it stays paused and does not exit.
const PAUSED_FOR_GOOD: &str = "emulation failure";

/// The machine to run on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many processors.
    pub cpus: usize,
    /// How they are run.
    pub accelerator: Accelerator,
    /// Memory, as QEMU takes it.
    pub memory: String,
    /// After which time a run counts as hung.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cpus: 4,
            accelerator: Accelerator::Counted,
            memory: "256M".to_owned(),
            patience: Duration::from_secs(60),
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The kernel said that all went well.
    Good,
    /// The kernel said that something failed.
    Bad,
    /// The machine was reset: nobody was left to handle a fault.
    Reset,
    /// Nothing happened until the deadline.
    Hung,
    /// QEMU itself ended, with this status.
    Qemu(Option<i32>),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => f.write_str("which ended well"),
            Self::Bad => f.write_str("which ended because something failed"),
            Self::Reset => f.write_str("whose machine was reset"),
            Self::Hung => f.write_str("which hung"),
            Self::Qemu(Some(status)) => write!(f, "since QEMU ended with status {status}"),
            Self::Qemu(None) => f.write_str("since QEMU was killed"),
        }
    }
}

/// What came out of a run.
#[derive(Clone, Debug)]
pub struct Run {
    /// How it ended.
    pub ending: Ending,
    /// The lines with a meaning.
    pub lines: Vec<Line<String>>,
    /// The other lines of the kernel, as many as are kept.
    pub log: Vec<String>,
    /// QEMU's own words.
    pub complaints: Vec<String>,
    /// The monitor's walk of the tables, if the kernel was ready for it; or why there is none.
    pub walk: Option<Result<String, String>>,
    /// A number that two runs share if the kernel wrote the same in both.
    pub fingerprint: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// How many of the last lines are told in a sentence, and how much of each.
const LAST_WORDS: (usize, usize) = (3, 160);

impl Run {
    /// What QEMU said last, or else the kernel: a part that fits into a sentence.
    pub fn last_words(&self) -> String {
        let said = if self.complaints.is_empty() { &self.log } else { &self.complaints };
        let (lines, length) = LAST_WORDS;
        let cut = |line: &String| {
            let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            match line.char_indices().nth(length) {
                None => line,
                Some((end, _)) => format!("{}...", &line[..end]),
            }
        };
        let last = said[said.len().saturating_sub(lines)..].iter().map(cut);
        let last = last.collect::<Vec<_>>().join(" | ");
        if last.is_empty() { "it said nothing".to_owned() } else { last }
    }
}

/// A line, by where it comes from.
enum Heard {
    Kernel(Vec<u8>),
    Qemu(String),
}

/// QEMU, killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail if it has ended, which is what we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots `image` and watches it until it ends.
///
/// # Errors
///
/// One sentence, if QEMU cannot be started.
pub fn run(
    qemu: &Qemu,
    image: &Path,
    settings: &Settings,
    command_line: &str,
) -> Result<Run, String> {
    let started = Instant::now();
    let (mut process, mut control) = start(qemu, image, settings, command_line)?;
    let heard = listen(&mut process.0);
    let input = process.0.stdin.take().expect("the pipe was asked for");
    let mut watch = Watch::new(input);
    let has_ended = watch.watch(&heard, &mut control, started + settings.patience);
    if !has_ended {
        let _ = process.0.kill();
    }
    let status = process.0.wait().map_err(|error| format!("QEMU cannot be waited for: {error}"))?;
    let ending = match status.code() {
        // First: having answered where everybody is, the kernel says that something failed.
        _ if watch.asked => Ending::Hung,
        Some(EXIT_GOOD) => Ending::Good,
        Some(EXIT_BAD) => Ending::Bad,
        Some(0) => Ending::Reset,
        code => Ending::Qemu(code),
    };
    let elapsed = started.elapsed();
    Ok(Run {
        ending,
        lines: watch.lines,
        log: watch.log,
        complaints: watch.complaints,
        walk: watch.walk,
        fingerprint: watch.fingerprint.0,
        elapsed,
    })
}

/// Starts QEMU with one end of the control connection.
fn start(
    qemu: &Qemu,
    image: &Path,
    settings: &Settings,
    command_line: &str,
) -> Result<(Process, Control), String> {
    static STARTING: Mutex<()> = Mutex::new(());
    let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let failed = |error| format!("{} cannot be started: {error}", qemu.program);
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    rustix::io::fcntl_setfd(&theirs, FdFlags::empty()).map_err(|error| failed(error.into()))?;
    let control = format!("socket,id=control,fd={}", theirs.as_raw_fd());
    let mut command = Command::new(&qemu.program);
    orphan::dies_with_us(&mut command);
    let child = command
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
        .args(["-m", &settings.memory, "-smp", &settings.cpus.to_string()])
        .args(settings.accelerator.arguments())
        .args(["-chardev", &control, "-mon", "chardev=control,mode=control"])
        .args(["-append", command_line, "-kernel"])
        .arg(image)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    Ok((Process(child), Control::new(ours)))
}

/// Reads both pipes, each on a thread. The channel closes when QEMU has ended.
fn listen(child: &mut Child) -> Receiver<Heard> {
    let (sender, receiver) = mpsc::channel();
    let kernel = child.stdout.take().expect("the pipe was asked for");
    let qemu = child.stderr.take().expect("the pipe was asked for");
    read_lines(kernel, sender.clone(), Heard::Kernel);
    read_lines(qemu, sender, |line| Heard::Qemu(String::from_utf8_lossy(&line).into_owned()));
    receiver
}

fn read_lines(
    pipe: impl Read + Send + 'static,
    sender: Sender<Heard>,
    heard: impl Fn(Vec<u8>) -> Heard + Send + 'static,
) {
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        loop {
            let mut line = Vec::new();
            // An error is an end like any other: the process is gone.
            let bytes = pipe.read_until(b'\n', &mut line).unwrap_or(0);
            if bytes == 0 || sender.send(heard(line)).is_err() {
                return;
            }
        }
    });
}

/// What was heard so far.
struct Watch {
    /// The way to the kernel's serial port.
    input: ChildStdin,
    lines: Vec<Line<String>>,
    log: Vec<String>,
    complaints: Vec<String>,
    walk: Option<Result<String, String>>,
    fingerprint: Fingerprint,
    asked: bool,
}

impl Watch {
    fn new(input: ChildStdin) -> Self {
        Self {
            input,
            lines: Vec::new(),
            log: Vec::new(),
            complaints: Vec::new(),
            walk: None,
            fingerprint: Fingerprint::default(),
            asked: false,
        }
    }

    /// Listens until QEMU has ended, or has not although it was asked, or we are interrupted.
    /// Whether it has ended.
    fn watch(
        &mut self,
        heard: &Receiver<Heard>,
        control: &mut Control,
        mut deadline: Instant,
    ) -> bool {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match heard.recv_timeout(left.min(INTERRUPTION_LOOK)) {
                Ok(Heard::Kernel(line)) => self.kernel_said(&line, control),
                Ok(Heard::Qemu(line)) => {
                    if line.contains(PAUSED_FOR_GOOD) {
                        deadline = Instant::now();
                    }
                    self.complaints.push(line.trim_end().to_owned());
                }
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if interruption::should_stop() {
                return false;
            }
            // After every line: a kernel that says something without end never times out.
            if Instant::now() >= deadline {
                if self.asked {
                    return false;
                }
                self.asked = true;
                // Should this fail, nobody answers, and the grace passes.
                let _ = control.interrupt_all();
                deadline = Instant::now() + GRACE;
            }
        }
    }

    fn kernel_said(&mut self, bytes: &[u8], control: &mut Control) {
        self.fingerprint.add(bytes);
        let line = String::from_utf8_lossy(bytes);
        let line = line.trim_end_matches(['\r', '\n']);
        match Line::parse(line) {
            Some(line) => {
                if matches!(line, Line::Ready {}) {
                    let walk = control.monitor(walker::COMMAND);
                    self.walk = Some(walk.map_err(|error| {
                        format!("QEMU's monitor does not walk the tables: {error}")
                    }));
                    // Should this fail, the kernel goes on waiting, until its time is over.
                    let _ = self.input.write_all(b"\n").and_then(|()| self.input.flush());
                }
                self.lines.push(line);
            }
            // What a processor says while another one is cut off begins with an empty line.
            None if line.is_empty() => {}
            None => {
                tracing::debug!("{line}");
                if self.log.len() == LOG_LINES_MAX {
                    self.log.remove(LOG_LINES_MAX / 2);
                }
                self.log.push(line.to_owned());
            }
        }
    }
}

/// A hash after Fowler, Noll and Vo (FNV-1a, 64 bits): the same on every host and for good.
struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
