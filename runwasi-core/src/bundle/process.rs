//! `process` of the OCI runtime spec: the settings of a container's init in `config.json`, and of
//! an exec in containerd's request. Untrusted: every field is checked here, and an error names the
//! field.

use std::{collections::HashSet, ops::RangeInclusive, path::PathBuf, sync::Arc};

use oci_spec::runtime::{Capability, LinuxCapabilities, PosixRlimitType, User};
use rustix::{process::Gid, thread::CapabilitySet};

use super::{
    error::{Wrong, wrong},
    json::{self, JsonError},
    spec::Process,
};
use crate::{
    stdio::pty::Size,
    sys::credentials::{Credentials, DEFAULT_UMASK},
};

/// Default of `RLIMIT_NOFILE`. containerd gives its containers the same limit.
const DEFAULT_OPEN_FILES: u32 = 1024;

/// The kernel's bounds for OOM scores.
const SCORES: RangeInclusive<i32> = -1000..=1000;

/// The kernel's `NGROUPS_MAX`.
const MAX_GROUPS: usize = 65_536;

/// Checked settings of one process.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Environment in the given order, each name once.
    pub env: Vec<(String, String)>,
    /// Working directory, absolute and without `.` components.
    pub cwd: PathBuf,
    /// Credentials for file access. Absent if they are those of the threads anyway.
    pub credentials: Option<Arc<Credentials>>,
    /// Soft limit of `RLIMIT_NOFILE`.
    pub open_files: u32,
    /// Initial size of its terminal, if it gets a terminal.
    pub console_size: Option<Size>,
    /// Its OOM score.
    pub oom_score: Option<i32>,
    /// Capabilities over files that it lacks if its user is root.
    pub(crate) root_lacks: CapabilitySet,
}

/// Invalid process of an exec.
#[derive(Debug, thiserror::Error)]
pub enum ProcessConfigError {
    /// Not JSON. The source names line and column.
    #[error("process: {0}")]
    Syntax(#[source] serde_json::Error),
    /// A field is missing or has an invalid value or type.
    #[error("{field}: {reason}")]
    Field {
        /// The field, as in the spec.
        field: String,
        /// The reason.
        reason: String,
    },
}

impl From<JsonError> for ProcessConfigError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Syntax(error) => Self::Syntax(error),
            JsonError::Field((field, reason)) => Self::Field { field, reason },
        }
    }
}

impl ProcessConfig {
    /// Parses and checks the JSON of containerd's `Exec`. Without a list of capabilities it has
    /// those of the container, of which root lacks `root_lacks`.
    pub(crate) fn parse(
        json: &[u8],
        root_lacks: CapabilitySet,
    ) -> Result<Self, ProcessConfigError> {
        let process: Process = json::parse(json, &["process"])?;
        Self::from_spec(&process, true, root_lacks)
            .map_err(|(field, reason)| ProcessConfigError::Field { field, reason })
    }

    /// Checks a process. `needs_program` is false only for the pause container of a pod. Without a
    /// list of capabilities root lacks `root_lacks`.
    pub(super) fn from_spec(
        process: &Process,
        needs_program: bool,
        root_lacks: CapabilitySet,
    ) -> Result<Self, Wrong> {
        let root_lacks = process.capabilities.as_ref().map_or(root_lacks, lacking);
        Ok(Self {
            root_lacks,
            args: args(process, needs_program)?,
            env: env(process)?,
            cwd: cwd(process)?,
            credentials: credentials(&process.user, root_lacks)?,
            open_files: open_files(process)?,
            console_size: process.console_size.as_ref().and_then(console_size),
            oom_score: oom_score(process)?,
        })
    }

