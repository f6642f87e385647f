//! One copy of a file for all of its mutants.
//!
//! A mutant replaces some text of a file. Where that text lies in the body of a function, the body
//! becomes a choice: the patched body if this mutant is chosen at run time, and the body as it was
//! otherwise. Every mutant is applied to the file as it was, so mutants of one function do not meet
//! each other. Signatures and attributes stay as they are.
//!
//! What lies outside of a body, or in the body of a `const fn`, cannot be chosen at run time.
//! Functions are found by their tokens: `fn`, a name, and the first braces that are no part of the
//! signature. So functions inside of macros are found, too.

use std::ops::Range;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// What merged code calls to learn which mutant is chosen.
pub(crate) const CHOICE: &str = "crate::mutant_choice::chosen()";

/// The replacement of a part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    range: Range<usize>,
    text: String,
}

impl Edit {
    /// The smallest edit that replaces `find`, which `text` has to contain exactly once.
    ///
    /// # Errors
    ///
    /// One sentence, if it does not, or if nothing would change.
    pub(crate) fn locate(text: &str, find: &str, replace: &str) -> Result<Self, String> {
        let mut found = text.match_indices(find).map(|(start, _)| start);
        let start = match (find.is_empty(), found.next(), found.next()) {
            (true, ..) => return Err("`find` is empty: say which text is replaced".to_owned()),
            (_, None, _) => return Err(format!("{} is not there", excerpt(find))),
            (_, Some(start), None) => start,
            (_, Some(_), Some(_)) => {
                return Err(format!("{} is there more than once: find more text", excerpt(find)));
            }
        };
        if find == replace {
            return Err(format!("{} is replaced by itself", excerpt(find)));
        }
        let same = |(one, other): &(char, char)| one == other;
        let length = |(one, _): (char, char)| one.len_utf8();
        let before = find.chars().zip(replace.chars()).take_while(same).map(length).sum::<usize>();
        let (old, new) = (&find[before..], &replace[before..]);
        let after = old.chars().rev().zip(new.chars().rev()).take_while(same).map(length);
        let after = after.sum::<usize>();
        let range = start + before..start + find.len() - after;
        Ok(Self { range, text: new[..new.len() - after].to_owned() })
    }
}

/// The first line of a text, for a message.
fn excerpt(text: &str) -> String {
    format!("`{}`", text.trim().lines().next().unwrap_or_default().trim_end())
}

/// `text` with all of `edits`, which `within` holds.
fn apply(text: &str, within: Range<usize>, edits: &[Edit]) -> Result<String, String> {
    let mut edits: Vec<&Edit> = edits.iter().filter(|edit| holds(&within, &edit.range)).collect();
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
    let (mut out, mut done) = (String::new(), within.start);
    for edit in edits {
        if edit.range.start < done {
            return Err("two of its replacements change the same text".to_owned());
        }
        out += &text[done..edit.range.start];
        out += &edit.text;
        done = edit.range.end;
    }
    Ok(out + &text[done..within.end])
}

fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// The inside of a function's braces.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Body {
    inside: Range<usize>,
    is_const: bool,
}

/// A file, and where the functions in it are.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    text: String,
    bodies: Vec<Body>,
}

/// A file with a choice in every function that a mutant changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Merged {
    /// The text.
    pub(crate) text: String,
    /// Where the mutants of a function are, and where each of its patched bodies is.
    places: Vec<(Range<usize>, Vec<u32>)>,
}

impl Source {
    /// Finds the functions of a file.
    ///
    /// # Errors
    ///
    /// One sentence, if it is no Rust.
    pub(crate) fn read(text: String) -> Result<Self, String> {
        let stream: TokenStream = text.parse().map_err(|error| format!("is no Rust: {error}"))?;
        let mut bodies = Vec::new();
        find_bodies(stream, &mut bodies);
        Ok(Self { text, bodies })
    }

    /// The whole file with some edits.
    ///
    /// # Errors
    ///
    /// One sentence, if two of them overlap.
    pub(crate) fn patched(&self, edits: &[Edit]) -> Result<String, String> {
        apply(&self.text, 0..self.text.len(), edits)
    }

