//! Options that several commands have.

use clap::ValueEnum;

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
            Self::Junit => Err("--list has no JUnit form: use human or json".to_owned()),
        }
    }
}
