//! `debug bundle`: one tar with facts for a report of a fault.
//!
//! ```text
//! README            what is in it, what was left out, and what could not be had
//! versions          of the program, the daemons, the kernel and the distribution
//! settings.toml     as a start would read them now
//! daemons.json      status and settings in force of each daemon
//! containers.json   sandboxes and containers, with their configuration in short
//! events.json       the events that the daemons have kept
//! log               the last lines of the journal
//! kernel, cgroups   facts of the system
//! process/<pid>     facts of each daemon's OS process
//! ```
//!
//! No value of an environment variable is ever read from a container's configuration. Everything
//! else passes [`secrets`].

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use runwasi_core::{regular_file::read_regular, sys};
use serde_json::{Value, json};

use super::{
    config,
    error::CommandError,
    events,
    list::{self, Row},
    node::Node,
    output, secrets, status, text,
};
use crate::journal::now;

/// Time limit of the program that prints the log.
const LOG_PATIENCE: Duration = Duration::from_secs(20);
/// Most bytes of the log.
const LOG_BYTES: usize = 16 << 20;
/// Most bytes of one file of the system.
const FILE_BYTES: u64 = 1 << 20;

/// End of the name of an annotation with what a tool has last made the pod of.
const LAST_APPLIED: &str = "last-applied-configuration";

/// Sources and target of a bundle.
pub(super) struct Request<'a> {
    pub(super) output: Option<&'a Path>,
    pub(super) log_lines: u32,
    /// The settings, or why they are not valid.
    pub(super) settings: &'a Result<String, String>,
    /// Name and version of the program, and its engine.
    pub(super) version: String,
}

/// The files of a bundle, and what could not be had.
#[derive(Default)]
struct Bundle {
    files: Vec<(String, String)>,
    missing: Vec<String>,
}

impl Bundle {
    /// Adds a text, without the secrets in it.
    fn add(&mut self, name: &str, content: &str) {
        self.files.push((name.to_owned(), secrets::text(content)));
    }

    /// Adds JSON, without the secrets in its strings.
    fn add_json(&mut self, name: &str, value: Value) {
        self.files.push((name.to_owned(), text::json(&without_secrets(value))));
    }

    /// The same for several values, a line each.
    fn add_json_lines(&mut self, name: &str, values: Vec<Value>) {
        let lines = values.into_iter().map(|value| text::json_line(&without_secrets(value)));
        self.files.push((name.to_owned(), lines.collect()));
    }

    fn add_log(&mut self, log: io::Result<Log>) {
        match log {
            Ok(Log { text, is_cut }) => {
                self.add("log", &text);
                if is_cut {
                    let reason = format!("its older lines: it has its newest {LOG_BYTES} bytes");
                    self.miss("log", &reason);
                }
            }
            Err(error) => self.miss("log", &error),
        }
    }

    fn miss(&mut self, what: &str, reason: &dyn std::fmt::Display) {
        self.missing.push(secrets::text(&format!("{what}: {reason}")));
    }

    fn readme(&self, version: &str, at: u64) -> String {
        let names: Vec<_> = self.files.iter().map(|(name, _)| format!("  {name}\n")).collect();
        let missing: Vec<_> =
            self.missing.iter().map(|line| format!("  {}\n", text::line(line))).collect();
        format!(
            "Facts for a report of a fault of {version}, made at {}.\n\n\
             Left out: values of environment variables of containers, values of annotations\n\
             io.runwasi.config.* and last-applied-configuration, credentials, and all that looks\n\
             like a secret, which is replaced by {}. Look into the files before you send them.\n\n\
             Files:\n{}\nNot to be had:\n{}",
            text::time(at),
            secrets::HIDDEN,
            names.concat(),
            if missing.is_empty() { "  nothing\n".to_owned() } else { missing.concat() },
        )
    }
}

/// Collects everything and writes the tar.
pub(super) fn run(node: &Node, request: &Request<'_>) -> Result<ExitCode, CommandError> {
    let at = now();
    let mut bundle = Bundle::default();
    bundle.add("versions", &versions(&request.version));
    match request.settings {
        Ok(settings) => bundle.add("settings.toml", settings),
        Err(error) => bundle.miss("settings.toml", error),
    }
    daemons(node, &mut bundle);
    bundle.add_log(log(journal(node.program, request.log_lines)));
    bundle.add("kernel", &system(&KERNEL));
    bundle.add("cgroups", &system(&CGROUPS));
    let readme = bundle.readme(&request.version, at);
    bundle.files.insert(0, ("README".to_owned(), readme));
    let tar = tar(&bundle.files, at / 1000)?;
    write(request.output, node.program, at, &tar)?;
    Ok(ExitCode::SUCCESS)
}

