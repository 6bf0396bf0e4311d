//! Errors of the fields of `config.json`.

/// A field and the reason why it is wrong. The caller adds the name of the file.
pub(super) type Wrong = (String, String);

pub(super) fn wrong(field: impl Into<String>, reason: impl Into<String>) -> Wrong {
    (field.into(), reason.into())
}