    /// The value of an environment variable.
    pub fn env(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

fn args(process: &Process, needs_program: bool) -> Result<Vec<String>, Wrong> {
    let args = process.args.clone().unwrap_or_default();
    if needs_program && args.first().is_none_or(String::is_empty) {
        return Err(wrong("process.args", "is empty: no program to run"));
    }
    for (i, arg) in args.iter().enumerate() {
        // An argument ends at its first NUL byte for a guest that reads C strings.
        if arg.contains('\0') {
            return Err(wrong(format!("process.args[{i}]"), "holds a NUL byte"));
        }
    }
    Ok(args)
}

fn env(process: &Process) -> Result<Vec<(String, String)>, Wrong> {
    let entries = process.env.as_deref().unwrap_or_default();
    let mut env = Vec::with_capacity(entries.len());
    for (i, entry) in entries.iter().enumerate() {
        let field = || format!("process.env[{i}]");
        if entry.contains('\0') {
            return Err(wrong(field(), "holds a NUL byte"));
        }
        match entry.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                env.push((name.to_owned(), value.to_owned()))
            }
            _ => return Err(wrong(field(), format!("{entry:?} is not NAME=value"))),
        }
    }
    Ok(last_of_each_name(env))
}

/// Drops the entries before the last one of a name, as runc does: `getenv(3)` of a guest takes the
/// first.
fn last_of_each_name(mut env: Vec<(String, String)>) -> Vec<(String, String)> {
    env.reverse();
    let mut names = HashSet::with_capacity(env.len());
    env.retain(|(name, _)| names.insert(name.clone()));
    env.reverse();
    env
}

fn cwd(process: &Process) -> Result<PathBuf, Wrong> {
    let cwd = &process.cwd;
    if !cwd.is_absolute() {
        return Err(wrong(
            "process.cwd",
            format!("{:?} is not an absolute path", cwd.display().to_string()),
        ));
    }
    // Drops `.` components and trailing slashes, which would confuse comparisons of prefixes.
    Ok(cwd.components().collect())
}

/// The limit of open files.
fn open_files(process: &Process) -> Result<u32, Wrong> {
    let wrong = |reason: String| Err(wrong("process.rlimits[RLIMIT_NOFILE]", reason));
    let limits = process.rlimits.as_deref().unwrap_or_default();
    let mut limits = limits.iter().filter(|limit| limit.typ() == PosixRlimitType::RlimitNofile);
    // With a default, because a guest's open files are the host's: without a limit one guest could
    // take all files of a node.
    let Some(limit) = limits.next() else { return Ok(DEFAULT_OPEN_FILES) };
    if limits.next().is_some() {
        return wrong("is listed twice".to_owned());
    }
    if limit.soft() > limit.hard() {
        let reason = format!("the soft limit {} exceeds the hard {}", limit.soft(), limit.hard());
        return wrong(reason);
    }
    Ok(u32::try_from(limit.soft()).unwrap_or(u32::MAX))
}

/// The OOM score, if one is given.
fn oom_score(process: &Process) -> Result<Option<i32>, Wrong> {
    match process.oom_score_adj {
        Some(score) if !SCORES.contains(&score) => {
            let reason = format!("{score} is not from {} to {}", SCORES.start(), SCORES.end());
            Err(wrong("process.oomScoreAdj", reason))
        }
        score => Ok(score),
    }
}

/// The size of a terminal, unless it is empty.
fn console_size(size: &oci_spec::runtime::Box) -> Option<Size> {
    // Clients without a terminal send 0 by 0.
    let size = Size {
        columns: u16::try_from(size.width()).ok()?,
        rows: u16::try_from(size.height()).ok()?,
    };
    (size.columns > 0 && size.rows > 0).then_some(size)
}

