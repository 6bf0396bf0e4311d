//! The containerds that run on the host, by their command lines: flags win over what a
//! configuration says, and one of them names the configuration. k0s, MicroK8s and Flatcar start
//! theirs with flags.

use crate::Error;
use crate::root::Root;

/// Flags of containerd that take a value, with their short forms. Only the first three matter here.
const FLAGS: [(&str, &str); 5] =
    [("config", "c"), ("address", "a"), ("state", ""), ("root", ""), ("log-level", "l")];
/// The configuration without the flag.
const USUAL: &str = "/etc/containerd/config.toml";

/// The flags of a running containerd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    /// Its configuration.
    pub(crate) config: String,
    /// Its socket, if a flag names it.
    pub(crate) socket: Option<String>,
    /// Its state directory, if a flag names it.
    pub(crate) state: Option<String>,
}

/// Those with the mounts of the host's first process; none in a root without `/proc`.
pub(crate) fn running(root: &Root) -> Result<Vec<Running>, Error> {
    // The `/proc` in the root of an image that is made is that of the machine around it.
    if !root.is_root_of("/proc/1") {
        return Ok(Vec::new());
    }
    let mounts = |process: &str| root.link(&format!("/proc/{process}/ns/mnt"));
    let host = mounts("1");
    let mut found = Vec::new();
    for process in root.list("/proc")? {
        // One that has ended meanwhile cannot be read any more.
        let read = |file: &str| root.read(&format!("/proc/{process}/{file}")).ok().flatten();
        if !process.bytes().all(|letter| letter.is_ascii_digit())
            || read("comm").as_deref() != Some(b"containerd\n".as_slice())
            // Not every host tells its own: then each process counts as the host's.
            || host.as_ref().is_some_and(|host| mounts(&process).as_ref() != Some(host))
        {
            continue;
        }
        let line = String::from_utf8(read("cmdline").unwrap_or_default()).unwrap_or_default();
        let words: Vec<&str> = line.split_terminator('\0').collect();
        // A fork of one that becomes a shim is the same until then.
        found.extend(Running::of(&words).filter(|one| !found.contains(one)));
    }
    Ok(found)
}

impl Running {
    /// Of a command line; none of one with a command (`containerd publish`), which is no server.
    fn of(words: &[&str]) -> Option<Self> {
        let mut words = words.iter();
        // One that has ended has no words.
        words.next()?;
        let mut values = [const { None }; FLAGS.len()];
        while let Some(word) = words.next() {
            let flag = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
            let named = flag.split_once('=');
            let name = named.map_or(flag, |(name, _)| name);
            let known = FLAGS.iter().position(|(long, short)| name == *long || name == *short);
            if let Some(place) = known.filter(|_| !name.is_empty()) {
                let value = named.map(|(_, value)| value).or_else(|| words.next().copied())?;
                values[place] = Some(value.to_owned());
            }
        }
        let [config, socket, state, ..] = values;
        Some(Self { config: config.unwrap_or_else(|| USUAL.to_owned()), socket, state })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::{Running, USUAL, running};
    use crate::root::Root;

    #[test]
    fn containerd_of_this_machine_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("containerd");
        // A link names the process, too, and nothing is written to that other tests may execute.
        std::os::unix::fs::symlink("/bin/sh", &program).unwrap();
        // A shell has its command where containerd has its configuration.
        let mut shell = Command::new(&program);
        let waiting = shell.arg0("sh").args(["-c", "read line"]).stdin(Stdio::piped()).spawn();
        let mut waiting = waiting.unwrap();
        let root = Root::open(Path::new("/")).unwrap();
        let found = || running(&root).unwrap().iter().any(|one| one.config == "read line");
        // Its name and its arguments come after the start has returned.
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut is_found = found();
        while !is_found && Instant::now() < deadline {
            is_found = found();
        }
        waiting.kill().unwrap();
        waiting.wait().unwrap();
        assert!(is_found);
    }

    #[test]
    fn flags_are_read_in_each_of_their_forms() {
        let k3s = ["containerd", "-c", "/k/config.toml", "-a", "/k/sock", "--state", "/k/state"];
        let k0s = [
            "/var/lib/k0s/bin/containerd",
            "--root=/r",
            "--state=/k/state",
            "--address=/k/sock",
            "--log-level=info",
            "--config=/k/config.toml",
        ];
        let wanted = Running {
            config: "/k/config.toml".to_owned(),
            socket: Some("/k/sock".to_owned()),
            state: Some("/k/state".to_owned()),
        };
        assert_eq!(Running::of(&k3s), Some(wanted.clone()));
        assert_eq!(Running::of(&k0s), Some(wanted));
    }

    #[test]
    fn containerd_without_flags_reads_the_usual_configuration() {
        let running = Running::of(&["/usr/bin/containerd"]).unwrap();
        assert_eq!(running, Running { config: USUAL.to_owned(), socket: None, state: None });
    }

    #[test]
    fn command_of_containerd_is_no_server() {
        let publish = ["/usr/bin/containerd", "--address", "/run/sock", "publish", "--topic", "t"];
        assert_eq!(Running::of(&publish), None);
        assert_eq!(Running::of(&["containerd", "config", "dump"]), None);
        assert_eq!(Running::of(&[]), None);
    }
}
