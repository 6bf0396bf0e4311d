//! What is restarted, when, and what happens if it does not come back.

use std::fs;
use std::time::Duration;

use super::{CONFIG, Node, VERSION_3, rendered, same};
use crate::host::Host;
use crate::status;

const ENABLE: &str =
    "systemctl enable --now containerd-wasmtimed.socket containerd-wasmtimed.service";
const DISABLE: &str =
    "systemctl disable --now containerd-wasmtimed.socket containerd-wasmtimed.service";
const RELOAD: &str = "systemctl daemon-reload";
const TAKE_OVER: &str = "systemctl reload containerd-wasmtimed";
const RESTART: &str = "systemctl restart containerd-wasmtimed";
const SYSCTL: &str = "sysctl -p /etc/sysctl.d/60-containerd-wasmtimed.conf";
const NEW_SHIM: &str = "/usr/local/bin/.containerd-shim-wasmtime-v1.runwasi-new";
const ACTIVE: &str = "systemctl is-active --quiet containerd-wasmtimed";

#[test]
fn daemon_serves_before_containerd_is_restarted_and_ends_after_it() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    node.host.fail(ACTIVE, "inactive", 1);
    node.install();
    assert_eq!(node.host.taken(), [SYSCTL, RELOAD, ENABLE, "systemctl restart containerd"]);
    node.uninstall();
    assert_eq!(node.host.taken(), ["systemctl restart containerd", DISABLE, RELOAD]);
}

#[test]
fn daemon_is_stopped_by_the_unit_that_was_installed() {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    let usual = std::mem::replace(&mut node.options.unit_dir, "/opt/units".to_owned());
    node.host.unit = node.path("/opt/units/containerd-wasmtimed.service");
    node.install();
    node.options.unit_dir = usual;
    node.host.taken();
    node.uninstall();
    assert_eq!(node.host.taken(), ["systemctl restart containerd", DISABLE, RELOAD]);
}

#[test]
fn new_daemon_takes_over_from_one_that_runs() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    node.install();
    node.assets("2");
    node.host.taken();
    node.install();
    assert_eq!(node.host.taken(), [RELOAD, ENABLE, TAKE_OVER]);
}

#[test]
fn daemon_that_runs_is_restarted_for_a_changed_unit_after_a_new_one_took_over() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    node.install();
    change_unit(&node);
    node.host.taken();
    node.install();
    assert_eq!(node.host.taken(), [RELOAD, ENABLE, TAKE_OVER, RESTART]);
}

#[test]
fn daemon_that_runs_is_not_restarted_if_no_new_one_takes_over() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    node.install();
    change_unit(&node);
    node.host.taken();
    node.host.fail(TAKE_OVER, "the new daemon does not start", 1);
    let error = node.try_install().unwrap_err().to_string();
    assert!(error.ends_with("failed on the host: the new daemon does not start"), "{error}");
    assert_eq!(node.host.taken(), [RELOAD, ENABLE, TAKE_OVER]);
    node.install();
    assert_eq!(node.host.taken(), [RELOAD, ENABLE, TAKE_OVER, RESTART]);
}

/// Another version of the daemon's unit to install.
fn change_unit(node: &Node) {
    let unit = node.options.assets.join("containerd-wasmtimed.service");
    let text = fs::read_to_string(&unit).unwrap();
    fs::write(&unit, text + "# Another version.\n").unwrap();
}

#[test]
fn only_the_active_service_of_k3s_is_restarted() {
    let rendered = rendered("version = 3\n");
    let node = Node::new(&rendered.each_ref().map(|(path, text)| (*path, text.as_str())));
    node.host.fail("systemctl is-active --quiet k3s", "inactive", 1);
    node.install();
    assert!(node.host.taken().contains(&"systemctl restart k3s-agent".to_owned()));
}

#[test]
fn containerd_is_asked_at_the_socket_that_its_configuration_names() {
    let node = Node::new(&[(CONFIG, "version = 3\n[grpc]\n  address = \"/run/other.sock\"\n")]);
    node.install();
    let asked = node.host.asked.borrow();
    let question = "ctr --address /run/other.sock --connect-timeout 2s --timeout 10s plugins ls";
    assert!(asked.contains(&question.to_owned()), "{asked:?}");
}

