//! Filters: which of the things that have names are meant.

/// How much a name has to be like a filter to be offered instead.
const ALIKE: f64 = 0.8;

/// Says for each name whether a filter selects it: a filter that is a whole name selects that one,
/// another one all names that it is a part of. Without filters all are selected. Names for which
/// `by_name` holds are selected by their whole name only.
///
/// # Errors
///
/// One sentence, if a filter selects nothing.
pub fn select(
    names: &[&str],
    filters: &[String],
    by_name: impl Fn(&str) -> bool,
) -> Result<Vec<bool>, String> {
    let mut selected: Vec<bool> =
        names.iter().map(|name| filters.is_empty() && !by_name(name)).collect();
    for filter in filters {
        let is_whole = names.contains(&filter.as_str());
        let is_hit = |name: &str| match is_whole {
            true => name == filter,
            false => !filter.is_empty() && name.contains(filter.as_str()) && !by_name(name),
        };
        if !names.iter().any(|name| is_hit(name)) {
            return Err(format!(
                "no scenario's name contains {filter:?}{}; --list shows all of them",
                did_you_mean(filter, names)
            ));
        }
        for (selected, name) in selected.iter_mut().zip(names) {
            *selected |= is_hit(name);
        }
    }
    Ok(selected)
}

/// The name that is most like what was typed, if there is one, in brackets.
pub fn did_you_mean(typed: &str, names: &[&str]) -> String {
    let likeness = |name: &&&str| strsim::jaro(typed, name);
    let best = names.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match best.filter(|best| likeness(best) > ALIKE) {
        Some(best) => format!(" (a similar one is {best})"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["lock_vs_lock", "lock_vs_lock_nested", "walk_vs_map", "bad-panic"];

    fn selected(filters: &[&str]) -> Result<Vec<&'static str>, String> {
        let filters: Vec<String> = filters.iter().map(|filter| (*filter).to_owned()).collect();
        let selected = select(&NAMES, &filters, |name| name.starts_with("bad-"))?;
        Ok(NAMES.into_iter().zip(selected).filter_map(|(name, it)| it.then_some(name)).collect())
    }

    #[test]
    fn a_part_selects_all_and_a_whole_name_only_itself() {
        assert_eq!(selected(&["lock"]), Ok(vec!["lock_vs_lock", "lock_vs_lock_nested"]));
        assert_eq!(selected(&["lock_vs_lock"]), Ok(vec!["lock_vs_lock"]));
        assert_eq!(selected(&["map", "nested"]), Ok(vec!["lock_vs_lock_nested", "walk_vs_map"]));
    }

    #[test]
    fn some_have_to_be_named() {
        assert_eq!(selected(&[]).map(|names| names.len()), Ok(3));
        assert_eq!(selected(&["bad-panic"]), Ok(vec!["bad-panic"]));
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
