//! JSON of the OCI runtime spec, parsed into the types of `oci_spec`, with two differences:
//!
//! - An error names the field, and not only line and column.
//! - In a field without an effect on guests (`docs/config-json.md`), a value that the types do not
//!   know is left out with a warning. A later spec or kernel may know it.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::error::{Wrong, wrong};

/// Fields without an effect. `*` stands for any name, and for one element of a list, which alone is
/// left out, unless it is [`HONOURED`].
const WITHOUT_EFFECT: [&[&str]; 29] = [
    &["domainname"],
    &["linux", "devices", "*"],
    &["linux", "intelRdt"],
    &["linux", "memoryPolicy"],
    &["linux", "mountLabel"],
    &["linux", "personality"],
    &["linux", "resources", "blockIO"],
    &["linux", "resources", "devices", "*"],
    &["linux", "resources", "hugepageLimits", "*"],
    &["linux", "resources", "network"],
    &["linux", "resources", "pids"],
    &["linux", "resources", "rdma"],
    &["linux", "resources", "unified"],
    &["linux", "seccomp"],
    &["linux", "timeOffsets"],
    &["process", "apparmorProfile"],
    &["process", "capabilities", "*", "*"],
    &["process", "commandLine"],
    &["process", "execCPUAffinity"],
    &["process", "ioPriority"],
    &["process", "noNewPrivileges"],
    &["process", "rlimits", "*"],
    &["process", "scheduler"],
    &["process", "selinuxLabel"],
    &["process", "user", "username"],
    &["solaris"],
    &["vm"],
    &["windows"],
    &["zos"],
];

/// Member of an element with an effect, in a list of others without.
const HONOURED: (&str, &str) = ("type", "RLIMIT_NOFILE");

/// Most values that are left out of one document, each after a further pass over it.
const MOST: usize = 16;

/// Invalid JSON.
#[derive(Debug)]
pub(super) enum JsonError {
    /// Not JSON, or a field is there twice. The error names line and column.
    Syntax(serde_json::Error),
    /// A field has a value of another type than the spec's.
    Field(Wrong),
}

/// Parses a document that is the field `root` of `config.json`, or the whole if that is empty.
pub(super) fn parse<T: DeserializeOwned>(json: &[u8], root: &[&str]) -> Result<T, JsonError> {
    // Nearly every document is read in this pass.
    let first: serde_json::Error = match serde_json::from_slice(json) {
        Ok(parsed) => return Ok(parsed),
        Err(error) => error,
    };
    // The passes below would take the last of two equal fields without a word.
    if first.to_string().starts_with("duplicate field") {
        return Err(JsonError::Syntax(first));
    }
    let mut value: Value = serde_json::from_slice(json).map_err(JsonError::Syntax)?;
    for left_out in 0.. {
        let error = match serde_path_to_error::deserialize(&value) {
            Ok(parsed) => return Ok(parsed),
            Err(error) => error,
        };
        let place = place(root, error.path());
        let reason = error.inner().to_string();
        let removed = left_out < MOST
            && without_effect(&place)
                .is_some_and(|depth| remove(&mut value, &place[root.len()..depth]));
        if !removed {
            return Err(JsonError::Field(named(place, reason)));
        }
        tracing::warn!(field = shown(&place), reason = brief(&reason), "left out");
    }
    unreachable!("the range has no end")
}

/// The field and the reason. A missing field is named itself, and not what it is missing in.
fn named(mut place: Vec<String>, reason: String) -> Wrong {
    let missing = reason.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    match missing {
        Some(name) => {
            place.push(name.to_owned());
            wrong(shown(&place), "is missing")
        }
        None if place.is_empty() => wrong("the document", reason),
        None => wrong(shown(&place), reason),
    }
}

/// The names and indices of a field, from the root of `config.json`.
fn place(root: &[&str], path: &Path) -> Vec<String> {
    let inner = path.iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    root.iter().map(|name| (*name).to_owned()).chain(inner).collect()
}

/// Number of names and indices of the part to leave out, if the field has no effect.
fn without_effect(place: &[String]) -> Option<usize> {
    let is = |(name, wanted): (&String, &&str)| *wanted == "*" || name == wanted;
    let begins = |field: &&&[&str]| field.len() <= place.len() && place.iter().zip(**field).all(is);
    WITHOUT_EFFECT.iter().find(begins).map(|field| field.len())
}

/// Removes a part. False without such a part, and for one that is honoured.
fn remove(value: &mut Value, place: &[String]) -> bool {
    let Some((last, parents)) = place.split_last() else { return false };
    let mut parent = value;
    for name in parents {
        let inner = match parent {
            Value::Object(members) => members.get_mut(name),
            Value::Array(elements) => name.parse().ok().and_then(|n: usize| elements.get_mut(n)),
            _ => None,
        };
        let Some(inner) = inner else { return false };
        parent = inner;
    }
    match parent {
        Value::Object(members) => members.remove(last).is_some(),
        Value::Array(elements) => match last.parse::<usize>() {
            Ok(n) if n < elements.len() && elements[n][HONOURED.0] != HONOURED.1 => {
                elements.remove(n);
                true
            }
            _ => false,
        },
        _ => false,
    }
}

