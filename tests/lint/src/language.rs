//! Five figures of the source text's language, each with its bound.
//!
//! Counted by line, in every file and without the bodies of test modules. A comment line begins
//! with `//`, `///` or `//!`; a code line is any other that is not blank.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use crate::source::Source;

/// First words of a comment that opens with a clause instead of a noun phrase or imperative.
const OPENINGS: &str = "What Who Whom Whose Whoever Whether That Those";
/// Pronouns for people, where programs and files are meant. Compared without case.
const PEOPLE: &str = "who whoever whom whose nobody somebody anybody none";
const MAX_COLUMNS: usize = 100;

/// Counts over all sources.
#[derive(Debug, Default)]
pub(crate) struct Language {
    comment_lines: usize,
    reason_lines: usize,
    code_lines: usize,
    words: usize,
    openings: usize,
    people: usize,
    tuple_lets: usize,
    long_lines: usize,
    /// Lines that make a figure worse, by file and line.
    pub(crate) offences: Vec<Offence>,
}

/// A line and the rules that it breaks.
#[derive(Debug)]
pub(crate) struct Offence {
    path: PathBuf,
    line: usize,
    rules: Vec<&'static str>,
    text: String,
}

/// One figure and its bound.
#[derive(Debug)]
pub(crate) struct Figure {
    name: &'static str,
    value: f64,
    decimals: usize,
    unit: &'static str,
    bound: Bound,
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Language {
    pub(crate) fn of<'a>(sources: impl IntoIterator<Item = &'a Source>) -> Self {
        let mut language = Self::default();
        for source in sources {
            for (line, text) in source.production_lines() {
                let rules = language.count(text);
                if !rules.is_empty() {
                    let path = source.path.clone();
                    let text = text.trim().to_owned();
                    language.offences.push(Offence { path, line, rules, text });
                }
            }
        }
        language
    }

    /// The rules that the line breaks.
    fn count(&mut self, line: &str) -> Vec<&'static str> {
        match line.trim_start().strip_prefix("//") {
            Some(comment) => self.count_comment(comment),
            None if line.trim().is_empty() => Vec::new(),
            None => self.count_code(line),
        }
    }

    fn count_comment(&mut self, comment: &str) -> Vec<&'static str> {
        let text = comment.strip_prefix(['/', '!']);
        self.comment_lines += 1;
        self.reason_lines += usize::from(text.is_none());
        let text = text.unwrap_or(comment);
        let text = text.strip_prefix(char::is_whitespace).unwrap_or(text);
        self.words += text.split_whitespace().count();
        let opening = words(text).next().is_some_and(|word| listed(OPENINGS, word));
        let people = words(text).filter(|word| listed(PEOPLE, &word.to_lowercase())).count();
        self.openings += usize::from(opening);
        self.people += people;
        broken([("opening", opening), ("word", people > 0)])
    }

    fn count_code(&mut self, line: &str) -> Vec<&'static str> {
        let pattern = line.trim_start().strip_prefix("let (");
        let tuple_let = pattern.is_some_and(|rest| rest.contains(") = ("));
        let long = line.chars().count() > MAX_COLUMNS;
        self.code_lines += 1;
        self.tuple_lets += usize::from(tuple_let);
        self.long_lines += usize::from(long);
        broken([("tuple let", tuple_let), ("long line", long)])
    }

    pub(crate) fn figures(&self) -> [Figure; 5] {
        use Bound::{AtLeast, AtMost};
        let share = |count: usize, total: usize| count as f64 / total.max(1) as f64;
        let openings = 100.0 * share(self.openings, self.comment_lines);
        let people = 1000.0 * share(self.people, self.words);
        let tuple_lets = 1000.0 * share(self.tuple_lets, self.code_lines);
        let long_lines = 100.0 * share(self.long_lines, self.code_lines);
        let reasons = share(self.reason_lines, self.code_lines);
        let figures = [
            ("openings", openings, 2, "% of comment lines", AtMost(0.5)),
            ("who-words", people, 1, "per 1,000 words of comments", AtMost(2.0)),
            ("tuple lets", tuple_lets, 1, "per 1,000 code lines", AtMost(0.0)),
            ("long lines", long_lines, 2, "% of code lines", AtMost(0.1)),
            ("reasons", reasons, 3, "`//` lines per code line", AtLeast(0.05)),
        ];
        figures.map(|figure| {
            let (name, value, decimals, unit, bound) = figure;
            Figure { name, value, decimals, unit, bound }
        })
    }
}

impl Figure {
    pub(crate) fn is_kept(&self) -> bool {
        match self.bound {
            Bound::AtMost(most) => self.value <= most,
            Bound::AtLeast(least) => self.value >= least,
        }
    }
}