#[test]
fn containerd_is_asked_at_the_socket_that_its_flag_names() {
    let node = Node::new(&[(CONFIG, "version = 3\n[grpc]\n  address = \"/run/other.sock\"\n")]);
    node.run(77, &["/usr/bin/containerd", "--address=/run/flag.sock"]);
    node.install();
    let asked = node.host.asked.borrow();
    let question = "ctr --address /run/flag.sock --connect-timeout 2s --timeout 10s plugins ls";
    assert!(asked.contains(&question.to_owned()), "{asked:?}");
}

#[test]
fn unit_of_the_options_is_restarted() {
    let mut node = Node::new(&[("/etc/k0s/containerd.toml", VERSION_3)]);
    node.options.containerd_config = Some("/etc/k0s/containerd.toml".to_owned());
    node.options.containerd_unit = Some("k0sworker".to_owned());
    node.install();
    assert!(node.host.taken().contains(&"systemctl restart k0sworker".to_owned()));
    assert!(node.read("/etc/k0s/containerd.toml").contains("runtimes.wasmtime]"));
}

#[test]
fn previous_configuration_is_restored_if_containerd_does_not_restart() {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    node.host.fail("systemctl restart containerd", "no", 1);
    // The service of the same beginning is not meant.
    node.host.fail(ACTIVE, "inactive", 1);
    let error = node.try_install().unwrap_err().to_string();
    let wanted = "containerd is not back with the new configuration: systemctl restart containerd: no; \
                  /etc/containerd/config.toml was restored, and containerd runs with it";
    assert_eq!(error, wanted);
    assert_eq!(node.read(CONFIG), VERSION_3);
    assert!(!node.exists("/var/lib/runwasi-node-installer/previous"));
    node.options.retry = true;
    node.install();
    assert!(node.read(CONFIG).contains("runtimes.wasmtime]"));
    assert!(status(&node.options).unwrap().complete);
}

/// A node with a containerd that has not come back, `times` times.
fn refused(times: u64) -> Node {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    node.options.retry = true;
    for _ in 0..times {
        node.host.fail("systemctl restart containerd", "no", 1);
        node.host.fail(ACTIVE, "inactive", 1);
        node.try_install().unwrap_err();
    }
    node.options.retry = false;
    node.host.taken();
    node
}

#[test]
fn containerd_is_not_restarted_for_what_it_has_not_come_back_with_until_a_pause_is_over() {
    for (times, pause) in [(1, 600), (2, 1200), (4, 4800), (9, 86_400)] {
        let node = refused(times);
        // As the kubelet does it.
        for _ in 0..3 {
            node.host.pause(Duration::from_secs(pause / 4));
            let error = node.try_install().unwrap_err().to_string();
            let tries = format!("containerd has not come back with this change (tries: {times})");
            assert!(error.starts_with(CONFIG) && error.contains(&tries), "{error}");
        }
        assert!(error_ends_in(&node, pause / 4));
        assert_eq!(node.host.taken(), [""; 0]);
        assert_eq!(node.read(CONFIG), VERSION_3);
        let line = format!("containerd: has not come back with a change (tries: {times})");
        assert!(status(&node.options).unwrap().lines.contains(&line));
        node.host.pause(Duration::from_secs(pause / 4));
        node.install();
        assert_eq!(node.host.taken(), ["systemctl restart containerd"]);
        assert!(status(&node.options).unwrap().complete);
    }
}

/// True if an install tells that it is too early by so many seconds.
fn error_ends_in(node: &Node, seconds: u64) -> bool {
    let error = node.try_install().unwrap_err().to_string();
    error.contains(&format!("it is tried again in {seconds} s, or at once with --retry"))
}

#[test]
fn another_configuration_is_tried_at_once() {
    let node = refused(3);
    node.write(CONFIG, &format!("{VERSION_3}\n# Mended.\n"));
    node.install();
    assert_eq!(node.host.taken(), ["systemctl restart containerd"]);
}

#[test]
fn clock_that_was_set_back_lets_a_try_pass() {
    let node = refused(1);
    let file = "/var/lib/runwasi-node-installer/record.json";
    let (now, later) = (super::DATE.as_secs(), super::DATE.as_secs() + 10_000_000);
    let text = node.read(file);
    let text = text.replace(&format!("\"at\": {now}"), &format!("\"at\": {later}"));
    assert!(text.contains(&later.to_string()), "{text}");
    node.write(file, &text);
    node.install();
}

