//! Environment variables of one kind: looked up, parsed, and refused by their name.

use std::{str::FromStr, time::Duration};

/// A variable with a wrong value.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct VariableError {
    name: &'static str,
    /// The value, and what is allowed.
    reason: String,
}

impl VariableError {
    pub(super) fn new(name: &'static str, reason: String) -> Self {
        Self { name, reason }
    }
}

/// Variables with their texts.
pub(super) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A variable that is not empty: an empty one counts as unset.
pub(super) fn set(variables: Variables<'_>, name: &str) -> Option<String> {
    variables(name).filter(|text| !text.is_empty())
}

/// The first of these that is set, and its name.
pub(super) fn first(
    variables: Variables<'_>,
    names: [&'static str; 2],
) -> Option<(&'static str, String)> {
    names.into_iter().find_map(|name| Some((name, set(variables, name)?)))
}

/// A time in milliseconds.
pub(super) fn millis(
    variables: Variables<'_>,
    name: &'static str,
    default: u64,
) -> Result<Duration, VariableError> {
    // A day: the clock of the runtime has a bound.
    Ok(Duration::from_millis(number(variables, name, default)?.min(86_400_000)))
}

/// A whole number.
pub(super) fn number<N: FromStr>(
    variables: Variables<'_>,
    name: &'static str,
    default: N,
) -> Result<N, VariableError> {
    let Some(text) = set(variables, name) else { return Ok(default) };
    text.parse()
        .map_err(|_| VariableError { name, reason: format!("{text:?} is not a whole number") })
}