/// Files from the answers of the daemons.
fn daemons(node: &Node, bundle: &mut Bundle) {
    let daemons = match node.daemons(true) {
        Ok(daemons) => daemons,
        Err(error) => return bundle.miss("daemons.json", &error),
    };
    bundle.add_json("daemons.json", status::json(&daemons, true));
    let sandboxes = node.sandboxes(&daemons);
    let faults = list::faults(&daemons, &sandboxes);
    for fault in faults.iter().chain(&list::unknown(&daemons, &sandboxes, node.program)) {
        bundle.miss("containers.json", fault);
    }
    let rows = list::rows(&daemons, &sandboxes);
    let all: Vec<Value> = rows.iter().map(sandbox).collect();
    bundle.add_json("containers.json", json!(all));
    match events::kept(node) {
        Ok(kept) => bundle.add_json_lines("events.json", kept),
        Err(error) => bundle.miss("events.json", &error),
    }
    for daemon in &daemons {
        let files = ["status", "limits", "cgroup", "oom_score_adj"];
        let files: Vec<_> =
            files.iter().map(|name| format!("/proc/{}/{name}", daemon.pid)).collect();
        let files: Vec<_> = files.iter().map(String::as_str).collect();
        let open = count(&format!("/proc/{}/fd", daemon.pid));
        let content = format!("# open files: {open}\n{}", system(&files));
        bundle.add(&format!("process/{}", daemon.pid), &content);
    }
}

fn count(directory: &str) -> String {
    fs::read_dir(directory).map_or_else(|error| error.to_string(), |all| all.count().to_string())
}

/// A sandbox with the configuration of its containers.
fn sandbox(row: &Row<'_>) -> Value {
    let mut value = list::one(row);
    let configs = row.sandbox.containers.iter().map(|container| config(&container.bundle));
    value["configs"] = Value::Array(configs.collect());
    value
}

fn config(bundle: &str) -> Value {
    let mut facts = match config::read(bundle) {
        Ok(facts) => facts,
        Err(error) => return json!({ "error": error }),
    };
    facts.args = secrets::arguments(&facts.args);
    for (name, value) in &mut facts.annotations {
        if has_variables(name) || secrets::is_secret_name(name) {
            secrets::HIDDEN.clone_into(value);
        }
    }
    facts.json()
}

/// True for an annotation that has the configuration of a guest, as variables have.
fn has_variables(annotation: &str) -> bool {
    // `kubectl apply` keeps the whole pod there, with its variables.
    annotation.starts_with("io.runwasi.config.") || annotation.ends_with(LAST_APPLIED)
}

/// JSON with strings that have passed the filter of secrets.
fn without_secrets(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(secrets::text(&text)),
        Value::Array(all) => Value::Array(all.into_iter().map(without_secrets).collect()),
        Value::Object(all) => {
            Value::Object(all.into_iter().map(|(key, one)| (key, without_secrets(one))).collect())
        }
        other => other,
    }
}

fn versions(version: &str) -> String {
    let kernel = system(&["/proc/version", "/etc/os-release"]);
    format!("{version}\n\n{kernel}")
}

/// Facts of the kernel that limit a daemon.
const KERNEL: [&str; 10] = [
    "/proc/version",
    "/proc/sys/vm/max_map_count",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/fs/file-nr",
    "/proc/sys/kernel/pid_max",
    "/proc/sys/kernel/threads-max",
    "/proc/sys/user/max_net_namespaces",
    "/proc/meminfo",
    "/proc/loadavg",
    "/proc/pressure/cpu",
];

const CGROUPS: [&str; 4] = [
    "/proc/cgroups",
    "/proc/self/cgroup",
    "/sys/fs/cgroup/cgroup.controllers",
    "/sys/fs/cgroup/cgroup.subtree_control",
];

/// Files of the system, each behind its name.
fn system(files: &[&str]) -> String {
    let mut all = String::new();
    for file in files {
        let content = match read_regular(Path::new(file), FILE_BYTES) {
            Ok(content) => String::from_utf8_lossy(&content).into_owned(),
            Err(error) => format!("# {error}\n"),
        };
        all.push_str(&format!("## {file}\n{content}\n"));
    }
    all
}

/// Lines of the journal.
struct Log {
    text: String,
    /// True if older lines than these have no room.
    is_cut: bool,
}

/// The command that prints the last lines of the daemon's unit in systemd's journal.
fn journal(program: &str, lines: u32) -> Command {
    let mut command = Command::new("journalctl");
    command.args(["--no-pager", "--quiet", "--output=short-iso", "--unit", program]);
    command.arg(format!("--lines={lines}"));
    command
}

/// The newest of the lines that a command prints.
fn log(mut command: Command) -> io::Result<Log> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let reader = std::thread::spawn(move || newest(stdout));
    let deadline = Instant::now() + LOG_PATIENCE;
    while !reader.is_finished() && Instant::now() < deadline {
        sys::pause(Duration::from_millis(10));
    }
    // Also after its end: a kill that is late has no effect. It ends the reader, too.
    drop(child.kill());
    child.wait()?;
    if !reader.is_finished() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let log = reader.join().map_err(|_| io::Error::other("the reader panicked"))??;
    if log.text.is_empty() {
        return Err(io::Error::other("systemd's journal has no line of the unit"));
    }
    Ok(log)
}