#[test]
fn uninstall_that_has_failed_is_not_tried_again_at_once() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    node.install();
    let installed = node.read(CONFIG);
    node.host.fail("systemctl restart containerd", "no", 1);
    node.try_uninstall().unwrap_err();
    node.host.taken();
    let error = node.try_uninstall().unwrap_err().to_string();
    assert!(error.contains("containerd has not come back with this change"), "{error}");
    assert_eq!((node.host.taken(), node.read(CONFIG)), (Vec::new(), installed));
    node.host.pause(Duration::from_secs(600));
    node.uninstall();
    assert_eq!(node.read(CONFIG), VERSION_3);
}

#[test]
fn template_of_microk8s_is_changed_and_its_state_is_told() {
    let args = "/var/snap/microk8s/7/args";
    let template = "version = 2\noom_score = 0\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n  \
                    default_runtime_name = \"${RUNTIME}\"\n";
    let mut node = Node::new(&[]);
    for name in ["containerd-template.toml", "containerd.toml"] {
        node.write(&format!("{args}/{name}"), template);
    }
    std::os::unix::fs::symlink("7", node.path("/var/snap/microk8s/current")).unwrap();
    let [config, state, address] = [
        format!("--config={args}/containerd.toml"),
        "--state=/var/snap/microk8s/common/run/containerd".to_owned(),
        "--address=/var/snap/microk8s/common/run/containerd.sock".to_owned(),
    ];
    node.run(77, &["/snap/microk8s/7/bin/containerd", &config, &state, &address]);
    let named = "/var/snap/microk8s/current/args/containerd-template.toml";
    node.options.containerd_config = Some(named.to_owned());
    node.options.containerd_unit = Some("snap.microk8s.daemon-containerd".to_owned());
    let done = node.install();
    assert!(node.read(named).contains("runtimes.wasmtime]"));
    let told = |line: &String| line.contains("must name /var/snap/microk8s/common/run/containerd");
    assert!(done.iter().any(told), "{done:?}");
    let restart = "systemctl restart snap.microk8s.daemon-containerd".to_owned();
    assert!(node.host.taken().contains(&restart));
    node.uninstall();
    assert_eq!(node.read(named), template);
}

#[test]
fn bundles_that_the_daemon_would_refuse_are_told() {
    let settings = "/etc/containerd-wasmtimed.toml";
    for (state, roots, told) in [
        ("/run/containerd", "", false),
        ("/var/run/containerd", "", false),
        ("/var/snap/common/run/containerd", "", true),
        ("/var/snap/common/run/containerd", "bundle-roots = [\"/run\", \"/opt\"]", true),
        ("/var/snap/common/run/containerd", "bundle-roots = [\"/var/snap/common\"]", false),
    ] {
        let node = Node::new(&[(CONFIG, &format!("version = 3\nstate = \"{state}\"\n"))]);
        fs::create_dir_all(node.path("/run")).unwrap();
        fs::create_dir_all(node.path("/var")).unwrap();
        std::os::unix::fs::symlink("/run", node.path("/var/run")).unwrap();
        node.write(settings, roots);
        let done = node.install();
        let line = done.iter().find(|line| line.starts_with(settings));
        assert_eq!(line.is_some(), told, "{state}, {roots}: {done:?}");
        assert!(line.is_none_or(|line| line.contains(state)), "{done:?}");
        assert_eq!(node.install(), [""; 0]);
    }
}

#[test]
fn previous_configuration_is_restored_if_containerd_runs_without_its_cri() {
    let node = Node::new(&[]);
    let table = "TYPE ID PLATFORMS STATUS\nio.containerd.cri.v1 runtime linux/amd64 error\n";
    *node.host.plugins.borrow_mut() = Some(table.to_owned());
    let error = node.try_install().unwrap_err().to_string();
    assert!(
        error.contains("containerd's plugin io.containerd.cri.v1 runtime linux/amd64 error"),
        "{error}"
    );
    assert!(!node.exists(CONFIG), "made by the run, and not restored");
}

#[test]
fn configuration_that_another_changed_meanwhile_is_not_overwritten() {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    node.options.restart = false;
    node.install();
    let changed = node.read(CONFIG) + "[metrics]\n";
    node.write(CONFIG, &changed);
    node.options.restart = true;
    node.host.fail("systemctl restart containerd", "no", 1);
    node.host.fail(ACTIVE, "inactive", 1);
    let error = node.try_install().unwrap_err().to_string();
    assert!(error.contains("config.toml was changed meanwhile and has no block"), "{error}");
    assert_eq!(node.read(CONFIG), format!("{VERSION_3}\n[metrics]\n"));
}