/// As `linux.devices[0].type`.
fn shown(place: &[String]) -> String {
    let mut shown = String::new();
    for name in place {
        match name.parse::<usize>() {
            Ok(index) => shown += &format!("[{index}]"),
            Err(_) if shown.is_empty() => shown += name,
            Err(_) => shown += &format!(".{name}"),
        }
    }
    shown
}

/// Without the list of the values that would be known.
fn brief(reason: &str) -> &str {
    reason.split_once(", expected one of").map_or(reason, |(brief, _)| brief)
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{Capability, Spec};

    use super::*;
    use crate::bundle::spec::Process;

    fn field_of<T: DeserializeOwned>(json: &str, root: &[&str]) -> String {
        match parse::<T>(json.as_bytes(), root) {
            Err(JsonError::Field((field, reason))) => format!("{field}: {reason}"),
            Err(JsonError::Syntax(error)) => panic!("{error}"),
            Ok(_) => panic!("{json} is accepted"),
        }
    }

    #[test]
    fn type_errors_name_the_field() {
        let text = field_of::<Spec>(r#"{"ociVersion":"1.0","process":{"cwd":7}}"#, &[]);
        assert!(text.starts_with("process.cwd: invalid type: integer `7`"), "{text}");
        let json = r#"{"ociVersion":"1.0","mounts":[{"destination":"/"},{"destination":[]}]}"#;
        let text = field_of::<Spec>(json, &[]);
        assert!(text.starts_with("mounts[1].destination: invalid type"), "{text}");
        let json = r#"{"cwd":"/","args":["a"],"user":{"uid":"root","gid":0}}"#;
        let text = field_of::<Process>(json, &["process"]);
        assert!(text.starts_with("process.user.uid: invalid type"), "{text}");
        for (json, wanted) in [
            ("7", "the document: invalid type"),
            (r#"{"ociVersion":"1.0","process":{"user":{}}}"#, "process.cwd: is missing"),
            (r#"{"ociVersion":"1.0","annotations":{"a":7}}"#, "annotations.a: invalid type"),
        ] {
            let text = field_of::<Spec>(json, &[]);
            assert!(text.starts_with(wanted), "{json}: {text}");
        }
    }

    #[test]
    fn wrong_values_beside_those_without_an_effect_are_refused() {
        for (member, wanted) in [
            (r#""oomScoreAdj":"high""#, "process.oomScoreAdj: invalid type"),
            (
                r#""rlimits":[{"type":"RLIMIT_NOFILE","soft":"many","hard":1},
                    {"type":"RLIMIT_CORE","soft":"x","hard":1}]"#,
                "process.rlimits[0].soft: invalid type: string \"many\"",
            ),
        ] {
            let json = format!(r#"{{"cwd":"/","args":["a"],"user":{{"uid":0,"gid":0}},{member}}}"#);
            let text = field_of::<Process>(&json, &["process"]);
            assert!(text.starts_with(wanted), "{member}: {text}");
        }
    }

    #[test]
    fn unknown_values_without_an_effect_are_left_out() {
        let json = r#"{"cwd":"/","args":["a"],"user":{"uid":0,"gid":0},
            "capabilities":{"bounding":["CAP_OF_NEXT_YEAR","CAP_KILL"]},
            "rlimits":[{"type":"RLIMIT_NEW","soft":1,"hard":1},
                {"type":"RLIMIT_NOFILE","soft":77,"hard":77}]}"#;
        let process: Process = parse(json.as_bytes(), &["process"]).unwrap();
        let bounding = process.capabilities.as_ref().unwrap().bounding().as_ref().unwrap();
        assert!(bounding.len() == 1 && bounding.contains(&Capability::Kill), "{bounding:?}");
        let limits = process.rlimits.as_deref().unwrap();
        assert!(limits.len() == 1 && limits[0].soft() == 77, "{limits:?}");
    }

    #[test]
    fn fields_that_are_there_twice_are_refused() {
        let json = r#"{"cwd":"/","cwd":"/other","user":{"uid":0,"gid":0}}"#;
        match parse::<Process>(json.as_bytes(), &["process"]) {
            Err(JsonError::Syntax(error)) => assert!(error.to_string().contains("cwd"), "{error}"),
            _ => panic!("{json} is accepted"),
        }
    }

    #[test]
    fn endless_unknown_values_are_refused() {
        let limits = vec![r#"{"type":"RLIMIT_NEW","soft":1,"hard":1}"#; MOST + 1].join(",");
        let json = format!(
            r#"{{"cwd":"/","args":["a"],"user":{{"uid":0,"gid":0}},"rlimits":[{limits}]}}"#
        );
        let text = field_of::<Process>(&json, &["process"]);
        assert!(text.starts_with("process.rlimits[0].type: "), "{text}");
    }
}
