//! What the commands have in common: `model-check`, `qemu` and `bench`.
//!
//! A command is a function from its arguments to an exit code, or to one sentence that says what
//! went wrong; [`run`] does the rest. Results go to the standard output, and everything else, the
//! sentences, progress and logs, to the standard error stream.
//!
//! * [`exit`]: what exit codes mean;
//! * [`arguments`]: options that several commands have, [`mod@select`]: filters;
//! * [`interruption`]: Ctrl-C, after which what has finished is still shown;
//! * [`text`]: tables and numbers for people, [`junit`]: documents for test servers,
//!   [`github`]: annotations of a workflow, [`lines`]: JSON lines as results come;
//! * [`page`]: web pages;
//! * [`checkout`]: where the files are that commands read and write, [`provenance`]: what results
//!   belong to.

#![forbid(unsafe_code)]

pub mod arguments;
pub mod checkout;
pub mod exit;
pub mod github;
pub mod interruption;
pub mod junit;
pub mod lines;
pub mod page;
pub mod provenance;
pub mod select;
pub mod text;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::Parser;
use clap::error::ErrorKind;
use serde_json::Value;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The name that sentences begin with.
static NAME: OnceLock<String> = OnceLock::new();

/// Reads the command line, and runs the command.
pub fn run<A: Parser>(command: impl FnOnce(A) -> Result<u8, String>) -> ExitCode {
    NAME.get_or_init(|| A::command().get_name().to_owned());
    let matches = with_exit_codes(A::command()).try_get_matches();
    let result = match matches.and_then(|matches| A::from_arg_matches(&matches)) {
        Ok(arguments) => command(arguments),
        Err(error) => refuse(&error),
    };
    ExitCode::from(result.unwrap_or_else(|sentence| {
        complain(&sentence);
        exit::INTERNAL
    }))
}

/// The command, with the table of exit codes below the help of all that it does.
pub(crate) fn with_exit_codes(command: clap::Command) -> clap::Command {
    let own = command.get_after_help().map(|text| format!("{text}\n\n")).unwrap_or_default();
    let command = command.after_help(own + exit::TABLE);
    command.mut_subcommands(|one| if one.is_hide_set() { one } else { with_exit_codes(one) })
}

/// What `--help` says where there is no terminal.
pub fn help<A: Parser>() -> String {
    with_exit_codes(A::command()).term_width(100).render_long_help().to_string()
}

/// Help and version are results; everything else is one sentence.
fn refuse(error: &clap::Error) -> Result<u8, String> {
    let text = error.to_string();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        print(&text)?;
        return Ok(exit::GOOD);
    }
    Err(sentence(&text))
}

/// What clap says, in one line: its first paragraph says what is wrong, its tips what might be
/// meant, and the rest repeats what `--help` says.
fn sentence(text: &str) -> String {
    let first = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
    let first = first.collect::<Vec<_>>().join(" ");
    let first = first.trim_start_matches("error: ");
    let tips = text.lines().filter_map(|line| line.trim_start().strip_prefix("tip: "));
    let tips: String = tips.map(|tip| format!("; {tip}")).collect();
    format!("{first}{tips}; --help shows what there is")
}

/// Writes a sentence for the user to the standard error stream.
pub fn complain(sentence: &str) {
    let name = NAME.get().map_or("weft", String::as_str);
    // If it cannot be written, the exit code still says it.
    let _ = writeln!(io::stderr(), "{name}: {sentence}");
}

/// Writes a result. A reader that went away has had enough, which is a quiet end.
///
/// # Errors
///
/// One sentence, if the result cannot be written.
pub fn print(text: &str) -> Result<(), String> {
    write(&mut io::stdout().lock(), text)
}

/// Writes a document.
///
/// # Errors
///
/// One sentence, if it cannot be written.
pub fn print_json(document: &Value) -> Result<(), String> {
    print(&format!("{document:#}\n"))
}

fn write(out: &mut impl Write, text: &str) -> Result<(), String> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write the results: {error}"))
        }
        _ => Ok(()),
    }
}

/// Logs to the standard error stream from now on: what is at least as important as `level`, or what
/// the variable `RUST_LOG` asks for, as `debug` or `weft_model_check=trace,info`.
///
/// # Errors
///
/// One sentence, if the variable asks for nothing that can be understood.
pub fn start_log(level: tracing::Level) -> Result<(), String> {
    let wanted = match std::env::var("RUST_LOG") {
        Ok(text) => text.parse().map_err(|error| {
            format!("RUST_LOG cannot be read ({error}): use a level, as debug, or leave it out")
        })?,
        Err(_) => Targets::new().with_default(level),
    };
    let log = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let log = log.with_ansi(console::colors_enabled_stderr()).with_target(false).without_time();
    tracing_subscriber::registry().with(log.with_filter(wanted)).init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place that takes nothing.
    struct Full(io::ErrorKind);

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn results_that_are_lost_are_an_error_unless_the_reader_has_gone() {
        let lost = write(&mut Full(io::ErrorKind::StorageFull), "all");
        assert!(lost.is_err_and(|sentence| sentence.starts_with("cannot write the results: ")));
        assert_eq!(write(&mut Full(io::ErrorKind::BrokenPipe), "all"), Ok(()));
    }

    #[test]
    fn a_refusal_is_one_line_with_its_tips() {
        let said = "error: unexpected argument '--sed' found\n\n  tip: a similar argument exists: \
                    '--seed'\n\nUsage: it [OPTIONS]\n\nFor more information, try '--help'.\n";
        assert_eq!(
            sentence(said),
            "unexpected argument '--sed' found; a similar argument exists: '--seed'; --help shows \
             what there is"
        );
    }
}
