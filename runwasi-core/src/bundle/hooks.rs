//! `hooks` of the OCI runtime spec 1.2: programs of the host that run at points of a container's
//! lifecycle.
//!
//! | hook                        | when                | if it fails                            |
//! |-----------------------------|---------------------|----------------------------------------|
//! | `prestart`, `createRuntime` | the end of `Create` | `Create` fails                         |
//! | `poststart`                 | after the start     | the container is killed, `Start` fails |
//! | `poststop`                  | after `Delete`      | a warning                              |
//!
//! `createContainer` is refused: it runs in the container's namespaces, and a guest has no
//! namespaces. `startContainer` is refused: it is a program of the image, which no longer contains
//! programs of the host.
//!
//! `poststop` runs for every container after its creation has reached the hooks, even if everything
//! in between fails or is killed: a file in the bundle records this debt until the hooks run. If a
//! hook before the start fails, they run before the answer of `Create`, as with runc. Without a
//! server, `bootstrap::delete` runs them.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Seek, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use oci_spec::runtime::{Hook, Hooks};
use serde::{Deserialize, Serialize};

use super::error::{Wrong, wrong};
use crate::{
    blocking::NoThread,
    cgroups,
    child::{memory_file, wait_within},
    task_limits,
};

/// File in the bundle with the `poststop` hooks that are still to be run.
const OWED_FILE: &str = "poststop.owed";

/// Maximum of a failed hook's stderr in the error, in bytes.
const SAID: usize = 1000;

/// A container's hooks.
#[derive(Clone, Debug, Default)]
pub struct HooksConfig {
    prestart: Vec<Hook>,
    create_runtime: Vec<Hook>,
    poststart: Vec<Hook>,
    poststop: Vec<Hook>,
}

/// State of the container on a hook's stdin (`runtime.md` of the spec, "State").
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerState {
    oci_version: String,
    id: String,
    status: String,
    pid: u32,
    bundle: PathBuf,
    annotations: HashMap<String, String>,
}

/// The content of [`OWED_FILE`].
#[derive(Deserialize, Serialize)]
struct Owed {
    hooks: Vec<Hook>,
    state: ContainerState,
}

/// A hook failed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It did not run, or not to a good end.
    #[error("hooks.{name}[{place}] {}: {reason}", path.display())]
    Failed {
        /// Kind of the hook, as in the spec.
        name: &'static str,
        /// Index among the hooks of this kind.
        place: usize,
        /// Its program.
        path: PathBuf,
        /// Status with the beginning of its stderr, or an error.
        reason: String,
    },
    /// No hook ran.
    #[error("hooks: {0}")]
    NoThread(#[from] NoThread),
}

impl ContainerState {
    pub(crate) fn new(
        id: &str,
        pid: u32,
        bundle: &Path,
        annotations: &HashMap<String, String>,
    ) -> Self {
        let oci_version = "1.2.0".to_owned();
        // Each run sets it with `with`.
        let status = String::new();
        Self {
            oci_version,
            id: id.to_owned(),
            status,
            pid,
            bundle: bundle.to_owned(),
            annotations: annotations.clone(),
        }
    }

    fn with(mut self, status: &str) -> Self {
        status.clone_into(&mut self.status);
        self
    }
}

/// Names of the hooks that run.
pub const NAMES: [&str; 4] = ["prestart", "createRuntime", "poststart", "poststop"];

impl HooksConfig {
    pub(crate) fn from_spec(hooks: &Hooks) -> Result<Self, Wrong> {
        let refused = [
            (
                "createContainer",
                hooks.create_container(),
                "runs in the container's namespaces, and a guest has none",
            ),
            (
                "startContainer",
                hooks.start_container(),
                "is a program of the image, which is a wasm guest's",
            ),
        ];
        for (name, hooks, reason) in refused {
            if hooks.as_ref().is_some_and(|hooks| !hooks.is_empty()) {
                return Err(wrong(
                    format!("hooks.{name}"),
                    format!("is not supported: it {reason}"),
                ));
            }
        }
        let prestart = hooks.prestart();
        Ok(Self {
            prestart: checked("prestart", prestart.as_deref())?,
            create_runtime: checked("createRuntime", hooks.create_runtime().as_deref())?,
            poststart: checked("poststart", hooks.poststart().as_deref())?,
            poststop: checked("poststop", hooks.poststop().as_deref())?,
        })
    }

