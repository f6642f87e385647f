//! Results of an earlier run, for trends: the document that `--format json` has written.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use maud::{Markup, html};
use serde_json::Value;

use crate::exit;
use crate::text::thousands;

/// How far a time may be off before it is worth a word.
const SLOWER: f64 = 1.5;

/// What a row was in an earlier run.
#[derive(Clone, PartialEq, Debug)]
pub struct Was {
    /// The verdict, or the judgement of machines.
    pub verdict: String,
    /// Executions, or runs on machines.
    pub executions: u64,
    /// How long it took.
    pub seconds: f64,
}

/// An earlier run.
#[derive(Clone, PartialEq, Debug)]
pub struct Earlier {
    /// What to call it.
    name: String,
    rows: BTreeMap<(String, String), Was>,
}

/// Why a file is of no use, in a sentence, with its exit code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unfit {
    /// The exit code.
    pub code: u8,
    /// The sentence.
    pub sentence: String,
}

impl Earlier {
    /// Reads the document that `tool` has written, in this version of its form.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn read(path: &Path, tool: &str, version: u32) -> Result<Self, Unfit> {
        let shown = path.display();
        let unfit = |code, sentence| Err(Unfit { code, sentence });
        let writes = format!("name a document that `{tool} --format json` has written");
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                return unfit(exit::INTERNAL, format!("cannot read {shown}: {error}: {writes}"));
            }
        };
        let Ok(document) = serde_json::from_str::<Value>(&text) else {
            return unfit(exit::INTERNAL, format!("{shown} is no document of results: {writes}"));
        };
        let provenance = &document["provenance"];
        let provenance = provenance.get(0).unwrap_or(provenance);
        if let Some(other) = provenance["tool"].as_str().filter(|other| *other != tool) {
            return unfit(exit::INTERNAL, format!("{shown} has results of {other}: {writes}"));
        }
        let Some((found, rows)) = document["version"].as_u64().zip(document["rows"].as_array())
        else {
            return unfit(exit::INTERNAL, format!("{shown} is no document of results: {writes}"));
        };
        if found != u64::from(version) {
            let sentence = format!(
                "{shown} has results in form {found}, and this command knows form {version}: leave \
                 out --earlier, or run it again"
            );
            return unfit(exit::ANOTHER_STATE, sentence);
        }
        let commit = provenance["commit"].as_str().map(|commit| &commit[..commit.len().min(12)]);
        let name = commit.map_or(shown.to_string(), |commit| format!("{shown}, commit {commit}"));
        Ok(Self { name, rows: rows.iter().filter_map(row).collect() })
    }

    /// What an index says of the comparison, which has these rows now: by scenario and engine.
    pub fn heading<'a>(&self, now: impl Iterator<Item = (&'a str, &'a str)>) -> Markup {
        let gone = self.gone(now);
        html! {
            p .soft { "compared with " (self.name) }
            @if !gone.is_empty() { p .soft { "not run now: " (gone.join(", ")) } }
        }
    }

    /// What a row was then, in a few words: nothing where it was the same.
    pub fn trend(&self, name: &str, engine: &str, now: &Was) -> Markup {
        let Some(was) = self.rows.get(&(name.to_owned(), engine.to_owned())) else {
            return html! { span .soft { "new" } };
        };
        let ratio = now.seconds / was.seconds.max(0.001);
        let is_other_time =
            now.seconds.max(was.seconds) > 0.1 && !(1.0 / SLOWER..SLOWER).contains(&ratio);
        html! {
            @if was.verdict != now.verdict { span .bad { "was " (was.verdict) } " " }
            @if was.executions != now.executions {
                span { "of " (thousands(was.executions)) } " "
            }
            @if is_other_time { span .soft { (format!("time × {ratio:.1}")) } }
        }
    }

    /// The rows that are there no more.
    fn gone<'a>(&self, now: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
        let now: Vec<(&str, &str)> = now.collect();
        let is_gone = |key: &&(String, String)| !now.contains(&(&key.0, &key.1));
        let gone = self.rows.keys().filter(is_gone);
        gone.map(|(name, engine)| format!("{name} {engine}").trim_end().to_owned()).collect()
    }
}

/// A row of the models, or of machines.
fn row(row: &Value) -> Option<((String, String), Was)> {
    let text = |field: &str| row[field].as_str().map(str::to_owned);
    let runs = || Some(row["boots"].as_u64()? * row["repetitions"].as_u64()?);
    let was = Was {
        verdict: text("verdict").or_else(|| text("judgement"))?,
        executions: row["executions"].as_u64().or_else(runs).unwrap_or(0),
        seconds: row["elapsed_seconds"].as_f64().unwrap_or(0.0),
    };
    let name = text("scenario").or_else(|| text("name"))?;
    Some(((name, text("engine").unwrap_or_default()), was))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, text: &str) -> Result<Earlier, Unfit> {
        let path = std::env::temp_dir().join(format!("weft-{name}-{}", std::process::id()));
        fs::write(&path, text).expect("a file can be written");
        let earlier = Earlier::read(&path, "model-check", 2);
        fs::remove_file(&path).expect("it is there");
        earlier
    }

    #[test]
    fn what_is_other_than_before_is_told() {
        let text = r#"{ "version": 2, "provenance": [{ "tool": "model-check", "commit": "abc" }],
            "rows": [{ "scenario": "a_vs_b", "engine": "loom", "verdict": "EXHAUSTED",
                       "executions": 1000, "elapsed_seconds": 1.0 },
                     { "scenario": "c_vs_d", "engine": "loom", "verdict": "DIED" }] }"#;
        let earlier = of("trend", text).expect("it fits");
        let trend = |name, verdict: &str, executions, seconds| {
            let now = Was { verdict: verdict.to_owned(), executions, seconds };
            earlier.trend(name, "loom", &now).into_string()
        };
        assert_eq!(trend("a_vs_b", "EXHAUSTED", 1000, 1.2), "");
        let other = trend("a_vs_b", "FAILED", 7, 0.1);
        for part in ["was EXHAUSTED", "of 1,000", "time × 0.1"] {
            assert!(other.contains(part), "{other}");
        }
        assert!(trend("e_vs_f", "FAILED", 7, 0.1).contains("new"));
        assert_eq!(earlier.gone([("a_vs_b", "loom")].into_iter()), ["c_vs_d loom"]);
        assert!(earlier.name.ends_with(", commit abc"));
    }

    #[test]
    fn what_is_no_such_document_is_refused() {
        for (text, code, part) in [
            ("{", exit::INTERNAL, "is no document of results"),
            ("{}", exit::INTERNAL, "is no document of results"),
            (r#"{"provenance":{"tool":"qemu"}}"#, exit::INTERNAL, "has results of qemu"),
            (r#"{"version":1,"rows":[]}"#, exit::ANOTHER_STATE, "in form 1"),
        ] {
            let unfit = of("unfit", text).expect_err(text);
            assert_eq!(unfit.code, code, "{unfit:?}");
            assert!(unfit.sentence.contains(part), "{unfit:?}");
        }
    }
}
