//! Restrictions put on a program before it starts, as systemd does: those of a unit file, and those
//! of an older kernel.
//!
//! systemd's groups of system calls are expanded by `systemd-analyze`, so that they are the real ones.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use serde_json::json;

use crate::command::Command;

/// Restrictions of a program and of all that it starts.
#[derive(Debug, Clone, Default)]
pub struct Restrictions {
    /// Taken away.
    capabilities: Vec<CapabilitySet>,
    filters: Vec<BpfProgram>,
}

/// Directives of `[Service]` that restrict nothing of what a program may do.
const OTHERS: [&str; 19] = [
    "Type",
    "NotifyAccess",
    "ExecStart",
    "ExecReload",
    "WatchdogSec",
    "KillMode",
    "KillSignal",
    "RestartKillSignal",
    "TimeoutStopSec",
    "Restart",
    "RestartSec",
    "LimitNOFILE",
    "LimitCORE",
    "TasksMax",
    "OOMPolicy",
    "OOMScoreAdjust",
    // Each filter has both anyway.
    "NoNewPrivileges",
    "SystemCallArchitectures",
    // Part of `SystemCallFilter`.
    "SystemCallErrorNumber",
];

const NAMESPACES: [(&str, libc::c_int); 7] = [
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("ipc", libc::CLONE_NEWIPC),
    ("mnt", libc::CLONE_NEWNS),
    ("net", libc::CLONE_NEWNET),
    ("pid", libc::CLONE_NEWPID),
    ("user", libc::CLONE_NEWUSER),
    ("uts", libc::CLONE_NEWUTS),
];

const FAMILIES: [(&str, libc::c_int); 5] = [
    ("AF_UNIX", libc::AF_UNIX),
    ("AF_INET", libc::AF_INET),
    ("AF_INET6", libc::AF_INET6),
    ("AF_NETLINK", libc::AF_NETLINK),
    ("AF_PACKET", libc::AF_PACKET),
];

impl Restrictions {
    /// Those of a service's unit file. A directive that is not known here is an error: it would not be
    /// tried.
    pub fn of_unit(unit: &str) -> Result<Self> {
        let mut all = BTreeMap::<&str, Vec<&str>>::new();
        let lines = unit
            .lines()
            .skip_while(|line| *line != "[Service]")
            .skip(1)
            .take_while(|line| *line != "[Install]");
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, value) =
                line.split_once('=').with_context(|| format!("no directive: {line}"))?;
            all.entry(name).or_default().push(value);
        }
        let mut restrictions = Self::default();
        for (name, values) in all.iter().filter(|(name, _)| !OTHERS.contains(*name)) {
            let words: Vec<_> = values.iter().flat_map(|value| value.split_whitespace()).collect();
            restrictions.add(name, &words).with_context(|| format!("{name}={words:?}"))?;
        }
        for demanded in [
            "CapabilityBoundingSet",
            "NoNewPrivileges",
            "SystemCallArchitectures",
            "SystemCallFilter",
        ] {
            ensure!(all.contains_key(demanded), "a unit without {demanded}");
        }
        Ok(restrictions)
    }

    /// Linux before 6.15, which mounts nothing on a tree that is attached nowhere: `move_mount(2)` with
    /// an empty path at both ends is refused. What is refused depends on the tree there, on the flags
    /// here, so a program that mounts on attached trees by descriptors alone is refused as well.
    pub fn old_kernel() -> Result<Self> {
        const BOTH_EMPTY: u64 = 0x44;
        let flags = condition(4, SeccompCmpOp::Eq, BOTH_EMPTY)?;
        let filter = filter([(libc::SYS_move_mount, vec![vec![flags]])], libc::EINVAL)?;
        Ok(Self { capabilities: Vec::new(), filters: vec![filter] })
    }

    /// One capability less, by its name in capabilities(7).
    pub fn without(mut self, name: &str) -> Result<Self> {
        self.capabilities.push(capability(name)?);
        Ok(self)
    }

    /// Has `command` start under these restrictions.
    pub fn put_on(&self, command: &mut std::process::Command) {
        let Self { capabilities, filters } = self.clone();
        let restrict = move || -> io::Result<()> {
            for capability in &capabilities {
                remove_capability_from_bounding_set(*capability)?;
            }
            filters.iter().try_for_each(|filter| {
                seccompiler::apply_filter(filter).map_err(|_| io::Error::last_os_error())
            })
        };
        // SAFETY: between fork and exec it makes system calls only; nothing is allocated unless one fails.
        unsafe { command.pre_exec(restrict) };
    }

    fn add(&mut self, directive: &str, words: &[&str]) -> Result<()> {
        match directive {
            "CapabilityBoundingSet" => {
                let kept =
                    words.iter().map(|name| capability(name)).collect::<Result<CapabilitySet>>()?;
                // Bits without a name are no capabilities of this kernel.
                let named = CapabilitySet::all().iter_names().map(|(_, capability)| capability);
                self.capabilities.extend(named.filter(|capability| !kept.contains(*capability)));
            }
            "SystemCallFilter" => self.filters.push(denied_calls(words)?),
            "RestrictNamespaces" => self.filters.extend(namespaces(words)?),
            "RestrictAddressFamilies" => self.filters.push(families(words)?),
            "LockPersonality" => {
                ensure!(words == ["yes"]);
                let asked = condition(0, SeccompCmpOp::Ne, 0xffff_ffff)?;
                self.filters
                    .push(filter([(libc::SYS_personality, vec![vec![asked]])], libc::EPERM)?);
            }
            "RestrictRealtime" => {
                ensure!(words == ["yes"]);
                let policies =
                    [libc::SCHED_FIFO, libc::SCHED_RR, libc::SCHED_DEADLINE].map(i32::unsigned_abs);
                let rule = |policy: u32| Ok(vec![condition(1, SeccompCmpOp::Eq, policy.into())?]);
                let rules = policies.into_iter().map(rule).collect::<Result<_>>()?;
                self.filters.push(filter([(libc::SYS_sched_setscheduler, rules)], libc::EPERM)?);
            }
            _ => bail!("a directive that is not tried here"),
        }
        Ok(())
    }
}

