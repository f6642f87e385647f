//! Filters: which of the things that have names are meant.

use glob::Pattern;

/// How much a name has to be like a filter to be offered instead.
const ALIKE: f64 = 0.8;

/// What a filter means among some names.
enum Filter<'a> {
    /// A whole name selects that one.
    Whole(&'a str),
    /// Another text selects all names that it is a part of.
    Part(&'a str),
    /// With `*`, `?` or `[...]`: the whole names that it fits.
    Glob(Pattern),
}

impl<'a> Filter<'a> {
    fn new(text: &'a str, names: &[&str]) -> Result<Self, String> {
        if names.contains(&text) {
            return Ok(Self::Whole(text));
        }
        if !text.contains(['*', '?', '[']) {
            return Ok(Self::Part(text));
        }
        let pattern = Pattern::new(text);
        pattern.map(Self::Glob).map_err(|error| format!("{text:?} is no pattern: {}", error.msg))
    }

    fn hits(&self, name: &str) -> bool {
        match self {
            Self::Whole(whole) => name == *whole,
            Self::Part(part) => !part.is_empty() && name.contains(part),
            Self::Glob(pattern) => pattern.matches(name),
        }
    }
}

/// Says for each name, of a `kind` of things, whether a filter selects it and none skips it.
/// Without filters all are selected. Names for which `by_name` holds are selected by their whole
/// name only. `all` says what shows all names.
///
/// # Errors
///
/// One sentence, if a filter hits nothing or is no pattern, or if nothing is left.
pub fn select(
    kind: &str,
    all: &str,
    names: &[&str],
    (filters, skip): (&[String], &[String]),
    by_name: impl Fn(&str) -> bool,
) -> Result<Vec<bool>, String> {
    let hits = |filter: &String| -> Result<Vec<bool>, String> {
        let meant = Filter::new(filter, names)?;
        let is_whole = matches!(meant, Filter::Whole(_));
        let hit = |name: &&str| meant.hits(name) && (is_whole || !by_name(name));
        let hits: Vec<bool> = names.iter().map(hit).collect();
        if hits.contains(&true) {
            return Ok(hits);
        }
        let relation = if matches!(meant, Filter::Glob(_)) { "fits" } else { "contains" };
        let similar = did_you_mean(filter, names);
        Err(format!("no {kind}'s name {relation} {filter:?}{similar}; {all} shows all of them"))
    };
    let mut selected: Vec<bool> =
        names.iter().map(|name| filters.is_empty() && !by_name(name)).collect();
    for filter in filters {
        selected.iter_mut().zip(hits(filter)?).for_each(|(selected, hit)| *selected |= hit);
    }
    for filter in skip {
        selected.iter_mut().zip(hits(filter)?).for_each(|(selected, hit)| *selected &= !hit);
    }
    if selected.contains(&true) {
        return Ok(selected);
    }
    Err(format!("--skip leaves no {kind}: skip less"))
}

/// The name that is most like what was typed, if there is one, in brackets.
pub fn did_you_mean<S: AsRef<str>>(typed: &str, names: &[S]) -> String {
    let likeness = |name: &str| strsim::jaro(&typed.to_lowercase(), &name.to_lowercase());
    let names = names.iter().map(AsRef::as_ref);
    let best = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match best.filter(|best| likeness(best) > ALIKE) {
        Some(best) => format!(" (a similar one is {best})"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["lock_vs_lock", "lock_vs_lock_nested", "walk_vs_map", "bad-panic"];

    fn left(filters: &[&str], skip: &[&str]) -> Result<Vec<&'static str>, String> {
        let owned = |texts: &[&str]| texts.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let (filters, skip) = (owned(filters), owned(skip));
        let by_name = |name: &str| name.starts_with("bad-");
        let selected = select("scenario", "--list", &NAMES, (&filters, &skip), by_name)?;
        Ok(NAMES.into_iter().zip(selected).filter_map(|(name, it)| it.then_some(name)).collect())
    }

    fn selected(filters: &[&str]) -> Result<Vec<&'static str>, String> {
        left(filters, &[])
    }

    #[test]
    fn a_part_selects_all_and_a_whole_name_only_itself() {
        assert_eq!(selected(&["lock"]), Ok(vec!["lock_vs_lock", "lock_vs_lock_nested"]));
        assert_eq!(selected(&["lock_vs_lock"]), Ok(vec!["lock_vs_lock"]));
        assert_eq!(selected(&["map", "nested"]), Ok(vec!["lock_vs_lock_nested", "walk_vs_map"]));
    }

    #[test]
    fn a_pattern_selects_the_whole_names_that_it_fits() {
        assert_eq!(selected(&["lock*lock"]), Ok(vec!["lock_vs_lock"]));
        assert_eq!(selected(&["*_vs_[lm]*"]).map(|names| names.len()), Ok(3));
        assert_eq!(selected(&["walk_vs_ma?"]), Ok(vec!["walk_vs_map"]));
        let refused = selected(&["*_vs_mop"]).expect_err("there is none");
        assert!(refused.starts_with("no scenario's name fits \"*_vs_mop\""), "{refused}");
        assert!(selected(&["[z-"]).is_err_and(|error| error.starts_with("\"[z-\" is no pattern")));
    }

    #[test]
    fn what_is_skipped_is_left_out() {
        assert_eq!(left(&[], &["lock"]), Ok(vec!["walk_vs_map"]));
        assert_eq!(left(&["lock"], &["*_nested"]), Ok(vec!["lock_vs_lock"]));
        assert!(left(&["walk"], &["*"]).is_err_and(|error| error.contains("skip less")));
        assert!(left(&[], &["sun"]).is_err_and(|error| error.contains("contains \"sun\"")));
    }

    #[test]
    fn some_have_to_be_named() {
        assert_eq!(selected(&[]).map(|names| names.len()), Ok(3));
        assert_eq!(selected(&["bad-panic"]), Ok(vec!["bad-panic"]));
        assert_eq!(selected(&["*a*"]), Ok(vec!["walk_vs_map"]));
        assert!(selected(&["bad-"]).is_err());
    }

    #[test]
    fn a_filter_that_selects_nothing_is_refused() {
        let refused = selected(&["walk_vs_mop"]).expect_err("there is none");
        assert_eq!(
            refused,
            "no scenario's name contains \"walk_vs_mop\" (a similar one is walk_vs_map); --list \
             shows all of them"
        );
        let refused = selected(&["lock", "sun"]).expect_err("there is none");
        assert_eq!(refused, "no scenario's name contains \"sun\"; --list shows all of them");
        assert!(selected(&[""]).is_err());
    }
}