    /// The bodies that a mutant changes, without those inside of another one.
    ///
    /// # Errors
    ///
    /// Why it cannot be chosen at run time.
    fn changed(&self, edits: &[Edit]) -> Result<Vec<Range<usize>>, String> {
        let mut changed: Vec<Range<usize>> = Vec::new();
        for edit in edits {
            let around = self.bodies.iter().filter(|body| holds(&body.inside, &edit.range));
            let innermost = around.min_by_key(|body| body.inside.len());
            let body = innermost.ok_or("it changes more than the bodies of functions")?;
            if body.is_const {
                return Err("it changes a `const fn`".to_owned());
            }
            changed.push(body.inside.clone());
        }
        changed.sort_by_key(|body| (body.start, std::cmp::Reverse(body.end)));
        changed.dedup_by(|inner, outer| holds(outer, inner));
        for body in &changed {
            let patched = apply(&self.text, body.clone(), edits)?;
            // Else the text closes the function's braces, and opens others.
            if patched.parse::<TokenStream>().is_err() {
                return Err("it changes where a function ends".to_owned());
            }
        }
        Ok(changed)
    }

    /// Whether a mutant can be chosen at run time.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(crate) fn fits(&self, edits: &[Edit]) -> Result<(), String> {
        self.changed(edits).map(drop)
    }

    /// Merges mutants, which are numbers with the edits of this file. All of them have to fit.
    pub(crate) fn merge(&self, mutants: &[(u32, Vec<Edit>)]) -> Merged {
        let changed = mutants.iter().flat_map(|(number, edits)| {
            let bodies = self.changed(edits).expect("mutants that are merged fit");
            bodies.into_iter().map(move |body| (body, *number, edits.as_slice()))
        });
        let mut changed: Vec<Change<'_>> = changed.collect();
        changed.sort_by_key(|(body, number, _)| (body.start, std::cmp::Reverse(body.end), *number));
        let mut merged = Merged { text: String::new(), places: Vec::new() };
        self.write(0..self.text.len(), &changed, &mut merged);
        merged
    }

    /// Writes a part of the file; `changes` are the ones inside, outer functions first.
    fn write(&self, part: Range<usize>, changes: &[Change<'_>], merged: &mut Merged) {
        let mut done = part.start;
        let mut left = changes;
        while let [(body, ..), ..] = left {
            let inside = left.iter().take_while(|(other, ..)| holds(body, other)).count();
            let (these, others) = left.split_at(inside);
            let here = these.iter().take_while(|(other, ..)| other == body).count();
            let (here, deeper) = these.split_at(here);
            merged.text += &self.text[done..body.start];
            let start = merged.text.len();
            merged.text += &format!(" match {CHOICE} {{\n");
            for (_, number, edits) in here {
                let start = merged.text.len();
                let patched = apply(&self.text, body.clone(), edits).expect("the mutant fits");
                merged.text += &format!("{number} => {{{patched}\n}}\n");
                merged.places.push((start..merged.text.len(), vec![*number]));
            }
            merged.text += "_ => {";
            self.write(body.clone(), deeper, merged);
            merged.text += "\n}\n}\n";
            let numbers = these.iter().map(|(_, number, _)| *number).collect();
            merged.places.push((start..merged.text.len(), numbers));
            (done, left) = (body.end, others);
        }
        merged.text += &self.text[done..part.end];
    }
}

/// A body, and the number and the edits of a mutant that changes it.
type Change<'a> = (Range<usize>, u32, &'a [Edit]);

impl Merged {
    /// The mutants that what is found at an offset may come from.
    pub(crate) fn at(&self, offset: usize) -> &[u32] {
        let places = self.places.iter().filter(|(range, _)| range.contains(&offset));
        places.min_by_key(|(range, _)| range.len()).map_or(&[], |(_, numbers)| numbers)
    }
}

/// Finds the functions of a stream, also inside of any brackets.
fn find_bodies(stream: TokenStream, bodies: &mut Vec<Body>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    for (position, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => find_bodies(group.stream(), bodies),
            TokenTree::Ident(word) if word == "fn" => {
                let Some(inside) = body_after(&tokens[position + 1..]) else { continue };
                let words = tokens[..position].iter().rev();
                let is_const = words.map_while(modifier).any(|word| word == "const");
                bodies.push(Body { inside, is_const });
            }
            _ => {}
        }
    }
}