fn capability(name: &str) -> Result<CapabilitySet> {
    let flag = name.strip_prefix("CAP_").and_then(CapabilitySet::from_name);
    flag.with_context(|| format!("no capability {name}"))
}

/// One of the arguments of a system call, of which the kernel looks at 32 bits.
fn condition(argument: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition> {
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)?)
}

/// Refuses each call for which all conditions of one of its rules hold; without rules always.
fn filter<const N: usize>(
    calls: [(libc::c_long, Vec<Vec<SeccompCondition>>); N],
    errno: libc::c_int,
) -> Result<BpfProgram> {
    let rules = calls.into_iter().map(|(call, rules)| {
        let rules = rules.into_iter().map(SeccompRule::new).collect::<Result<Vec<_>, _>>()?;
        Ok((call, rules))
    });
    let denied = SeccompAction::Errno(errno.unsigned_abs());
    let filter =
        SeccompFilter::new(rules.collect::<Result<_>>()?, SeccompAction::Allow, denied, arch()?)?;
    Ok(filter.try_into()?)
}

fn arch() -> Result<TargetArch> {
    Ok(std::env::consts::ARCH.try_into()?)
}

/// `SystemCallFilter=~…`: calls and groups that are refused with EPERM.
fn denied_calls(words: &[&str]) -> Result<BpfProgram> {
    let first = words
        .first()
        .and_then(|word| word.strip_prefix('~'))
        .context("only lists of refused calls")?;
    let mut known = Vec::new();
    for word in [first].iter().chain(&words[1..]) {
        let mut names = Vec::new();
        expand(word, &mut names)?;
        // A group also names the calls of other machines.
        names.retain(|name| compile(std::slice::from_ref(name)).is_ok());
        ensure!(!names.is_empty(), "{word}: no call of it is known, so nothing would be refused");
        known.append(&mut names);
    }
    compile(&known)
}

fn expand(word: &str, names: &mut Vec<String>) -> Result<()> {
    if !word.starts_with('@') {
        names.push(word.to_owned());
        return Ok(());
    }
    let told = Command::new("systemd-analyze").args(["syscall-filter", "--no-pager", word]).run();
    let told = told.context("`make setup` installs systemd-analyze")?.ok()?.out();
    let inside = told
        .lines()
        .skip(1)
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    for word in inside {
        expand(word, names)?;
    }
    Ok(())
}

