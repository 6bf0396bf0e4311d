//! What is not understood or another's: it is refused with file and line, and nothing is written.

use std::fs;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use super::{CONFIG, Node, VERSION_3, rendered, same};
use crate::host::Host;
use crate::status::status;

/// The error for a configuration.
fn refused(text: &str) -> String {
    Node::new(&[(CONFIG, text)]).refuses()
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_line() {
    let error = refused("version = 3\n[plugins\n");
    assert!(error.starts_with("/etc/containerd/config.toml:2: not TOML"), "{error}");
    let node = Node::new(&[]);
    fs::create_dir(node.path("/etc/containerd")).unwrap();
    fs::write(node.path(CONFIG), b"version = 3\n# \xff\n").unwrap();
    assert_eq!(node.refuses(), "/etc/containerd/config.toml:2: not UTF-8");
}

#[test]
fn unknown_version_is_refused_with_its_line() {
    let error = refused("# x\nversion = 5\n");
    assert_eq!(error, "/etc/containerd/config.toml:2: unknown version 5; known are 2 to 4");
    let error = refused("version = \"2\"\n");
    assert_eq!(error, "/etc/containerd/config.toml:1: is not a number");
}

#[test]
fn configuration_without_a_version_is_refused() {
    let error = refused("[plugins.cri]\n");
    assert!(error.starts_with("/etc/containerd/config.toml:1: has no version"), "{error}");
}

#[test]
fn runtime_of_our_name_that_another_wrote_is_refused_with_its_line() {
    for text in [
        "version = 3\n[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.wasmtime]\nx = 1\n",
        "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd]\nruntimes.wasmtime.x = 1\n",
    ] {
        let error = refused(text);
        let line = text.lines().position(|line| line.contains("wasmtime")).unwrap() + 1;
        let wanted = format!("/etc/containerd/config.toml:{line}: a runtime \"wasmtime\"");
        assert!(error.starts_with(&wanted), "{error}");
    }
}

#[test]
fn runtime_of_our_name_in_an_imported_file_is_refused_with_its_line() {
    let other = "\n[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.wasmtimed]\n";
    let node = Node::new(&[
        (CONFIG, "version = 3\nimports = [\"conf.d/*.toml\"]\n"),
        ("/etc/containerd/conf.d/other.toml", other),
    ]);
    let error = node.refuses();
    assert!(error.starts_with("/etc/containerd/conf.d/other.toml:2: a runtime"), "{error}");
}

#[test]
fn line_of_a_foreign_runtime_counts_the_lines_of_our_own_block() {
    let node = Node::new(&[(CONFIG, "version = 3\n")]);
    let mut options = node.options.clone();
    options.runtimes.truncate(1);
    crate::install(&options, &node.host).unwrap();
    let before = node.read(CONFIG);
    let foreign = "[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.wasmtimed]\n";
    fs::write(node.path(CONFIG), format!("{before}{foreign}")).unwrap();
    let error = node.try_install().unwrap_err().to_string();
    let line = before.lines().count() + 1;
    assert!(
        error.starts_with(&format!("/etc/containerd/config.toml:{line}: a runtime")),
        "{error}"
    );
}

#[test]
fn runtime_of_our_name_in_a_template_is_refused_with_its_line() {
    for line in ["[plugins.\"x\".containerd.runtimes.\"wasmtime\"]", "runtimes.wasmtime = {}"] {
        let rendered = rendered("version = 3\n");
        let template = format!("{{{{ template \"base\" . }}}}\n{line}\n");
        let node = Node::new(&[
            (rendered[0].0, &rendered[0].1),
            ("/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.tmpl", &template),
        ]);
        let error = node.refuses();
        assert!(error.contains("config-v3.toml.tmpl:2: a runtime"), "{error}");
    }
}

#[test]
fn table_that_cannot_be_added_to_is_refused_with_its_line() {
    let error = refused("version = 3\nplugins = {}\n");
    assert!(
        error.starts_with("/etc/containerd/config.toml:2: tables of runtimes do not fit"),
        "{error}"
    );
}

#[test]
fn disabled_cri_is_refused_with_its_line() {
    let error = refused("version = 2\ndisabled_plugins = [\n  \"io.containerd.grpc.v1.cri\",\n]\n");
    assert!(
        error.starts_with("/etc/containerd/config.toml:3: containerd's CRI is disabled"),
        "{error}"
    );
}

#[test]
fn import_that_cannot_be_followed_is_refused_with_its_line() {
    let error = refused("version = 3\nimports = [\"/etc/*/x.toml\"]\n");
    assert!(error.starts_with("/etc/containerd/config.toml:2: cannot tell"), "{error}");
}

#[test]
fn edited_block_is_refused_with_its_line_and_replaced_by_force() {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    node.install();
    let edited = node.read(CONFIG).replace("io.runwasi.*", "io.*");
    fs::write(node.path(CONFIG), &edited).unwrap();
    for error in [node.try_install().unwrap_err(), node.try_uninstall().unwrap_err()] {
        let error = error.to_string();
        assert!(error.starts_with("/etc/containerd/config.toml:6: this block"), "{error}");
    }
    assert_eq!(node.read(CONFIG), edited);
    node.options.force = true;
    node.uninstall();
    assert_eq!(node.read(CONFIG), VERSION_3);
}

#[test]
fn block_without_its_end_is_refused() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    node.install();
    let cut = node.read(CONFIG).replace("# <<< runwasi-node-installer\n", "");
    fs::write(node.path(CONFIG), cut).unwrap();
    assert!(node.try_install().unwrap_err().to_string().contains("config.toml:6: this block"));
}