    /// True without any hook.
    pub fn is_empty(&self) -> bool {
        let Self { prestart, create_runtime, poststart, poststop } = self;
        [prestart, create_runtime, poststart, poststop].into_iter().all(Vec::is_empty)
    }

    /// Runs `prestart` and `createRuntime`. Blocks.
    pub(crate) fn create(&self, state: ContainerState) -> Result<(), HookError> {
        // Recorded before the first hook: `poststop` has to undo even a part of their work.
        self.owe(&state)?;
        let state = state.with("creating");
        run_all("prestart", &self.prestart, &state)?;
        run_all("createRuntime", &self.create_runtime, &state)
    }

    /// Runs `poststart`. Blocks.
    pub(crate) fn started(&self, state: ContainerState) -> Result<(), HookError> {
        run_all("poststart", &self.poststart, &state.with("running"))
    }

    fn owe(&self, state: &ContainerState) -> Result<(), HookError> {
        let Some(first) = self.poststop.first() else { return Ok(()) };
        let owed = Owed {
            hooks: self.poststop.clone(),
            // The process will have ended by then.
            state: ContainerState { pid: 0, ..state.clone() }.with("stopped"),
        };
        let path = state.bundle.join(OWED_FILE);
        let written = serde_json::to_vec(&owed)
            .map_err(io::Error::other)
            .and_then(|json| fs::write(&path, json));
        written
            .map_err(|error| failed("poststop", 0, first, format!("{}: {error}", path.display())))
    }
}

/// Runs the recorded `poststop` hooks of a bundle and logs failures. Each hook is limited by its
/// own timeout, and all of them by `deadline`. Blocks.
pub(crate) fn stopped(bundle: &Path, deadline: Option<Instant>) {
    let path = bundle.join(OWED_FILE);
    let owed = match fs::read(&path).map(|json| serde_json::from_slice::<Owed>(&json)) {
        Ok(Ok(owed)) => owed,
        Ok(Err(error)) => {
            return tracing::error!(%error, path = %path.display(), "hooks are not run");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return tracing::error!(%error, path = %path.display(), "hooks are not run"),
    };
    // Removed before the first hook, so that a crash or a second caller does not run them twice.
    if let Err(error) = fs::remove_file(&path) {
        return tracing::error!(%error, path = %path.display(), "hooks are not run");
    }
    for (place, hook) in owed.hooks.iter().enumerate() {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if let Err(reason) = run(hook, &owed.state, left) {
            // The remaining hooks run nevertheless, as the spec demands for `poststop`.
            tracing::warn!(
                error = %failed("poststop", place, hook, reason),
                container = owed.state.id,
                "a hook failed"
            );
        }
    }
}

fn checked(name: &str, hooks: Option<&[Hook]>) -> Result<Vec<Hook>, Wrong> {
    let hooks = hooks.unwrap_or_default();
    for (i, hook) in hooks.iter().enumerate() {
        let field = |field: &str| format!("hooks.{name}[{i}].{field}");
        if !hook.path().is_absolute() {
            let path = hook.path().display().to_string();
            return Err(wrong(field("path"), format!("{path:?} is not an absolute path")));
        }
        if hook.timeout().is_some_and(|timeout| timeout <= 0) {
            return Err(wrong(field("timeout"), "is not above zero"));
        }
        let env = hook.env().as_deref().unwrap_or_default();
        if let Some(entry) = env.iter().find(|entry| entry.find('=').is_none_or(|at| at == 0)) {
            return Err(wrong(field("env"), format!("{entry:?} is not NAME=value")));
        }
    }
    Ok(hooks.to_vec())
}

fn run_all(name: &'static str, hooks: &[Hook], state: &ContainerState) -> Result<(), HookError> {
    for (place, hook) in hooks.iter().enumerate() {
        run(hook, state, None).map_err(|reason| failed(name, place, hook, reason))?;
    }
    Ok(())
}

fn failed(name: &'static str, place: usize, hook: &Hook, reason: String) -> HookError {
    HookError::Failed { name, place, path: hook.path().clone(), reason }
}

/// Runs a hook to its end, within its own timeout and within `patience`. The error is a text with
/// the beginning of the hook's stderr.
fn run(hook: &Hook, state: &ContainerState, patience: Option<Duration>) -> Result<(), String> {
    if patience.is_some_and(|patience| patience.is_zero()) {
        return Err("not run: the hooks before it have used all of the time".to_owned());
    }
    let own =
        hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let limit = own.into_iter().chain(patience).min();
    let text = |error: io::Error| error.to_string();
    // A file instead of a pipe: nothing has to read while the hook runs.
    let mut stderr = memory_file("hook").map_err(text)?;
    let status = execute(hook, state, &stderr, limit).map_err(text)?;
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => {
            let mut said = Vec::new();
            // A read error leaves the status as the only reason.
            let _ = stderr.rewind().and_then(|()| stderr.read_to_end(&mut said));
            said.truncate(SAID);
            Err(format!("{status}: {}", String::from_utf8_lossy(&said).trim()))
        }
        None => Err(format!("killed after {} s", limit.unwrap_or_default().as_secs_f32().round())),
    }
}

