//! Values in a line. Any text stays within its value: ids, paths, messages of guests and of images
//! are untrusted, and none may forge a line or a field.

use std::fmt::{self, Write};

use crate::sanitize::is_invisible;

/// Writes a value as logrus does: as it is if it is a plain word, otherwise in quotes.
pub(super) fn word(out: &mut impl Write, text: &str) -> fmt::Result {
    if !text.is_empty() && text.bytes().all(is_plain) {
        return out.write_str(text);
    }
    out.write_char('"')?;
    escaped(out, text, Style::Quoted)?;
    out.write_char('"')
}

/// Writes a string of JSON.
pub(super) fn json(out: &mut impl Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    escaped(out, text, Style::Json)?;
    out.write_char('"')
}

/// Writes a text that ends with its line.
pub(super) fn line(out: &mut impl Write, text: &str) -> fmt::Result {
    escaped(out, text, Style::Line)
}

/// The bytes of a plain word of logrus.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._/@^+".contains(&byte)
}

#[derive(Clone, Copy, PartialEq)]
enum Style {
    /// As Go quotes a string.
    Quoted,
    Json,
    /// Without quotes around it.
    Line,
}

fn escaped(out: &mut impl Write, text: &str, style: Style) -> fmt::Result {
    let mut rest = text;
    while let Some(at) = rest.find(|c| is_special(c, style)) {
        out.write_str(&rest[..at])?;
        let mut chars = rest[at..].chars();
        if let Some(special) = chars.next() {
            escape(out, special, style)?;
        }
        rest = chars.as_str();
    }
    out.write_str(rest)
}

fn is_special(c: char, style: Style) -> bool {
    match c {
        '"' | '\\' => style != Style::Line,
        c => c.is_control() || is_invisible(c),
    }
}

fn escape(out: &mut impl Write, c: char, style: Style) -> fmt::Result {
    match c {
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        '"' | '\\' => write!(out, "\\{c}"),
        c if c.is_ascii() && style != Style::Json => write!(out, "\\x{:02x}", u32::from(c)),
        // All special characters have at most four digits.
        c => write!(out, "\\u{:04x}", u32::from(c)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: fn(&mut String, &str) -> fmt::Result, text: &str) -> String {
        let mut out = String::new();
        write(&mut out, text).unwrap();
        out
    }

    #[test]
    fn words_are_quoted_as_logrus_quotes_them() {
        for (text, expected) in [
            ("web-1", "web-1"),
            ("/a/b@c^d+e.f_g", "/a/b@c^d+e.f_g"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("a=b", "\"a=b\""),
            ("say \"hi\" \\ \n\r\t", r#""say \"hi\" \\ \n\r\t""#),
            ("\u{1b}[31m\u{0}\u{7f}", r#""\x1b[31m\x00\x7f""#),
            ("ä\u{85}\u{202e}\u{2028}", "\"ä\\u0085\\u202e\\u2028\""),
        ] {
            assert_eq!(written(word, text), expected);
        }
    }

    #[test]
    fn strings_of_json_parse_to_their_text() {
        for text in ["", "a b", "\"\\\n\u{1b}\u{0}\u{7f}ä\u{85}\u{202e}\u{1f600}"] {
            let json = written(json, text);
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
            assert!(!json.chars().any(char::is_control), "{json}");
        }
    }

    #[test]
    fn text_of_a_line_has_no_end_of_a_line() {
        assert_eq!(written(line, "say \"hi\"\nPRIORITY=0"), "say \"hi\"\\nPRIORITY=0");
    }
}