#[test]
fn sandboxer_is_refused_in_a_version_that_has_none() {
    let mut node = Node::new(&[(CONFIG, "version = 2\n")]);
    node.options.sandboxer = true;
    assert!(node.refuses().contains("version 2 of the configuration has no `sandboxer`"));
}

#[test]
fn node_of_two_distributions_is_refused() {
    let node = Node::new(&[]);
    for name in ["k3s", "rke2"] {
        let directory = format!("/var/lib/rancher/{name}/agent/etc/containerd");
        fs::create_dir_all(node.path(&directory)).unwrap();
    }
    assert!(node.refuses().contains("--containerd-config"));
}

#[test]
fn template_is_refused_as_the_name_of_a_configuration() {
    let rendered = rendered("version = 3\n");
    let mut node = Node::new(&rendered.each_ref().map(|(path, text)| (*path, text.as_str())));
    let template = rendered[0].0.replace("config.toml", "config-v3.toml.tmpl");
    node.options.containerd_config = Some(template.clone());
    assert!(node.refuses().starts_with(&format!("{template}: is a template")));
}

#[test]
fn k3s_that_has_rendered_nothing_is_refused() {
    let node = Node::new(&[]);
    fs::create_dir_all(node.path("/var/lib/rancher/k3s/agent/etc/containerd")).unwrap();
    assert!(node.refuses().contains("is not there yet"));
}

#[test]
fn program_that_another_installed_is_not_replaced() {
    let node =
        Node::new(&[(CONFIG, VERSION_3), ("/usr/local/bin/containerd-wasmtimed", "another's")]);
    let error = node.refuses();
    assert!(error.starts_with("/usr/local/bin/containerd-wasmtimed: is not of"), "{error}");
}

#[test]
fn configuration_that_is_no_file_is_refused() {
    let node = Node::new(&[]);
    fs::create_dir(node.path("/etc/containerd")).unwrap();
    let _listener = UnixListener::bind(node.path(CONFIG)).unwrap();
    let error = node.try_install().unwrap_err().to_string();
    assert!(error.starts_with("/etc/containerd/config.toml: "), "{error}");
}

#[test]
fn missing_asset_is_named_before_anything_is_written() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    fs::remove_file(node.options.assets.join("containerd-wasmtimed")).unwrap();
    assert!(node.refuses().contains("assets/containerd-wasmtimed: No such file"));
}

#[test]
fn second_run_at_the_same_time_is_refused() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    let root = node.root();
    let shelf = crate::record::Shelf::open(&root, &node.options.record_dir, true).unwrap();
    let error = node.try_install().unwrap_err().to_string();
    assert!(error.contains("another run of runwasi-node-installer is at work"), "{error}");
    drop(shelf);
    node.install();
}

