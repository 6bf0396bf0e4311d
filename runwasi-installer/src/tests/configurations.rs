//! Which file of containerd's configuration is changed, and how.

use std::fs;

use super::{CONFIG, Node, VERSION_3, rendered, same};

const K3S: &str = "/var/lib/rancher/k3s/agent/etc/containerd";
const RUNC_2: &str = "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n";
const WASMTIME_2: &str = "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.wasmtime]
  runtime_type = \"io.containerd.wasmtime.v1\"
  pod_annotations = [\"io.runwasi.*\"]
";
const WASMTIMED_3: &str = "[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.wasmtimed]
  runtime_type = \"io.containerd.wasmtimed.v1\"
  pod_annotations = [\"io.runwasi.*\"]
";

/// Installs twice and uninstalls: the second install changes nothing, and what was there is back.
fn round(node: &Node, file: &str) -> String {
    let before = node.tree();
    node.install();
    let text = node.read(file);
    let installed = node.tree();
    node.host.taken();
    assert_eq!(node.install(), [""; 0]);
    same(&node.tree(), &installed, "installed twice");
    assert_eq!(node.host.taken(), [""; 0], "a second run restarts");
    node.uninstall();
    same(&node.tree(), &before, "uninstalled");
    text
}

#[test]
fn block_is_appended_to_version_3_and_cut_out_again_byte_for_byte() {
    for text in [VERSION_3.to_owned(), format!("{VERSION_3}\n"), format!("{VERSION_3}\r\n\n\n")] {
        let node = Node::new(&[(CONFIG, &text)]);
        let new = round(&node, CONFIG);
        assert!(new.starts_with(&text) && new.contains(WASMTIMED_3), "{new}");
        assert!(!new.contains("runtimes.runc"), "{new}");
    }
}

#[test]
fn missing_configuration_is_made_with_the_runtime_that_containerd_had_by_default() {
    let node = Node::new(&[]);
    let new = round(&node, CONFIG);
    assert!(
        new.contains("version = 2\n") && new.contains(RUNC_2) && new.contains(WASMTIME_2),
        "{new}"
    );
}

#[test]
fn configuration_of_comments_alone_keeps_them() {
    let node = Node::new(&[(CONFIG, "# nothing yet\n")]);
    let new = round(&node, CONFIG);
    assert!(new.starts_with("# nothing yet\n") && new.contains("version = 2\n"), "{new}");
}

#[test]
fn version_2_without_runtimes_gets_the_one_that_containerd_1_would_lose() {
    let node =
        Node::new(&[(CONFIG, "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  x = 1\n")]);
    assert!(round(&node, CONFIG).contains(RUNC_2));
    let own = format!("version = 2\n{RUNC_2}  runtime_type = \"io.containerd.runc.v2\"\n");
    let new = round(&Node::new(&[(CONFIG, &own)]), CONFIG);
    assert_eq!(new.matches(RUNC_2).count(), 1, "{new}");
}

#[test]
fn default_runtime_stays_if_a_foreign_one_came_meanwhile() {
    let node = Node::new(&[(CONFIG, "version = 2\n")]);
    node.install();
    let foreign = "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.kata]\n  runtime_type = \"k\"\n";
    fs::write(node.path(CONFIG), node.read(CONFIG) + foreign).unwrap();
    node.uninstall();
    let left = node.read(CONFIG);
    assert!(
        left.contains(RUNC_2) && left.ends_with(foreign) && !left.contains("wasmtime]"),
        "{left}"
    );
}

#[test]
fn version_of_a_made_configuration_stays_if_others_wrote_into_it() {
    let node = Node::new(&[]);
    node.install();
    fs::write(node.path(CONFIG), node.read(CONFIG) + "[grpc]\n  uid = 1\n").unwrap();
    assert_eq!(node.install(), [""; 0]);
    node.uninstall();
    let left = node.read(CONFIG);
    assert!(left.contains("version = 2\n") && left.ends_with("[grpc]\n  uid = 1\n"), "{left}");
    assert!(!left.contains("runtimes"), "{left}");
}

#[test]
fn version_3_that_imports_a_directory_gets_a_file_of_its_own_there() {
    for import in ["/etc/containerd/conf.d/*.toml", "conf.d/*.toml"] {
        let main = format!("version = 3\nimports = [\"other.toml\", \"{import}\"]\n");
        let node = Node::new(&[(CONFIG, &main), ("/etc/containerd/other.toml", "version = 3\n")]);
        let new = round(&node, "/etc/containerd/conf.d/runwasi.toml");
        assert!(new.contains("version = 3\n") && new.contains(WASMTIMED_3), "{new}");
    }
}

#[test]
fn import_of_one_file_or_of_other_names_is_no_place_for_a_file() {
    for import in ["/etc/containerd/other.toml", "/etc/containerd/conf.d/*.conf"] {
        let main = format!("imports = [\"{import}\"]\nversion = 4\n");
        let new = round(&Node::new(&[(CONFIG, &main)]), CONFIG);
        assert!(new.starts_with(&main) && new.contains(WASMTIMED_3), "{new}");
    }
}

#[test]
fn version_2_is_changed_where_containerd_1_takes_its_table_from() {
    let main = "version = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n".to_owned() + RUNC_2;
    let last = format!("version = 2\n{RUNC_2}  runtime_type = \"io.containerd.runc.v2\"\n");
    let node = Node::new(&[
        (CONFIG, &main),
        ("/etc/containerd/conf.d/10-first.toml", &last),
        ("/etc/containerd/conf.d/99-last.toml", &last),
        ("/etc/containerd/conf.d/zz-none.toml", "version = 2\n"),
    ]);
    let new = round(&node, "/etc/containerd/conf.d/99-last.toml");
    assert!(new.starts_with(&last) && new.contains(WASMTIME_2), "{new}");
}

#[test]
fn rendered_configuration_of_k3s_that_imports_a_directory_gets_a_file_there() {
    let rendered =
        rendered(&format!("version = 3\nimports = [\"{K3S}/config-v3.toml.d/*.toml\"]\n"));
    let node = Node::new(&rendered.each_ref().map(|(path, text)| (*path, text.as_str())));
    let new = round(&node, &format!("{K3S}/config-v3.toml.d/runwasi.toml"));
    assert!(
        new.contains("runtime_type = \"/opt/runwasi/bin/containerd-shim-wasmtime-v1\"\n"),
        "{new}"
    );
}

#[test]
fn template_of_k3s_is_made_with_its_base_for_the_version_that_it_renders() {
    for (version, name) in [(2, "config.toml.tmpl"), (3, "config-v3.toml.tmpl")] {
        let rendered = rendered(&format!("version = {version}\n"));
        let node = Node::new(&rendered.each_ref().map(|(path, text)| (*path, text.as_str())));
        let new = round(&node, &format!("{K3S}/{name}"));
        assert!(new.contains("\n{{ template \"base\" . }}\n"), "{new}");
    }
}

#[test]
fn template_is_changed_also_if_the_rendered_configuration_is_named() {
    let file = format!("{K3S}/config.toml");
    let mut node = Node::new(&[(&file, "version = 3\n")]);
    fs::create_dir_all(node.path("/var/lib/rancher/rke2/agent/etc/containerd")).unwrap();
    let error = node.refuses();
    assert!(
        error.contains(&format!("{K3S} are both there: name the config.toml in use")),
        "{error}"
    );
    node.options.containerd_config = Some(file.clone());
    node.install();
    assert_eq!(node.read(&file), "version = 3\n");
    assert!(node.read(&format!("{K3S}/config-v3.toml.tmpl")).contains("runtimes.wasmtimed]"));
    assert!(node.exists("/opt/runwasi/bin/containerd-shim-wasmtime-v1"));
    assert!(node.host.taken().contains(&"systemctl restart k3s".to_owned()));
}

#[test]
fn template_of_another_data_directory_is_beside_what_is_rendered_there() {
    let file = "/data/agent/etc/containerd/config.toml";
    let text =
        "\n# File generated by rke2. DO NOT EDIT. Use config.toml.tmpl instead.\nversion = 2\n";
    let mut node = Node::new(&[(file, text)]);
    node.options.containerd_config = Some(file.to_owned());
    node.host.fail("systemctl is-active --quiet rke2-server", "inactive", 2);
    node.install();
    let template = node.read(&format!("{file}.tmpl"));
    assert!(template.contains("{{ template \"base\" . }}"), "{template}");
    assert!(template.contains("\"/opt/runwasi/bin/containerd-shim-wasmtime-v1\""), "{template}");
    assert!(node.host.taken().contains(&"systemctl restart rke2-agent".to_owned()));
    assert_eq!(node.read(file), text);
    node.uninstall();
    assert!(!node.exists(&format!("{file}.tmpl")));
}

#[test]
fn template_of_rke2_keeps_what_it_has() {
    const RKE2: &str = "/var/lib/rancher/rke2/agent/etc/containerd";
    let template =
        "{{ template \"base\" . }}\n\n{{ if .NodeConfig }}# runtimes.wasmtime\n{{ end }}";
    let (file, rendered) = (format!("{RKE2}/config-v3.toml.tmpl"), format!("{RKE2}/config.toml"));
    let node = Node::new(&[(&file, template), (&rendered, "version = 3\n")]);
    let new = round(&node, &file);
    assert!(new.starts_with(template) && new.matches("template \"base\"").count() == 1, "{new}");
}

#[test]
fn rendered_block_of_a_template_is_known_again() {
    let rendered = rendered("version = 2\n");
    let node = Node::new(&rendered.each_ref().map(|(path, text)| (*path, text.as_str())));
    node.install();
    let template = node.read(&format!("{K3S}/config.toml.tmpl"));
    let new = template.replace("{{ template \"base\" . }}", "version = 2");
    node.write(&format!("{K3S}/config.toml"), &new);
    assert_eq!(node.install(), [""; 0]);
}

#[test]
fn other_options_change_the_block_in_its_place() {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    node.install();
    fs::write(node.path(CONFIG), node.read(CONFIG) + "[metrics]\n").unwrap();
    node.options.sandboxer = true;
    node.install();
    let new = node.read(CONFIG);
    assert_eq!(new.matches("  sandboxer = \"shim\"\n").count(), 2, "{new}");
    assert!(new.ends_with("# <<< runwasi-node-installer\n[metrics]\n"), "{new}");
    node.uninstall();
    assert_eq!(node.read(CONFIG), format!("{VERSION_3}\n[metrics]\n"));
}

#[test]
fn block_moves_when_the_configuration_begins_to_import_a_directory() {
    let node = Node::new(&[(CONFIG, VERSION_3)]);
    node.install();
    let main = format!("imports = [\"conf.d/*.toml\"]\n{}", node.read(CONFIG));
    fs::write(node.path(CONFIG), main).unwrap();
    node.install();
    assert_eq!(node.read(CONFIG), format!("imports = [\"conf.d/*.toml\"]\n{VERSION_3}"));
    assert!(node.exists("/etc/containerd/conf.d/runwasi.toml"));
    assert_eq!(node.install(), [""; 0]);
}

#[test]
fn runtimes_that_are_not_asked_for_are_taken_away_with_their_files() {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    node.install();
    node.options.runtimes.truncate(1);
    node.host.taken();
    node.install();
    let new = node.read(CONFIG);
    assert!(new.contains("runtimes.wasmtime]") && !new.contains("wasmtimed"), "{new}");
    assert!(node.exists("/usr/local/bin/containerd-shim-wasmtime-v1"));
    for gone in
        ["/usr/local/bin/containerd-wasmtimed", "/etc/systemd/system/containerd-wasmtimed.service"]
    {
        assert!(!node.exists(gone), "{gone}");
    }
    let stop = "systemctl disable --now containerd-wasmtimed.socket containerd-wasmtimed.service";
    assert_eq!(
        node.host.taken(),
        ["systemctl restart containerd", stop, "systemctl daemon-reload"]
    );
}

#[test]
fn programs_stay_if_the_other_directory_is_a_link_to_the_first() {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    std::os::unix::fs::symlink("bin", node.path("/usr/local/sbin")).unwrap();
    node.install();
    node.options.bin_dir = Some("/usr/local/sbin".to_owned());
    node.install();
    assert!(node.exists("/usr/local/bin/containerd-shim-wasmtime-v1"));
    node.assets("2");
    node.install();
    let program = node.read("/usr/local/bin/containerd-wasmtimed");
    assert_eq!(program, "containerd-wasmtimed 2");
    node.uninstall();
    assert!(!node.exists("/usr/local/bin/containerd-shim-wasmtime-v1"));
}

#[test]
fn shims_of_another_directory_stay_as_long_as_a_pod_uses_them() {
    let mut node = Node::new(&[(CONFIG, VERSION_3)]);
    node.install();
    let old = "/usr/local/bin/containerd-shim-wasmtime-v1";
    let bundle = "/run/containerd/io.containerd.sandbox.controller.v1.shim/k8s.io/pod";
    node.write(&format!("{bundle}/shim-binary-path"), old);
    node.options.bin_dir = Some("/opt/new".to_owned());
    let done = node.install();
    let line = "files of earlier runs stay: k8s.io/pod uses them".to_owned();
    assert!(done.contains(&line) && node.exists(old), "{done:?}");
    assert!(node.read(CONFIG).contains("\"/opt/new/containerd-shim-wasmtime-v1\""));
    assert!(node.try_uninstall().unwrap_err().to_string().contains("k8s.io/pod"));
    fs::remove_dir_all(node.path("/run")).unwrap();
    node.install();
    assert!(!node.exists(old) && node.exists("/opt/new/containerd-shim-wasmtime-v1"));
}
