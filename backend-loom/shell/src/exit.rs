//! Exit codes, with one meaning for all commands.

/// The codes as `--help` tells them.
pub const TABLE: &str = "\
Exit codes:
    0  good
    1  violation: a condition was broken, or a workload did not do its work
    2  missing: something expected or demanded was not met, nothing was run, or something that was
       broken on purpose was not noticed
    3  bounded where exhaustion was demanded
    4  wrong usage, results that cannot be written, or another error of the command itself
    5  another state: a token or a file of results belongs to other code than this
  130  interrupted: what had finished is shown";

/// All is well.
pub const GOOD: u8 = 0;
/// A condition was broken.
pub const VIOLATION: u8 = 1;
/// Something that was expected, or demanded, was not met, or something broken was not noticed.
pub const MISSING: u8 = 2;
/// A search was not exhaustive, and that was demanded.
pub const BOUNDED: u8 = 3;
/// Wrong usage, or the command itself failed.
pub const INTERNAL: u8 = 4;
/// A token, or a file of results, belongs to another state of the code.
pub const ANOTHER_STATE: u8 = 5;
/// Interrupted.
pub const INTERRUPTED: u8 = 130;

/// The code of which the user must hear first.
pub fn worst(codes: &[u8]) -> u8 {
    let order = [INTERRUPTED, INTERNAL, ANOTHER_STATE, VIOLATION, MISSING, BOUNDED];
    order.into_iter().find(|code| codes.contains(code)).unwrap_or(GOOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_table() {
        for code in [GOOD, VIOLATION, MISSING, BOUNDED, INTERNAL, ANOTHER_STATE, INTERRUPTED] {
            let begins = format!("{code:>5}  ");
            assert!(TABLE.lines().any(|line| line.starts_with(&begins)), "{code}");
        }
    }

    #[test]
    fn the_document_has_the_same_table() {
        let document = include_str!("../../../docs/results.md");
        let table = TABLE.replace("\n       ", " ");
        for line in table.lines().skip(1) {
            let (code, meaning) = line.trim().split_once("  ").expect("a code and its meaning");
            let meaning = meaning.split_whitespace().collect::<Vec<_>>().join(" ");
            let row = format!("| {code} | {meaning} |");
            assert!(document.contains(&row), "no {row:?} in docs/results.md");
        }
    }

    #[test]
    fn the_worst_is_told() {
        assert_eq!(worst(&[]), GOOD);
        assert_eq!(worst(&[GOOD, BOUNDED, MISSING]), MISSING);
        assert_eq!(worst(&[VIOLATION, INTERNAL, MISSING]), INTERNAL);
    }
}
