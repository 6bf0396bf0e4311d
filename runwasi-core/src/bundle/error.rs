//! Errors of the fields of `config.json`.

/// A field and what is wrong with it, before the file's name is known.
pub(super) type Wrong = (String, String);

pub(super) fn wrong(field: impl Into<String>, reason: impl Into<String>) -> Wrong {
    (field.into(), reason.into())
}