/// A word that may stand before `fn`, or the name of an ABI.
fn modifier(token: &TokenTree) -> Option<String> {
    let text = token.to_string();
    let is_word = ["const", "async", "unsafe", "safe", "extern"].contains(&text.as_str());
    (is_word || matches!(token, TokenTree::Literal(_))).then_some(text)
}

/// The inside of the body of a function, given the tokens after `fn`.
fn body_after(tokens: &[TokenTree]) -> Option<Range<usize>> {
    let [TokenTree::Ident(_), signature @ ..] = tokens else { return None };
    // Braces between angle brackets are the value of a const parameter.
    let (mut depth, mut is_arrow) = (0, false);
    for token in signature {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && depth == 0 => {
                let (open, close) = (group.span_open(), group.span_close());
                return Some(open.byte_range().end..close.byte_range().start);
            }
            TokenTree::Punct(punct) => match punct.as_char() {
                ';' if depth == 0 => return None,
                '<' => depth += 1,
                '>' if !is_arrow => depth -= 1,
                _ => {}
            },
            _ => {}
        }
        is_arrow = matches!(token, TokenTree::Punct(punct)
            if punct.as_char() == '-' && punct.spacing() == Spacing::Joint);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::read(text.to_owned()).expect("it is Rust")
    }

    fn edit(text: &str, find: &str, replace: &str) -> Edit {
        Edit::locate(text, find, replace).expect("it is there once")
    }

    /// Merges mutants of one replacement each, numbered from 1, without regard to white space.
    fn merge(text: &str, mutants: &[(&str, &str)]) -> Vec<String> {
        let mutants: Vec<(u32, Vec<Edit>)> = (1..)
            .zip(mutants)
            .map(|(number, (find, replace))| (number, vec![edit(text, find, replace)]))
            .collect();
        let merged = source(text).merge(&mutants).text.replace(CHOICE, "C");
        merged.split_whitespace().map(str::to_owned).collect()
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn text_that_is_not_there_once_is_refused() {
        for (find, replace, part) in [
            ("c ", "d", "`c` is not there"),
            ("a", "b", "`a` is there more than once"),
            ("b\n", "b\n", "`b` is replaced by itself"),
            ("", "b", "`find` is empty"),
        ] {
            let error = Edit::locate("a\na\nb\n", find, replace).expect_err(find);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn an_edit_is_as_small_as_what_differs() {
        let located = edit("fn f() { say(1) }", "fn f() { say(1)", "fn f() { say(12)");
        assert_eq!(located, Edit { range: 14..14, text: "2".to_owned() });
        let located = edit("é ö ü", "é ö ü", "é ä ü");
        assert_eq!(located, Edit { range: 3..5, text: "ä".to_owned() });
        let located = edit("aaa b", "aaa b", "aa b");
        assert_eq!(located.text, "");
        assert_eq!(located.range.len(), 1);
    }

    #[test]
    fn mutants_that_overlap_in_one_function_have_an_arm_each() {
        let text = "fn f(x: u8) -> u8 { x + 1 }";
        let merged = merge(text, &[("x + 1", "x"), ("+ 1", "- 1"), ("x + 1 ", "")]);
        let wanted = "fn f(x: u8) -> u8 { match C { 1 => { x } 2 => { x - 1 } 3 => { }
            _ => { x + 1 } } }";
        assert_eq!(merged, words(wanted));
    }

    #[test]
    fn mutants_of_two_functions_are_two_choices() {
        let text = "fn f() { a() } #[inline] fn g() { b() }";
        let merged = merge(text, &[("b()", "c()"), ("a()", "c()")]);
        let wanted = "fn f() { match C { 2 => { c() } _ => { a() } } }
            #[inline] fn g() { match C { 1 => { c() } _ => { b() } } }";
        assert_eq!(merged, words(wanted));
    }

    #[test]
    fn a_closure_belongs_to_the_function_around_it() {
        let text = "fn f() { let g = |x| { h(|| x + 1) }; g(2) }";
        let merged = merge(text, &[("x + 1", "x")]);
        let wanted = "fn f() { match C { 1 => { let g = |x| { h(|| x) }; g(2) }
            _ => { let g = |x| { h(|| x + 1) }; g(2) } } }";
        assert_eq!(merged, words(wanted));
    }

    #[test]
    fn a_nested_function_chooses_by_itself_and_keeps_its_choice_in_the_outer_one() {
        let text = "fn f() { fn g() { 1 } g() }";
        let merged = merge(text, &[("1", "2"), ("g() }", "3 }")]);
        let wanted = "fn f() { match C { 2 => { fn g() { 1 } 3 }
            _ => { fn g() { match C { 1 => { 2 } _ => { 1 } } } g() } } }";
        let error = format!("{merged:?}");
        assert_eq!(merged, words(wanted), "{error}");
    }

    #[test]
    fn one_mutant_of_several_replacements_is_one_arm_in_each_function() {
        let text = "fn f() { a(); b() } fn g() { c() }";
        let edits = vec![edit(text, "b()", "y()"), edit(text, "a()", "x()"), edit(text, "c()", "")];
        let merged = source(text).merge(&[(7, edits)]).text.replace(CHOICE, "C");
        let wanted = "fn f() { match C { 7 => { x(); y() } _ => { a(); b() } } }
            fn g() { match C { 7 => { } _ => { c() } } }";
        assert_eq!(words(&merged), words(wanted));
    }

    #[test]
    fn what_cannot_be_chosen_at_run_time_says_why() {
        let text = "const A: u8 = 1; const fn f() { 2 } fn g() -> u8 { 3 } fn h() { x } }";
        let text = &text[..text.len() - 2];
        let source = source(text);
        for (find, replace, part) in [
            ("= 1", "= 2", "more than the bodies"),
            ("-> u8", "-> u16", "more than the bodies"),
            ("{ 2", "{ 0", "`const fn`"),
            ("{ x }", "{ y } fn i() { x }", "where a function ends"),
        ] {
            let error = source.fits(&[edit(text, find, replace)]).expect_err(find);
            assert!(error.contains(part), "{find}: {error}");
        }
        source.fits(&[edit(text, "{ 3", "{ 4")]).expect("a body can be chosen");
        let twice = [edit(text, "{ 3 }", "{ 4}"), edit(text, " 3 ", "5 ")];
        assert!(source.fits(&twice).expect_err("overlap").contains("the same text"));
    }

    #[test]
    fn signatures_are_read_as_they_are_written() {
        for text in [
            "fn f<const N: usize = { 1 }>(x: fn(u8) -> u8) -> A<{ N }> where T: F() -> B<C<D>> {!}",
            "trait T { fn g(&self) -> u8; unsafe extern \"C\" fn f() {!} }",
            "macro_rules! m { ($name:ident) => { pub fn f() {!} } }",
            "m! { fn f(self) -> Option<Vec<u8>> {!} }",
        ] {
            let place = text.find('!').filter(|at| text[..*at].ends_with('{'));
            let place = place.unwrap_or_else(|| text.rfind('!').expect("a mark"));
            let bodies = source(text).bodies;
            let inside: Vec<Range<usize>> = bodies.into_iter().map(|body| body.inside).collect();
            assert_eq!((inside.len(), &inside[0]), (1, &(place..place + 1)), "{text}");
        }
    }

    #[test]
    fn an_error_is_blamed_on_its_arm_or_on_all_mutants_of_its_function() {
        let text = "fn f() { a() } fn g() { b() }";
        let one = |number, find| (number, vec![edit(text, find, "wrong")]);
        let merged = source(text).merge(&[one(1, "a()"), one(2, "a"), one(3, "b()")]);
        let of = |part: &str| merged.at(merged.text.find(part).expect("it is there"));
        assert_eq!(of("wrong"), [1]);
        assert_eq!(of("wrong()"), [2]);
        assert_eq!(of("a()"), [1, 2]);
        assert_eq!(of("b()"), [3]);
        assert_eq!(of("fn f"), [0_u32; 0]);
    }
}