#[test]
fn containerd_that_comes_late_is_waited_for() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    node.host.fail("ctr --address", "connection refused", 100);
    node.install();
    let asked = node.host.asked.borrow();
    assert_eq!(asked.iter().filter(|line| line.ends_with("plugins ls")).count(), 101);
}

#[test]
fn containerd_that_stays_away_is_given_up_by_the_clock() {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    node.host.slow = Some(("ctr --address", Duration::from_secs(10)));
    node.host.fail("ctr --address", "connection refused", usize::MAX);
    let error = node.try_install().unwrap_err().to_string();
    assert!(error.contains("not back with the new configuration: connection refused"), "{error}");
    // Once with each configuration, two minutes at most and the last question.
    let passed = node.host.passed.get();
    assert!(passed <= 2 * Duration::from_secs(120 + 11), "{passed:?}");
}

#[test]
fn restart_that_does_not_return_is_given_up_and_the_previous_configuration_restored() {
    let rendered = rendered("version = 3\n");
    let mut node = Node::new(&rendered.each_ref().map(|(path, text)| (*path, text.as_str())));
    node.host.slow = Some(("systemctl restart k3s", Duration::from_secs(3600)));
    node.host.fail("k3s ctr", "unknown service", usize::MAX);
    let error = node.try_install().unwrap_err().to_string();
    assert!(error.contains("not back with the new configuration: unknown service"), "{error}");
    assert!(!node.exists("/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.tmpl"));
    // For each configuration two minutes of systemctl, and two of containerd.
    let passed = node.host.passed.get();
    assert!(passed <= 4 * Duration::from_secs(121), "{passed:?}");
}

#[test]
fn containerd_that_answers_is_back_although_its_restart_does_not_return() {
    let rendered = rendered("version = 3\n");
    let mut node = Node::new(&rendered.each_ref().map(|(path, text)| (*path, text.as_str())));
    node.host.slow = Some(("systemctl restart k3s", Duration::from_secs(3600)));
    node.install();
    assert!(node.exists("/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.tmpl"));
}

#[test]
fn without_ctr_the_word_of_systemd_counts() {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    node.host.missing = vec!["ctr"];
    node.install();
    assert!(node.read(CONFIG).contains("runtimes.wasmtime]"));
}

#[test]
fn sysctl_that_the_kernel_refuses_is_reported_and_no_reason_to_stop() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    node.host.fail("sysctl", "permission denied", 1);
    let done = node.install();
    let line = "/etc/sysctl.d/60-containerd-wasmtimed.conf: not applied: permission denied";
    assert!(done.contains(&line.to_owned()), "{done:?}");
}

#[test]
fn larger_value_of_the_kernel_is_not_lowered() {
    for (value, applied) in [("65530", true), ("1048576", false), ("2147483647", false)] {
        let node = Node::new(&[(CONFIG, VERSION_3)]);
        node.write("/proc/sys/vm/max_map_count", &format!("{value}\n"));
        let done = node.install();
        assert_eq!(node.host.taken().contains(&SYSCTL.to_owned()), applied, "{value}");
        let line = "/etc/sysctl.d/60-containerd-wasmtimed.conf: the kernel has as much".to_owned();
        assert_eq!(done.contains(&line), !applied, "{done:?}");
        assert!(status(&node.options).unwrap().complete);
    }
}

#[test]
fn without_restart_no_program_runs_and_the_next_run_does_what_is_due() {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    node.options.restart = false;
    node.install();
    assert_eq!(node.host.taken(), [""; 0]);
    node.options.restart = true;
    node.host.fail(ACTIVE, "inactive", 1);
    node.install();
    assert_eq!(node.host.taken(), [SYSCTL, RELOAD, ENABLE, "systemctl restart containerd"]);
}

#[test]
fn uninstall_without_restart_keeps_what_runs_and_the_next_one_does_what_is_due() {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    let before = node.tree();
    node.install();
    node.host.taken();
    for _ in 0..2 {
        node.options.restart = false;
        let done = node.uninstall();
        let line = "files stay: a run without --no-restart removes them, or --force".to_owned();
        assert!(done.contains(&line), "{done:?}");
        assert_eq!(node.host.taken(), [""; 0]);
        assert_eq!(node.read(CONFIG), VERSION_3);
        due(&node, &["containerd: restart due", "containerd-wasmtimed: stop due"]);
    }
    node.options.restart = true;
    node.uninstall();
    assert_eq!(node.host.taken(), ["systemctl restart containerd", DISABLE, RELOAD]);
    same(&node.tree(), &before, "uninstalled");
}

