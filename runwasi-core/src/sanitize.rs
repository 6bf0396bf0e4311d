//! Text for people. Errors quote images, configs and ids, which are untrusted: of any length, with any characters.

/// Longest text that is shown, in bytes.
const MAX: usize = 4096;
/// What is kept of a longer one: its beginning, which says where, and its end, which says why.
const HEAD: usize = 3072;
const TAIL: usize = MAX - HEAD;

/// The text, bounded and without the control characters that a terminal would obey.
pub fn text(text: &str) -> String {
    if text.len() <= MAX {
        return plain(text);
    }
    let head = text.floor_char_boundary(HEAD);
    let tail = text.ceil_char_boundary(text.len() - TAIL);
    format!("{} … {}", plain(&text[..head]), plain(&text[tail..]))
}

fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' && c != '\t' {
            shown.extend(c.escape_default())
        } else {
            shown.push(c)
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn what_an_image_says_cannot_command_a_terminal() {
        assert_eq!(text("a\u{1b}[31mred\nline"), "a\\u{1b}[31mred\nline");
    }

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_reason() {
        let shown = text(&format!("container c1: /{}: File name too long", "ä".repeat(100_000)));
        assert!(shown.len() < 5000, "{}", shown.len());
        assert!(shown.starts_with("container c1: /ä") && shown.ends_with("ä: File name too long"));
    }
}
