//! The nearest of some known words, for messages about an unknown one.

/// Most changes of a letter between two words that are near each other.
const NEAR: usize = 2;

/// Longest word that is compared: the comparison takes the square of its length.
const LONGEST: usize = 32;

/// The nearest word, if one is near.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(LONGEST + 1).collect();
    // Two changes make any word of two letters of any other.
    let most = NEAR.min(word.len() / 2);
    // Words come from a command line, which may have megabytes.
    if word.len() > LONGEST {
        return None;
    }
    // Not the word itself: a known one in the wrong place is not mistyped.
    let ranked = known.iter().map(|one| (changes(&word, one), *one));
    ranked.filter(|(changes, _)| (1..=most).contains(changes)).min().map(|(_, one)| one)
}

/// Letters to insert, remove, replace or swap between two words.
fn changes(from: &[char], to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before_last = vec![0; to.len() + 1];
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, letter) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in to.iter().enumerate() {
            let replaced = last[j] + usize::from(letter != other);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            let is_swapped = i > 0 && j > 0 && from[i - 1] == *other && to[j - 1] == *letter;
            if is_swapped {
                least = least.min(before_last[j - 1] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_word_is_found_within_two_changes() {
        let known = ["start", "delete", "v", "id"];
        for (word, expected) in [
            ("strat", Some("start")),
            ("start", None),
            ("delte", Some("delete")),
            ("d", None),
            ("di", Some("id")),
            ("serve", None),
            ("", None),
            ("st\u{e4}rt", Some("start")),
        ] {
            assert_eq!(nearest(word, &known), expected, "{word}");
        }
        assert_eq!(nearest(&"s".repeat(100_000), &known), None);
    }
}