#[test]
fn uninstall_that_is_forced_removes_all_without_restart() {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    let before = node.tree();
    node.options.restart = false;
    node.install();
    node.options.force = true;
    node.uninstall();
    assert_eq!(node.host.taken(), [""; 0]);
    same(&node.tree(), &before, "uninstalled");
}

#[test]
fn runtime_that_is_dropped_without_restart_keeps_its_files_until_the_next_run() {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    node.install();
    node.options.runtimes.truncate(1);
    node.options.restart = false;
    node.host.taken();
    node.install();
    assert!(!node.read(CONFIG).contains("wasmtimed"));
    let unit = "/etc/systemd/system/containerd-wasmtimed.service";
    assert!(node.exists(unit) && node.exists("/usr/local/bin/containerd-shim-wasmtimed-v1"));
    due(&node, &["containerd: restart due", "containerd-wasmtimed: stop due"]);
    node.options.restart = true;
    node.install();
    assert_eq!(node.host.taken(), ["systemctl restart containerd", DISABLE, RELOAD]);
    assert!(!node.exists(unit));
    due(&node, &[]);
}

#[test]
fn steps_of_a_dropped_runtime_are_not_due_any_more() {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    node.options.restart = false;
    node.install();
    node.options.restart = true;
    node.options.runtimes.truncate(1);
    node.install();
    assert!(!node.exists("/etc/sysctl.d/60-containerd-wasmtimed.conf"));
    due(&node, &[]);
    assert!(status(&node.options).unwrap().complete);
}

#[test]
fn daemon_that_is_wanted_again_is_not_stopped() {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    node.install();
    node.options.restart = false;
    node.uninstall();
    node.options.restart = true;
    node.host.taken();
    node.install();
    assert_eq!(node.host.taken(), ["systemctl restart containerd"]);
    due(&node, &[]);
}

/// Demands these steps in the status, and no others.
#[track_caller]
fn due(node: &Node, steps: &[&str]) {
    let status = status(&node.options).unwrap();
    let due: Vec<_> = status.lines.iter().filter(|line| line.ends_with(" due")).collect();
    assert_eq!(due, steps, "{status:?}");
}

#[test]
fn daemon_that_does_not_start_leaves_containerd_alone() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    node.host.fail("systemctl enable", "no such unit", 1);
    let error = node.try_install().unwrap_err().to_string();
    assert!(error.ends_with("failed on the host: no such unit"), "{error}");
    assert_eq!(node.read(CONFIG), VERSION_3);
    node.install();
    assert!(node.read(CONFIG).contains("runtimes.wasmtime]"));
}

#[test]
fn program_that_does_not_run_on_the_host_leaves_containerd_alone() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    let shim = "/usr/local/bin/containerd-shim-wasmtime-v1";
    node.host.fail(NEW_SHIM, "version `GLIBC_2.99' not found", 2);
    for _ in 0..2 {
        let error = node.try_install().unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{shim}: does not run on this host: version")),
            "{error}"
        );
    }
    assert_eq!(node.read(CONFIG), VERSION_3);
    node.install();
    assert!(node.read(CONFIG).contains("runtimes.wasmtime]"));
}

#[test]
fn programs_are_replaced_only_after_all_new_ones_have_run_on_the_host() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    node.install();
    node.assets("2");
    node.host.taken();
    node.host.fail(NEW_SHIM, "version `GLIBC_2.99' not found", 1);
    let error = node.try_install().unwrap_err().to_string();
    assert!(error.contains("containerd-shim-wasmtime-v1: does not run on this host"), "{error}");
    let programs = fs::read_dir(node.path("/usr/local/bin")).unwrap();
    let programs: Vec<_> = programs.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(programs.len(), 3, "{programs:?}");
    for program in &programs {
        assert!(fs::read_to_string(program).unwrap().ends_with(" 1"), "{program:?}");
    }
    assert_eq!(node.host.taken(), [""; 0]);
    node.install();
    assert_eq!(node.read("/usr/local/bin/containerd-wasmtimed"), "containerd-wasmtimed 2");
}

#[test]
fn programs_that_were_put_there_without_running_any_are_tried_by_the_next_run() {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    node.options.restart = false;
    node.install();
    node.options.restart = true;
    let shim = "/usr/local/bin/containerd-shim-wasmtime-v1";
    node.host.fail(shim, "version `GLIBC_2.99' not found", 1);
    let error = node.try_install().unwrap_err().to_string();
    assert!(error.starts_with(&format!("{shim}: does not run on this host")), "{error}");
    node.install();
}
