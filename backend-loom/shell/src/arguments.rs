//! Options and sub-commands that several commands have.

use clap::{Args, CommandFactory, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::{exit, print};

/// How results are written, where test servers can take them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// One document.
    Json,
    /// One document, as test servers take it.
    Junit,
    /// JSON lines, each as soon as there is something to tell: see docs/results.md.
    Jsonl,
    /// Annotations of GitHub's workflows, for what is wrong.
    Github,
}

/// How results are written that have no form for test servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Human,
    /// One document.
    Json,
}

impl Format {
    /// The form of a list.
    ///
    /// # Errors
    ///
    /// One sentence, if it is one for test servers: a list says nothing of success.
    pub fn of_list(self) -> Result<Form, String> {
        match self {
            Self::Human => Ok(Form::Human),
            Self::Json => Ok(Form::Json),
            Self::Junit | Self::Jsonl | Self::Github => {
                Err("--list has only the forms human and json: use one of them".to_owned())
            }
        }
    }
}

/// Sub-commands about the command line itself.
#[derive(Clone, Debug, Subcommand)]
pub enum About {
    /// Writes a file that completes this command's options in a shell.
    Completions(Completions),
    /// Writes this command's manual page.
    Man,
}

/// What to complete in.
#[derive(Clone, Debug, Args)]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

impl About {
    /// Writes what was asked for about the command `A`.
    ///
    /// # Errors
    ///
    /// One sentence, if it cannot be written.
    pub fn tell<A: CommandFactory>(&self) -> Result<u8, String> {
        let mut command = crate::with_exit_codes(A::command());
        let mut text = Vec::new();
        match self {
            Self::Completions(Completions { shell }) => {
                let name = command.get_name().to_owned();
                clap_complete::generate(*shell, &mut command, name, &mut text);
            }
            Self::Man => {
                let page = clap_mangen::Man::new(command);
                page.render(&mut text).map_err(|error| format!("no manual page: {error}"))?;
            }
        }
        print(&String::from_utf8_lossy(&text))?;
        Ok(exit::GOOD)
    }
}