/// Runs a hook. Returns no status if it was killed at its limit.
fn execute(
    hook: &Hook,
    state: &ContainerState,
    stderr: &File,
    limit: Option<Duration>,
) -> io::Result<Option<ExitStatus>> {
    // A file instead of a pipe: writing to it does not block on a hook that never reads.
    let mut stdin = memory_file("hook")?;
    serde_json::to_writer(&stdin, state)?;
    stdin.flush()?;
    stdin.rewind()?;
    let mut command = Command::new(hook.path());
    if let [name, args @ ..] = hook.args().as_deref().unwrap_or_default() {
        command.arg0(name).args(args);
    }
    let env =
        hook.env().as_deref().unwrap_or_default().iter().filter_map(|entry| entry.split_once('='));
    // The spec gives a hook only its own environment, not that of this process.
    command.env_clear().envs(env).current_dir(&state.bundle);
    // A process group of its own, which is killed with all that the hook has started.
    command.process_group(0);
    cgroups::start_outside(&mut command);
    command.stdin(stdin).stdout(Stdio::null()).stderr(stderr.try_clone()?);
    let mut child = command.spawn().map_err(task_limits::named)?;
    wait_within(&mut child, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> Result<HooksConfig, Wrong> {
        HooksConfig::from_spec(&serde_json::from_str(json).unwrap())
    }

    fn state(bundle: &Path) -> ContainerState {
        ContainerState::new("c1", 77, bundle, &HashMap::from([("a".to_owned(), "b".to_owned())]))
    }

    #[test]
    fn hooks_get_only_the_state_their_arguments_and_their_environment() {
        let bundle = tempfile::tempdir().unwrap();
        let hooks = concat!(
            r#"{"createRuntime":[{"path":"/bin/sh","args":["own name","-c","#,
            r#""cat >state; echo \"$0 $A $HOME\" >told"],"env":["A=1"]}]}"#
        );
        config(hooks).unwrap().create(state(bundle.path())).unwrap();
        assert_eq!(fs::read_to_string(bundle.path().join("told")).unwrap(), "own name 1 \n");
        let state: ContainerState =
            serde_json::from_slice(&fs::read(bundle.path().join("state")).unwrap()).unwrap();
        assert_eq!((state.id.as_str(), state.status.as_str(), state.pid), ("c1", "creating", 77));
        assert_eq!(state.annotations["a"], "b");
    }

    #[test]
    fn error_of_a_hook_names_it_and_contains_its_stderr() {
        let bundle = tempfile::tempdir().unwrap();
        let json = concat!(
            r#"{"createRuntime":[{"path":"/bin/true"},"#,
            r#"{"path":"/bin/sh","args":["sh","-c","echo no luck >&2; exit 3"]}]}"#
        );
        let error = config(json).unwrap().create(state(bundle.path())).unwrap_err().to_string();
        for part in ["hooks.createRuntime[1]", "/bin/sh", "3", "no luck"] {
            assert!(error.contains(part), "{error}");
        }
        let error = config(r#"{"poststart":[{"path":"/no/such"}]}"#)
            .unwrap()
            .started(state(bundle.path()))
            .unwrap_err();
        assert!(error.to_string().contains("/no/such"), "{error}");
    }

    #[test]
    fn hanging_hook_is_killed_at_its_timeout() {
        let bundle = tempfile::tempdir().unwrap();
        let json = r#"{"poststart":[{"path":"/bin/sleep","args":["sleep","1000"],"timeout":1}]}"#;
        let error = config(json).unwrap().started(state(bundle.path())).unwrap_err().to_string();
        assert!(error.contains("killed after 1 s"), "{error}");
    }

    #[test]
    fn poststop_runs_once_even_if_the_creation_fails() {
        let bundle = tempfile::tempdir().unwrap();
        let ran = bundle.path().join("ran");
        let json = concat!(
            r#"{"createRuntime":[{"path":"/bin/false"}],"#,
            r#""poststop":[{"path":"/bin/sh","args":["sh","-c","cat >>ran"]}]}"#
        );
        stopped(bundle.path(), None);
        assert!(!ran.exists());
        config(json).unwrap().create(state(bundle.path())).unwrap_err();
        for _ in 0..2 {
            stopped(bundle.path(), Some(Instant::now() + Duration::from_secs(5)));
            assert_eq!(
                fs::read_to_string(&ran).unwrap().matches(r#""status":"stopped""#).count(),
                1
            );
        }
    }

    #[test]
    fn hanging_hooks_share_one_deadline_and_leave_no_process() {
        let bundle = tempfile::tempdir().unwrap();
        let hook = r#"{"path":"/bin/sh","args":["sh","-c","sleep 1000 & echo $! >>pids; wait"]}"#;
        let hooks = config(&format!(r#"{{"poststop":[{hook},{hook},{hook}]}}"#)).unwrap();
        hooks.create(state(bundle.path())).unwrap();
        let began = Instant::now();
        stopped(bundle.path(), Some(began + Duration::from_secs(3)));
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        // Only the first has had any time. What it has started is dead, or a zombie of this system.
        let pids = fs::read_to_string(bundle.path().join("pids")).unwrap();
        assert_eq!(pids.lines().count(), 1, "{pids}");
        let stat = || fs::read_to_string(format!("/proc/{}/stat", pids.trim())).unwrap_or_default();
        while !stat().is_empty() && !stat().contains(") Z ") {
            assert!(began.elapsed() < Duration::from_secs(20), "{}", stat());
            std::thread::yield_now();
        }
    }

    #[test]
    fn errors_name_the_wrong_field_of_a_hook() {
        for (json, expected) in [
            (r#"{"poststop":[{"path":"/a"},{"path":"b"}]}"#, "hooks.poststop[1].path"),
            (r#"{"prestart":[{"path":"/a","timeout":0}]}"#, "hooks.prestart[0].timeout"),
            (r#"{"poststart":[{"path":"/a","env":["=x"]}]}"#, "hooks.poststart[0].env"),
            (r#"{"startContainer":[{"path":"/a"}]}"#, "hooks.startContainer"),
            (r#"{"createContainer":[{"path":"/a"}]}"#, "hooks.createContainer"),
        ] {
            assert_eq!(config(json).unwrap_err().0, expected);
        }
        assert!(config(r#"{"createContainer":[],"startContainer":[]}"#).unwrap().is_empty());
    }
}
