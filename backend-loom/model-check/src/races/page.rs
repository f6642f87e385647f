//! The table as a web page of one file: rows that are sorted by a click, and open to show the
//! execution that fails.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::columns::{self, Telling};

use super::document;
use super::found::{Column, Finding, Found};
use super::rows::{NotExpressed, Race};
use super::trials::Shown;

/// The name of the page.
pub(crate) const PAGE: &str = "races.html";

const HEAD: &str = include_str!("page.head.html");

/// The page. `shown` has what the explorer found in this run, by the position of the race.
pub(crate) fn html(
    races: &[Race],
    findings: &[Finding],
    not: &[NotExpressed],
    shown: &BTreeMap<usize, Shown>,
) -> String {
    let mut text = format!("{HEAD}<p>{}</p>\n", escaped(&document::summary(races, findings, not)));
    text += "<table id=\"races\">\n<thead><tr>";
    let heads = ["#", "race", "made again as", "CPUs", "executions"];
    for head in heads.into_iter().chain(Column::ALL.map(Column::title)).chain(["lines"]) {
        write!(text, "<th>{head}</th>").expect("memory");
    }
    text += "</tr></thead>\n";
    for (index, (race, finding)) in races.iter().zip(findings).enumerate() {
        text += &row(race, finding, shown.get(&index));
    }
    text += "</table>\n";
    if !not.is_empty() {
        text += "<h2>What cannot be expressed</h2>\n<ul>\n";
        for NotExpressed { row, references, what, reason } in not {
            let [references, what, reason] = [references, what, reason].map(|it| escaped(it));
            writeln!(text, "<li>{row} ({references}): {what}. {reason}</li>").expect("memory");
        }
        text += "</ul>\n";
    }
    text + "</html>\n"
}

/// A row, with what it opens to.
fn row(race: &Race, finding: &Finding, shown: Option<&Shown>) -> String {
    let mut text = format!(
        "<tbody><tr><td>{}</td><td><details><summary>{}</summary>",
        escaped(race.bug.row),
        escaped(race.bug.what)
    );
    for (head, said) in [
        ("shipped in", race.bug.references.join(", ")),
        ("scenario", format!("scenarios/tests/{}.rs", race.scenario)),
        ("must never happen", race.header("Result:").trim_start_matches("Never. ").to_owned()),
        ("CPUs", race.header("CPUs:").to_owned()),
        ("invariant", race.header("Invariant:").to_owned()),
        ("bounds", race.header("Bounds:").to_owned()),
        ("mistake", race.described()),
    ] {
        write!(text, "<p><b>{head}</b> {}</p>", escaped(&said)).expect("memory");
    }
    if let Some((report, failure)) = shown {
        let told = columns::counterexample(report, failure, 120, Telling::default());
        write!(text, "<pre>{}</pre>", escaped(&told)).expect("memory");
    }
    write!(
        text,
        "</details></td><td><code>{}</code></td><td>{}</td><td>{}</td>",
        escaped(&race.how.to_string()),
        race.cpus(),
        finding.executions
    )
    .expect("memory");
    for column in Column::ALL {
        let found = finding.of(column);
        let class = match found {
            Found::After(_) | Found::Within(_) => "found",
            Found::NotIn(_) | Found::Survived | Found::Otherwise(_) => "missed",
            Found::Cannot | Found::NotTried => "none",
        };
        write!(text, "<td class=\"{class}\">{found}</td>").expect("memory");
    }
    writeln!(text, "<td>{}</td></tr></tbody>", race.file.lines).expect("memory");
    text
}

/// Text for a page.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_needs_nothing_else_and_its_text_is_text() {
        for outside in ["http://", "https://", "src=", "<link", "@import"] {
            assert!(!HEAD.contains(outside), "{outside}");
        }
        assert_eq!(escaped("N1[0] -> <a & \"b\">"), "N1[0] -&gt; &lt;a &amp; &quot;b&quot;&gt;");
    }
}
