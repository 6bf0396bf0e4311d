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

/// Longest time, a day in milliseconds: the clock of the runtime has a bound.
const LONGEST: u64 = 86_400_000;

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
    Ok(Duration::from_millis(number(variables, name, default)?.min(LONGEST)))
}

/// A time limit in milliseconds. 0 stands for no limit, as OpenTelemetry has it.
pub(super) fn limit(
    variables: Variables<'_>,
    name: &'static str,
    default: u64,
) -> Result<Duration, VariableError> {
    let limit = millis(variables, name, default)?;
    Ok(if limit.is_zero() { Duration::from_millis(LONGEST) } else { limit })
}

/// True for `true` in any case, and for nothing else.
pub(super) fn is_true(variables: Variables<'_>, name: &str) -> bool {
    set(variables, name).is_some_and(|text| text.eq_ignore_ascii_case("true"))
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
