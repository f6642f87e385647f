//! Results as test servers take them: JUnit's XML.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCaseStatus};
pub use quick_junit::{TestCase, TestSuite};

/// A case that fails exactly if there is something to complain about: the first line is its
/// message, and with `more` it is its description.
pub fn case(name: &str, class: &str, complaint: &str, more: &str) -> TestCase {
    let status = if complaint.is_empty() {
        TestCaseStatus::success()
    } else {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        let message = complaint.lines().next().unwrap_or_default();
        let description = [complaint, more].join("\n");
        status.set_message(message).set_description(description.trim_end());
        status
    };
    let mut case = TestCase::new(name, status);
    case.set_classname(class);
    case
}

/// The document of a command.
pub fn document(
    name: &str,
    elapsed: Duration,
    suites: impl IntoIterator<Item = TestSuite>,
) -> String {
    let mut report = Report::new(name);
    report.set_time(elapsed).add_test_suites(suites);
    report.to_string().expect("text is written to memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_complained_about_fails() {
        let mut suite = TestSuite::new("suite");
        suite.add_test_case(case("good", "class", "", "all that was said"));
        suite.add_test_case(case("bad", "class", "too few\nof them", "log"));
        let text = document("command", Duration::ZERO, [suite]);
        assert!(text.contains("tests=\"2\"") && text.contains("failures=\"1\""), "{text}");
        assert!(text.contains("message=\"too few\""), "{text}");
        assert!(text.contains("too few\nof them\nlog<"), "{text}");
        assert!(!text.contains("all that was said"), "{text}");
    }
}