#[test]
fn containers_that_run_forbid_to_uninstall() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    node.install();
    let bundles = "/run/containerd/io.containerd.runtime.v2.task/k8s.io";
    node.write(&format!("{bundles}/native/shim-binary-path"), "/usr/bin/containerd-shim-runc-v2");
    let shim = "/usr/local/bin/containerd-shim-wasmtimed-v1";
    node.write(&format!("{bundles}/pod/shim-binary-path"), shim);
    let before = node.tree();
    let error = node.try_uninstall().unwrap_err().to_string();
    assert!(
        error.starts_with(
            "1 pods or containers of these runtimes are there, the first is k8s.io/pod"
        ),
        "{error}"
    );
    assert_eq!(node.tree(), before);
    fs::remove_dir_all(node.path(&format!("{bundles}/pod"))).unwrap();
    node.uninstall();
}

#[test]
fn containers_below_the_state_directory_of_a_flag_forbid_to_uninstall() {
    let mut node = Node::new(&[("/etc/k0s/containerd.toml", VERSION_3)]);
    node.options.containerd_config = Some("/etc/k0s/containerd.toml".to_owned());
    let config = "--config=/etc/k0s/containerd.toml";
    node.run(77, &["/var/lib/k0s/bin/containerd", "--state=/run/k0s/containerd", config]);
    node.run(78, &["/usr/bin/containerd"]);
    node.install();
    let pod = "/run/k0s/containerd/io.containerd.runtime.v2.task/k8s.io/pod";
    let shim = "/usr/local/bin/containerd-shim-wasmtime-v1";
    node.write(&format!("{pod}/shim-binary-path"), shim);
    let error = node.try_uninstall().unwrap_err().to_string();
    assert!(error.contains("the first is k8s.io/pod"), "{error}");
}

#[test]
fn container_whose_shim_has_another_path_to_the_same_file_forbids_to_uninstall() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    node.install();
    std::os::unix::fs::symlink("bin", node.path("/usr/local/sbin")).unwrap();
    let pod = "/run/containerd/io.containerd.runtime.v2.task/k8s.io/pod";
    let shim = "/usr/local/sbin/containerd-shim-wasmtime-v1";
    node.write(&format!("{pod}/shim-binary-path"), shim);
    let error = node.try_uninstall().unwrap_err().to_string();
    assert!(error.contains("the first is k8s.io/pod"), "{error}");
}

#[test]
fn container_that_comes_while_containerd_is_restarted_keeps_its_shim() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    node.install();
    let bundle = node.path("/run/containerd/io.containerd.runtime.v2.task/k8s.io/pod");
    let shim = "/usr/local/bin/containerd-shim-wasmtime-v1";
    let coming = (bundle.join("shim-binary-path"), shim.to_owned());
    *node.host.appearing.borrow_mut() = Some(coming);
    let error = node.try_uninstall().unwrap_err().to_string();
    assert!(error.contains("the first is k8s.io/pod"), "{error}");
    assert!(node.exists(shim) && node.read(CONFIG) == VERSION_3);
    fs::remove_dir_all(bundle).unwrap();
    node.uninstall();
    assert!(!node.exists(shim));
}

#[test]
fn configuration_that_the_running_containerd_does_not_read_is_refused() {
    let mut node = Node::new(&[]);
    node.write("/usr/share/containerd/config.toml", VERSION_3);
    node.run(76, &["/usr/bin/containerd", "--address", "/a", "publish", "--topic", "t"]);
    node.run(77, &["/usr/bin/containerd", "--config", "/usr/share/containerd/config.toml"]);
    let error = node.refuses();
    let words = "/etc/containerd/config.toml: is not what containerd reads, which runs with \
                 /usr/share/containerd/config.toml: name that by --containerd-config";
    assert_eq!(error, words);
    node.options.containerd_config = Some("/usr/share/containerd/config.toml".to_owned());
    node.install();
    // A drop-in that another program takes over is read by none of this name.
    node.options.containerd_config = Some("/etc/k0s/containerd.d/runwasi.toml".to_owned());
    node.install();
}

#[test]
fn configuration_that_is_made_anew_at_each_start_is_refused() {
    let imports = "version = 2\nimports = [\"/run/k0s/containerd-cri.toml\"]\n";
    let node = Node::new(&[(CONFIG, imports)]);
    let table = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"p\"\n";
    node.write("/run/k0s/containerd-cri.toml", table);
    let error = node.refuses();
    assert!(error.starts_with("/run/k0s/containerd-cri.toml: is made anew"), "{error}");
}