/// By name, which only this form of the library's filters knows.
fn compile(names: &[String]) -> Result<BpfProgram> {
    let calls: Vec<_> = names.iter().map(|name| json!({ "syscall": name })).collect();
    let refused = json!({ "errno": libc::EPERM });
    let all =
        json!({ "all": { "mismatch_action": "allow", "match_action": refused, "filter": calls } });
    let mut compiled = seccompiler::compile_from_json(all.to_string().as_bytes(), arch()?)?;
    compiled.remove("all").context("no filter")
}

/// As systemd does it: `clone3(2)` keeps its flags in memory, where no filter looks, and has to be done
/// without; `setns(2)` has to say what it enters.
fn namespaces(allowed: &[&str]) -> Result<[BpfProgram; 2]> {
    for name in allowed {
        ensure!(NAMESPACES.iter().any(|(known, _)| known == name), "no namespace {name}");
    }
    let denied: Vec<_> = NAMESPACES.iter().filter(|(name, _)| !allowed.contains(name)).collect();
    let rules = |argument| -> Result<Vec<Vec<SeccompCondition>>> {
        let rule = |flag: libc::c_int| {
            let flag = u64::from(flag.unsigned_abs());
            Ok(vec![condition(argument, SeccompCmpOp::MaskedEq(flag), flag)?])
        };
        denied.iter().map(|(_, flag)| rule(*flag)).collect()
    };
    let mut entered = rules(1)?;
    entered.push(vec![condition(1, SeccompCmpOp::Eq, 0)?]);
    let calls =
        [(libc::SYS_unshare, rules(0)?), (libc::SYS_clone, rules(0)?), (libc::SYS_setns, entered)];
    Ok([filter(calls, libc::EPERM)?, filter([(libc::SYS_clone3, Vec::new())], libc::ENOSYS)?])
}

fn families(allowed: &[&str]) -> Result<BpfProgram> {
    let other = |name: &&str| {
        let family = FAMILIES
            .iter()
            .find(|(known, _)| known == name)
            .with_context(|| format!("no family {name}"))?;
        condition(0, SeccompCmpOp::Ne, family.1.unsigned_abs().into())
    };
    let none_of_them = allowed.iter().map(other).collect::<Result<Vec<_>>>()?;
    filter([(libc::SYS_socket, vec![none_of_them])], libc::EAFNOSUPPORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "[Service]\nNoNewPrivileges=yes\nSystemCallArchitectures=native\nCapabilityBoundingSet=CAP_SYS_ADMIN\nCapabilityBoundingSet=CAP_SETPCAP\nSystemCallFilter=~@clock @swap @module\nRestrictNamespaces=net\nRestrictAddressFamilies=AF_UNIX\n[Install]\nWantedBy=x\n";

    fn succeeds(restrictions: &Restrictions, script: &str) -> bool {
        let mut command = std::process::Command::new("sh");
        command
            .args(["-c", script])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        restrictions.put_on(&mut command);
        command.status().unwrap().success()
    }

    #[test]
    fn unit_allows_what_it_lists_and_nothing_else() {
        let unit = Restrictions::of_unit(UNIT).unwrap();
        for (script, allowed) in [
            ("unshare --net true", true),
            ("unshare --uts true", false),
            ("unshare --mount true", false),
            // CAP_CHOWN.
            ("t=$(mktemp) && chown 7 $t; s=$?; rm $t; exit $s", false),
            ("grep -q 'NoNewPrivs:.1' /proc/self/status", true),
            ("grep -q 'CapEff:.0000000000200100' /proc/self/status", true),
            // AF_NETLINK.
            ("ip -4 address", false),
        ] {
            assert_eq!(succeeds(&unit, script), allowed, "{script}");
            let own = script.starts_with("grep");
            assert!(own || succeeds(&Restrictions::default(), script), "{script} fails anyway");
        }
        assert!(!succeeds(&unit.without("CAP_SYS_ADMIN").unwrap(), "unshare --net true"));
    }

    #[test]
    fn unknown_directive_is_an_error() {
        for line in
            ["PrivateUsers=yes", "CapabilityBoundingSet=CAP_FLY", "RestrictAddressFamilies=AF_X25"]
        {
            let unit = UNIT.replace("[Install]", &format!("{line}\n[Install]"));
            assert!(Restrictions::of_unit(&unit).is_err(), "{line}");
        }
    }
}
