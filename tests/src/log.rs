//! The lines that shims and daemons write, read as a collector of logs reads them; used by tests.

use std::collections::BTreeMap;
use std::str::Chars;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::containerd::Containerd;
use crate::containers::Containers;
use crate::poll::poll_until;

/// How long a line may take from its event to the file: containerd copies those of shims.
const SOON: Duration = Duration::from_secs(10);

/// Fields of a line. Numbers are as they are written.
pub type Line = BTreeMap<String, String>;

/// Reads a line of logrus text, as containerd and its shims write it. None for any other.
pub fn text(line: &str) -> Option<Line> {
    let mut fields = Line::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (key, value) = rest.split_once('=')?;
        if key.is_empty() || key.contains([' ', '"']) {
            return None;
        }
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => value
                .split_once(' ')
                .map_or((value.to_owned(), ""), |(value, after)| (value.to_owned(), after)),
        };
        fields.insert(key.to_owned(), value);
        rest = after.strip_prefix(' ').unwrap_or(after);
    }
    fields.contains_key("level").then_some(fields)
}

/// Reads a string of Go up to its end, and what comes after it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(match chars.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'x' => hex(&mut chars, 2)?,
                'u' => hex(&mut chars, 4)?,
                other => other,
            }),
            c => value.push(c),
        }
    }
}

fn hex(chars: &mut Chars<'_>, digits: usize) -> Option<char> {
    let (number, rest) = chars.as_str().split_at_checked(digits)?;
    *chars = rest.chars();
    char::from_u32(u32::from_str_radix(number, 16).ok()?)
}

/// Reads a line of JSON. None for any other.
pub fn json(line: &str) -> Option<Line> {
    let Value::Object(fields) = serde_json::from_str(line).ok()? else { return None };
    let text = |value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Some(fields.into_iter().map(|(key, value)| (key, text(value))).collect())
}

impl Containerd {
    /// Everything that containerd, its shims and the daemon have logged.
    pub fn whole_log(&mut self) -> String {
        let daemon = self.daemon().map(|daemon| daemon.log()).unwrap_or_default();
        self.log() + &daemon
    }

    /// The lines about the life of a container, in their order.
    pub fn life(&mut self, id: &str) -> Vec<Line> {
        life(&self.whole_log(), id)
    }

    /// The same once the last of these lines is there: all that are to come must be named.
    pub fn whole_life(&mut self, id: &str, messages: &[&str]) -> Result<Vec<Line>> {
        let mut seen = Vec::new();
        let complete = poll_until("all lines of a life", SOON, || {
            seen = self.life(id);
            (seen.len() >= messages.len()).then_some(())
        });
        let said: Vec<&str> = seen.iter().map(|line| line["msg"].as_str()).collect();
        complete.with_context(|| format!("{id}: {said:?}"))?;
        ensure!(said == messages, "{id}: {said:?} instead of {messages:?}");
        Ok(seen)
    }
}

impl Containers {
    /// As [`Containerd::whole_log`].
    pub fn log(&mut self) -> String {
        self.fixture.whole_log()
    }

    /// As [`Containerd::life`].
    pub fn life(&mut self, id: &str) -> Vec<Line> {
        self.fixture.life(id)
    }

    /// As [`Containerd::whole_life`].
    pub fn whole_life(&mut self, id: &str, messages: &[&str]) -> Result<Vec<Line>> {
        self.fixture.whole_life(id, messages)
    }
}

/// The lines of a log about the life of a container, in their order.
pub fn life(log: &str, id: &str) -> Vec<Line> {
    let lines = log.lines().filter_map(|line| text(line).or_else(|| json(line)));
    let ours = lines.filter(|line| line.get("container").is_some_and(|container| container == id));
    ours.filter(is_of_life).collect()
}

/// True for the lines that tell a life, and not trouble in it.
fn is_of_life(line: &Line) -> bool {
    let words = ["created", "started", "exited", "deleted", "refused", "throttled"];
    let message = line.get("msg").and_then(|message| message.split_once(' '));
    message
        .is_some_and(|(noun, word)| ["container", "exec"].contains(&noun) && words.contains(&word))
}

/// Demands fields of a line.
pub fn has(line: &Line, fields: &[(&str, &str)]) -> Result<()> {
    for (key, expected) in fields {
        let value = line.get(*key).with_context(|| format!("no {key} in {line:?}"))?;
        ensure!(value == expected, "{key}={value:?} instead of {expected:?} in {line:?}");
    }
    Ok(())
}

/// A number of a line.
pub fn number(line: &Line, key: &str) -> Result<f64> {
    let value = line.get(key).with_context(|| format!("no {key} in {line:?}"))?;
    value.parse().with_context(|| format!("{key}={value:?}"))
}