/// Reads to the end, and keeps the last lines that have room.
fn newest(mut source: impl Read) -> io::Result<Log> {
    let mut bytes = Vec::new();
    let mut is_cut = false;
    while source.by_ref().take(LOG_BYTES as u64).read_to_end(&mut bytes)? > 0 {
        let surplus = bytes.len().saturating_sub(LOG_BYTES);
        if surplus > 0 {
            is_cut = true;
            // From a whole line on: a cut one could begin behind the name of a secret.
            let end = bytes[surplus - 1..].iter().position(|byte| *byte == b'\n');
            bytes.drain(..end.map_or(bytes.len(), |end| surplus + end));
        }
    }
    Ok(Log { text: String::from_utf8_lossy(&bytes).into_owned(), is_cut })
}

fn tar(files: &[(String, String)], seconds: u64) -> io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(seconds);
        builder.append_data(&mut header, format!("debug/{name}"), content.as_bytes())?;
    }
    builder.into_inner()
}

fn write(output: Option<&Path>, program: &str, at: u64, tar: &[u8]) -> Result<(), CommandError> {
    if output == Some(Path::new("-")) {
        output::print_bytes(tar)?;
        return Ok(());
    }
    let path = output.map_or_else(|| default_name(program, at), Path::to_owned);
    let failed = |source| CommandError::Io { path: path.clone(), source };
    // Never an existing file, and for this user alone: it is about all containers of the node.
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
    if let Err(error) = file.write_all(tar) {
        // A part would look like the whole, and keep the next try from the name. An error: it
        // stays.
        let _ = fs::remove_file(&path);
        return Err(failed(error));
    }
    output::print(&format!("{}\n", text::line(&path.display().to_string())))?;
    Ok(())
}

/// A name in the current directory.
fn default_name(program: &str, at: u64) -> PathBuf {
    let time = text::time(at / 1000 * 1000).replace([':', '-'], "").replace(".000", "");
    format!("{program}-debug-{time}.tar").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_planted_secret_is_in_the_bundle() {
        let directory = tempfile::tempdir().unwrap();
        let config = r#"{"process": {"args": ["/app", "--token", "argsecret", "--x=1"],
            "env": ["DB=envsecret"]},
            "annotations": {"io.runwasi.config.db": "configsecret", "a.password": "passsecret",
            "kubectl.kubernetes.io/last-applied-configuration": "{\"value\":\"appliedsecret\"}",
            "plain": "value"}}"#;
        fs::write(directory.path().join("config.json"), config).unwrap();
        let mut bundle = Bundle::default();
        bundle.add_json("containers.json", self::config(directory.path().to_str().unwrap()));
        let event = json!({ "text": "trap: \"token=eventsecret\"" });
        bundle.add_json_lines("events.json", vec![event.clone(), event]);
        let (_, events) = bundle.files.last().unwrap();
        let mut events = events.lines().map(serde_json::from_str::<Value>);
        let hidden = format!("trap: \"token={}\"", secrets::HIDDEN);
        assert!(events.all(|event| event.unwrap()["text"] == hidden));
        bundle.add("log", "line token=logsecret\n");
        bundle.miss("x", &"password=misssecret");
        bundle.add("README", &bundle.readme("program 1", 0));
        let tar = tar(&bundle.files, 0).unwrap();
        let all = String::from_utf8_lossy(&tar);
        assert!(!all.contains("hunter") && !all.contains("argsecret"), "{all}");
        for secret in [
            "argsecret",
            "envsecret",
            "configsecret",
            "passsecret",
            "appliedsecret",
            "eventsecret",
            "logsecret",
            "misssecret",
        ] {
            assert!(!all.contains(secret), "{secret}: {all}");
        }
        for stays in ["--x=1", "\"DB\"", "\"plain\": \"value\"", "debug/containers.json"] {
            assert!(all.contains(stays), "{stays}: {all}");
        }
    }

    /// A program that prints lines as `journalctl` does.
    fn printer(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn log_keeps_its_newest_lines_and_tells_that_it_was_cut() {
        // 20 MB.
        let all = log(printer("seq -f 'line %093.0f' 200000; echo newest")).unwrap();
        assert!(all.is_cut && all.text.len() <= LOG_BYTES, "{}", all.text.len());
        assert!(all.text.len() > LOG_BYTES - 200, "{}", all.text.len());
        assert!(all.text.starts_with("line 0") && all.text.ends_with("000200000\nnewest\n"));
        let mut bundle = Bundle::default();
        bundle.add_log(Ok(all));
        let readme = bundle.readme("p 1", 0);
        assert!(readme.contains("log: its older lines"), "{readme}");

        let all = log(printer("echo oldest; echo newest")).unwrap();
        assert_eq!((all.text.as_str(), all.is_cut), ("oldest\nnewest\n", false));
        assert!(log(printer(":")).is_err());
    }

    #[test]
    fn existing_file_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("b.tar");
        write(Some(&path), "p", 0, b"one").unwrap();
        assert!(write(Some(&path), "p", 0, b"two").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(default_name("p", 951_782_400_123), Path::new("p-debug-20000229T000000Z.tar"));
    }

    #[test]
    fn missing_files_are_named() {
        let text = system(&["/absent/file", "/proc/loadavg"]);
        assert!(text.contains("## /absent/file\n# No such file"), "{text}");
    }
}