#[test]
fn configuration_that_is_made_anew_by_the_restart_is_told() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    let anew = (node.path(CONFIG), VERSION_3.to_owned());
    *node.host.appearing.borrow_mut() = Some(anew);
    let error = node.try_install().unwrap_err().to_string();
    assert!(error.starts_with(&format!("{CONFIG}: was made anew at the restart")), "{error}");
    // The kubelet runs it again every few minutes, which must not restart containerd each time.
    node.host.taken();
    for times in [1, 2] {
        let error = node.try_install().unwrap_err().to_string();
        assert_eq!((node.host.taken(), node.read(CONFIG)), (Vec::new(), VERSION_3.to_owned()));
        let fault = "a restart of containerd makes the file anew without this change";
        assert!(error.starts_with(&format!("{CONFIG}: {fault} (tries: {times})")), "{error}");
        let line = format!("containerd: undoes a change when it starts (tries: {times})");
        assert!(status(&node.options).unwrap().lines.contains(&line));
        node.host.pause(Duration::from_secs(600 * times));
        if times == 1 {
            *node.host.appearing.borrow_mut() = Some((node.path(CONFIG), VERSION_3.to_owned()));
            node.try_install().unwrap_err();
            node.host.taken();
        }
    }
    // One that stays the next time has what was asked for.
    node.install();
    assert!(node.read(CONFIG).contains("runtimes.wasmtime]"));
    assert!(status(&node.options).unwrap().complete);
}

#[test]
fn containers_that_run_forbid_to_drop_their_runtime() {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    node.install();
    let pod = "/run/containerd/io.containerd.runtime.v2.task/k8s.io/pod";
    let shim = "/usr/local/bin/containerd-shim-wasmtimed-v1";
    node.write(&format!("{pod}/shim-binary-path"), shim);
    node.options.runtimes.truncate(1);
    node.host.taken();
    let before = node.tree();
    let error = node.try_install().unwrap_err().to_string();
    assert!(error.ends_with("the first is k8s.io/pod; remove them, or use --force"), "{error}");
    same(&node.tree(), &before, &error);
    assert_eq!(node.host.taken(), [""; 0]);
    node.options.force = true;
    node.install();
    assert!(!node.read(CONFIG).contains("wasmtimed") && node.exists(shim));
    // The runtime is gone, and so there is nothing left to refuse.
    node.options.force = false;
    node.install();
    assert!(node.exists(shim));
    fs::remove_dir_all(node.path(pod)).unwrap();
    node.install();
    assert!(!node.exists(shim));
}

#[test]
fn containers_of_another_runtime_do_not_forbid_to_drop_one() {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    node.install();
    let pod = "/run/containerd/io.containerd.runtime.v2.task/k8s.io/pod";
    let shim = "/usr/local/bin/containerd-shim-wasmtime-v1";
    node.write(&format!("{pod}/shim-binary-path"), shim);
    node.options.runtimes.truncate(1);
    node.install();
    assert!(!node.read(CONFIG).contains("wasmtimed") && node.exists(shim));
}

#[test]
fn record_of_another_format_is_refused() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    node.install();
    let file = "/var/lib/runwasi-node-installer/record.json";
    let text = node.read(file).replace("\"format\": 1", "\"format\": 2");
    fs::write(node.path(file), text).unwrap();
    let error = node.try_install().unwrap_err().to_string();
    let words =
        "was written by another version of runwasi-node-installer (format 2, this one has 1)";
    assert!(error.contains(words), "{error}");
    // What else it has is of no interest then.
    fs::write(node.path(file), "{\"format\": 2, \"files\": []}").unwrap();
    let error = node.try_uninstall().unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
}

#[test]
fn field_of_a_later_version_is_no_reason_to_refuse_its_record() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    let before = node.tree();
    node.install();
    let file = "/var/lib/runwasi-node-installer/record.json";
    let text = node.read(file);
    let text = text.replace("\"format\": 1", "\"format\": 1, \"later\": {\"a\": 1}");
    let text = text.replace("\"programs\":", "\"later\": true, \"programs\":");
    assert_eq!(text.matches("later").count(), 2, "{text}");
    fs::write(node.path(file), text).unwrap();
    node.uninstall();
    same(&node.tree(), &before, "uninstalled");
}
