//! Validated container, exec and namespace ids: ids from outside that become part of a path or a
//! key.

use std::{borrow::Borrow, fmt};

/// An id as containerd's `identifiers.Validate` accepts it: 1 to 76 bytes, ASCII letters and
/// digits, with single `.`, `_` or `-` between them. Such an id can be joined to a path: it holds
/// no `/` and is never `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(String);

/// Why a string is not an [`Id`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdError {
    /// The string is empty.
    #[error("{what} is empty")]
    Empty {
        /// The kind of id: "container id", "namespace", …
        what: &'static str,
    },
    /// The string is longer than 76 bytes.
    #[error("{what} \"{start}…\" has {len} bytes, at most {MAX_LEN} are allowed")]
    TooLong {
        /// The kind of id.
        what: &'static str,
        /// Its first characters.
        start: String,
        /// Its length in bytes.
        len: usize,
    },
    /// The string holds a character, or an order of characters, that is not allowed.
    #[error(
        "{what} {id:?} is invalid: only letters and digits with single '.', '_' or '-' between them"
    )]
    Invalid {
        /// The kind of id.
        what: &'static str,
        /// The id as given.
        id: String,
    },
}

/// containerd's limit, see `pkg/identifiers` there.
const MAX_LEN: usize = 76;

impl Id {
    /// Checks `id`; `what` names it in the error.
    pub fn parse(what: &'static str, id: &str) -> Result<Self, IdError> {
        if id.is_empty() {
            return Err(IdError::Empty { what });
        }
        if id.len() > MAX_LEN {
            // The error goes to containerd and to logs, and the id may be of any length.
            let start = id.chars().take(16).collect();
            return Err(IdError::TooLong { what, start, len: id.len() });
        }
        let words = id.split(['.', '_', '-']);
        for word in words {
            // A word is empty between two separators, or beside one at the start or the end.
            if word.is_empty() || !word.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return Err(IdError::Invalid { what, id: id.to_owned() });
            }
        }
        Ok(Self(id.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lets maps keyed by ids be searched with the strings that containerd sends.
// The derived `Eq`, `Ord` and `Hash` of `Id` are those of its text, as `Borrow` requires.
impl Borrow<str> for Id {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_containerd_makes_are_accepted() {
        for id in ["testwasm", "a", "0f3c", "my.pod_1-x", &"a".repeat(76)] {
            assert!(Id::parse("container id", id).is_ok(), "{id}");
        }
    }

    #[test]
    fn ids_that_could_leave_a_directory_are_refused() {
        for id in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "/a",
            "a..b",
            "-a",
            "a-",
            "a b",
            "ä",
            &"a".repeat(77),
            &"x".repeat(4000),
        ] {
            assert!(Id::parse("container id", id).is_err(), "{id}");
        }
    }

    #[test]
    fn the_error_for_a_long_id_does_not_quote_all_of_it() {
        let error = Id::parse("container id", &"x".repeat(4000)).unwrap_err().to_string();
        assert!(error.len() < 200 && error.contains("4000"), "{error}");
    }
}