/// Capabilities over files that root lacks with this list.
fn lacking(capabilities: &LinuxCapabilities) -> CapabilitySet {
    // Behind an `execve(2)` a root has those of this set, whatever the others are.
    let bounding = capabilities.bounding().as_ref();
    let lacks = |capability| bounding.is_none_or(|bounding| !bounding.contains(&capability));
    let overrides = !lacks(Capability::DacOverride);
    let mut lacking = CapabilitySet::empty();
    lacking.set(CapabilitySet::DAC_OVERRIDE, !overrides);
    // A part of the former.
    lacking.set(CapabilitySet::DAC_READ_SEARCH, !overrides && lacks(Capability::DacReadSearch));
    lacking.set(CapabilitySet::FOWNER, lacks(Capability::Fowner));
    lacking.set(CapabilitySet::FSETID, lacks(Capability::Fsetid));
    lacking
}

fn credentials(user: &User, root_lacks: CapabilitySet) -> Result<Option<Arc<Credentials>>, Wrong> {
    // `setfsuid(2)` and `setfsgid(2)` take -1 for a query and change nothing.
    for (field, id) in [("uid", user.uid()), ("gid", user.gid())] {
        if id == u32::MAX {
            return Err(wrong(
                format!("process.user.{field}"),
                format!("{id} means no id to the kernel"),
            ));
        }
    }
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    if groups.len() > MAX_GROUPS || groups.contains(&u32::MAX) {
        return Err(wrong("process.user.additionalGids", "are too many, or one is no id"));
    }
    let credentials = Credentials {
        uid: user.uid(),
        gid: user.gid(),
        groups: groups.iter().map(|gid| Gid::from_raw(*gid)).collect(),
        umask: user.umask().unwrap_or(DEFAULT_UMASK),
        // From other users than root the kernel takes all.
        lacks: if user.uid() == 0 { root_lacks } else { CapabilitySet::empty() },
    };
    if credentials.umask > 0o777 {
        return Err(wrong(
            "process.user.umask",
            format!("{:o} has more than permission bits", credentials.umask),
        ));
    }
    let is_root = rustix::process::geteuid().is_root();
    // Refused here and not at the first file access, so that the error reaches the caller.
    if credentials.is_own() && !is_root {
        return Err(wrong("process.user", "only root can run guests as somebody"));
    }
    // Root with its own group and the default umask needs no change of a thread's credentials. An
    // ordinary user has no capabilities.
    let changes = credentials.is_own() || is_root && !credentials.lacks.is_empty();
    Ok(changes.then(|| Arc::new(credentials)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::credentials::OVER_FILES;

    fn parse(json: &str) -> Result<ProcessConfig, ProcessConfigError> {
        ProcessConfig::parse(json.as_bytes(), CapabilitySet::empty())
    }

    #[test]
    fn errors_of_an_exec_name_the_field() {
        for (json, expected) in [
            ("", "process: EOF"),
            ("[]", "process: "),
            (r#"{"cwd":"/","args":[],"user":{"uid":0,"gid":0}}"#, "process.args: is empty"),
            (r#"{"cwd":"x","args":["/a"],"user":{"uid":0,"gid":0}}"#, "process.cwd: \"x\""),
            (
                r#"{"cwd":"/","args":["/a"],"user":{"uid":4294967295,"gid":0}}"#,
                "process.user.uid: 4294967295",
            ),
            (
                r#"{"cwd":"/","args":["/a"],"user":{"uid":0,"gid":0,"umask":4096}}"#,
                "process.user.umask: 10000",
            ),
            (
                r#"{"cwd":"/","args":["/a"],"user":{"uid":0,"gid":0},"oomScoreAdj":1001}"#,
                "process.oomScoreAdj: 1001 is not from -1000 to 1000",
            ),
            (
                r#"{"cwd":"/","args":["/a"],"user":{"uid":0,"gid":0},"rlimits":[
                    {"type":"RLIMIT_NOFILE","soft":8,"hard":7}]}"#,
                "process.rlimits[RLIMIT_NOFILE]: the soft limit 8 exceeds the hard 7",
            ),
            (
                r#"{"cwd":"/","args":["/a"],"user":{"uid":0,"gid":0},"rlimits":[
                    {"type":"RLIMIT_NOFILE","soft":7,"hard":7},
                    {"type":"RLIMIT_NOFILE","soft":8,"hard":8}]}"#,
                "process.rlimits[RLIMIT_NOFILE]: is listed twice",
            ),
        ] {
            let error = parse(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }

    #[test]
    fn process_without_a_user_is_that_of_root() {
        let of = |user: &str| {
            let parsed = parse(&format!(r#"{{"cwd":"/","args":["/a"]{user}}}"#));
            parsed.map(|process| process.credentials).map_err(|error| error.to_string())
        };
        let absent = format!("{:?}", of(""));
        assert!(!absent.contains("missing"), "{absent}");
        assert_eq!(absent, format!("{:?}", of(r#","user":{"uid":0,"gid":0}"#)));
    }

    fn root_lacks(capabilities: &str, of_container: CapabilitySet) -> CapabilitySet {
        let json =
            format!(r#"{{"cwd":"/","args":["/a"],"user":{{"uid":0,"gid":0}}{capabilities}}}"#);
        ProcessConfig::parse(json.as_bytes(), of_container).unwrap().root_lacks
    }

    #[test]
    fn root_has_the_capabilities_over_files_that_are_listed() {
        let none = CapabilitySet::empty();
        let listed =
            |names: &str| root_lacks(&format!(r#","capabilities":{{"bounding":[{names}]}}"#), none);
        assert_eq!(root_lacks("", none), none);
        assert_eq!(root_lacks(r#","capabilities":{}"#, none), OVER_FILES);
        assert_eq!(listed(r#""CAP_KILL","CAP_OF_NEXT_YEAR""#), OVER_FILES);
        assert_eq!(listed(r#""CAP_DAC_OVERRIDE","CAP_FOWNER","CAP_FSETID","CAP_KILL""#), none);
        let read_only = CapabilitySet::DAC_READ_SEARCH;
        assert_eq!(listed(r#""CAP_DAC_READ_SEARCH""#), OVER_FILES.difference(read_only));
    }

    #[test]
    fn exec_without_a_list_of_capabilities_has_those_of_its_container() {
        assert_eq!(root_lacks("", OVER_FILES), OVER_FILES);
        let override_too = r#","capabilities":{"bounding":["CAP_DAC_OVERRIDE"]}"#;
        let others = CapabilitySet::FOWNER.union(CapabilitySet::FSETID);
        assert_eq!(root_lacks(override_too, OVER_FILES), others);
    }

    #[test]
    fn capabilities_are_those_of_root_alone() {
        let user = |uid: u32| -> User {
            serde_json::from_value(serde_json::json!({ "uid": uid, "gid": 7 })).unwrap()
        };
        let is_root = rustix::process::geteuid().is_root();
        for (uid, lacks) in [(0, OVER_FILES), (1000, CapabilitySet::empty())] {
            match credentials(&user(uid), OVER_FILES) {
                Ok(credentials) => assert_eq!(credentials.unwrap().lacks, lacks),
                Err((field, _)) => assert!(!is_root && field == "process.user", "{field}"),
            }
        }
    }

    #[test]
    fn last_of_several_entries_of_the_environment_stays() {
        let json = concat!(
            r#"{"cwd":"/","args":["/a"],"user":{"uid":0,"gid":0},"#,
            r#""env":["A=1","B=2","A=3","C=","A=4=5"]}"#
        );
        let process = parse(json).unwrap();
        let entries: Vec<_> = process.env.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(entries, [("B", "2"), ("C", ""), ("A", "4=5")]);
        assert_eq!(process.env("A"), Some("4=5"));
    }

    #[test]
    fn a_working_directory_is_normalized() {
        let json = r#"{"cwd":"/a/./b/","args":["/a"],"user":{"uid":0,"gid":0}}"#;
        assert_eq!(parse(json).unwrap().cwd.to_str(), Some("/a/b"));
    }
}
