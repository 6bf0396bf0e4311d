//! Sanitizes and truncates untrusted text. Errors quote images, configs and ids, which may have any
//! length and any characters.

use std::borrow::Cow;

/// Longest text that is kept whole, in bytes.
const MAX: usize = 4096;
/// Bytes kept of a longer text: its beginning, which names the place, and its end, which names the
/// reason.
const HEAD: usize = 3072;
const TAIL: usize = MAX - HEAD;

/// Truncates the text and escapes the characters that a terminal would obey, or not show.
pub fn text(text: &str) -> String {
    plain(&bounded(text))
}

/// The same on one line.
pub fn line(text: &str) -> String {
    self::text(text).replace('\n', "\\n").replace('\t', "\\t")
}

/// True for a character that moves others on a terminal, or that it does not show. Control
/// characters are others.
pub fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
    )
}

/// Truncates the text only.
pub fn bounded(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX {
        return text.into();
    }
    // A slice must begin and end at a character's boundary.
    let head = text.floor_char_boundary(HEAD);
    let tail = text.ceil_char_boundary(text.len() - TAIL);
    format!("{} … {}", &text[..head], &text[tail..]).into()
}

fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let is_shown = !c.is_control() && !is_invisible(c);
        if !is_shown && c != '\n' && c != '\t' {
            shown.extend(c.escape_default())
        } else {
            shown.push(c)
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::{line, text};

    #[test]
    fn control_and_invisible_characters_are_escaped() {
        assert_eq!(text("a\u{1b}[31mred\nline"), "a\\u{1b}[31mred\nline");
        assert_eq!(text("a\u{202e}b\u{2028}c ä"), "a\\u{202e}b\\u{2028}c ä");
        assert_eq!(line("a\tb\nc"), "a\\tb\\nc");
    }

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_reason() {
        let shown = text(&format!("container c1: /{}: File name too long", "ä".repeat(100_000)));
        assert!(shown.len() < 5000, "{}", shown.len());
        assert!(shown.starts_with("container c1: /ä") && shown.ends_with("ä: File name too long"));
    }
}