impl Display for Figure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, value, decimals, unit, bound } = self;
        let verdict = if self.is_kept() { "kept" } else { "BROKEN" };
        write!(f, "{name:10} {value:>6.decimals$} {unit}, {bound}: {verdict}")
    }
}

impl Display for Bound {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "at most {most}"),
            Self::AtLeast(least) => write!(f, "at least {least}"),
        }
    }
}

impl Display for Offence {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { path, line, rules, text } = self;
        write!(f, "{}:{line}: {}: {text}", path.display(), rules.join(", "))
    }
}

/// `text` cut at everything that is no part of an identifier. The first word is empty if `text`
/// begins with such a character.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
}

fn listed(list: &str, word: &str) -> bool {
    list.split(' ').any(|listed| listed == word)
}

fn broken(rules: [(&'static str, bool); 2]) -> Vec<&'static str> {
    rules.into_iter().filter(|(_, broken)| *broken).map(|(rule, _)| rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::sources;

    fn language(text: &str) -> Language {
        Language::of(&sources(&[("lib.rs", text)]))
    }

    /// Line numbers and rules.
    fn offences(text: &str) -> Vec<(usize, String)> {
        let found = |offence: &Offence| (offence.line, offence.rules.join(", "));
        language(text).offences.iter().map(found).collect()
    }

    fn offence(line: usize, rules: &str) -> (usize, String) {
        (line, rules.to_owned())
    }

    #[test]
    fn openings_are_first_words_of_comment_lines() {
        let text = "//! What it is.\n\n/// Whether or not.\n/// Somewhat That.\n// That\n\
            const A: u8 = 0; // What\n";
        assert_eq!(offences(text), [1, 3, 5].map(|line| offence(line, "opening")));
        assert_eq!(offences("//  That is indented twice\n// Whatever\n// what\n// `What`"), []);
    }

    #[test]
    fn people_are_counted_in_any_case_and_as_whole_words() {
        let text = "//! A caller who waits: nobody, `None`.\n//! whole, one_none, someone\n";
        assert_eq!(offences(text), [offence(1, "word")]);
        assert_eq!(language(text).people, 3);
        assert_eq!(language(text).words, 9);
    }

    #[test]
    fn tuple_lets_are_found() {
        let text = "fn f(p: (u8, u8)) {\n    let (a, b) = (1, 2);\n    let (c, d) = p;\n\
            \x20   let e = (a, b);\n}\n";
        assert_eq!(offences(text), [offence(2, "tuple let")]);
    }

    #[test]
    fn columns_are_characters_of_code_lines() {
        let code = |length: usize| format!("const A: &str = \"{}\";\n", "ä".repeat(length - 19));
        assert_eq!(offences(&code(100)), []);
        assert_eq!(offences(&code(101)), [offence(1, "long line")]);
    }

    #[test]
    fn reasons_are_plain_comments() {
        let language = language("//! A\n/// B\n// C\nfn f() {\n    // D\n}\n");
        assert_eq!((language.reason_lines, language.comment_lines, language.code_lines), (2, 4, 2));
    }

    #[test]
    fn offence_shows_place_rules_and_text() {
        let language = language("mod a {\n    /// What nobody knows.\n    fn b() {}\n}\n");
        let texts: Vec<_> = language.offences.iter().map(Offence::to_string).collect();
        assert_eq!(texts, ["x/src/lib.rs:2: opening, word: /// What nobody knows."]);
    }

    #[test]
    fn each_figure_has_a_text_that_breaks_it() {
        let kept = "// A reason\nfn f() {}\n";
        let tuple_let = "fn g() {\nlet (a, b) = (1, 2);\n}\n";
        let broken = ["// What\n", "// none\n", tuple_let].map(str::to_owned);
        let long = format!("const A: &str = \"{}\";\n", "a".repeat(100));
        let bare = "fn g() {}\n".repeat(20);
        assert!(language(kept).figures().iter().all(Figure::is_kept));
        for (index, text) in broken.into_iter().chain([long, bare]).enumerate() {
            let figures = language(&format!("{kept}{text}")).figures();
            let broken: Vec<_> = (0..5).filter(|other| !figures[*other].is_kept()).collect();
            assert_eq!(broken, [index], "{text}");
        }
    }

    #[test]
    fn figure_shows_value_and_bound() {
        let figures = language("// What\n// B\nfn f() {}\n").figures();
        let broken = "openings    50.00 % of comment lines, at most 0.5: BROKEN";
        let kept = "reasons     2.000 `//` lines per code line, at least 0.05: kept";
        assert_eq!([&figures[0], &figures[4]].map(Figure::to_string), [broken, kept]);
    }
}
