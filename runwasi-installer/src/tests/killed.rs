//! Runs that end between two steps: a change of a file fails as if the process had been killed
//! before it.

use super::{CONFIG, Node, Tree, VERSION_3, same};
use crate::install::install_in;
use crate::uninstall::uninstall_in;

/// More changes than a run has.
const MOST: usize = 200;

/// Kinds of nodes: without a configuration, with one, and with a directory for a file of our own.
fn nodes() -> [Vec<(&'static str, &'static str)>; 3] {
    let imports = "version = 3\nimports = [\"conf.d/*.toml\"]\n";
    [vec![], vec![(CONFIG, VERSION_3)], vec![(CONFIG, imports)]]
}

/// The root after a run that nothing has disturbed.
fn undisturbed(files: &[(&str, &str)]) -> Tree {
    let node = Node::in_memory(files);
    node.install();
    node.tree()
}

/// A node with both runtimes and options that name one of them.
fn narrowed() -> Node {
    let mut node = Node::in_memory(&[(CONFIG, VERSION_3)]);
    node.install();
    node.options.runtimes.truncate(1);
    node.host.taken();
    node
}

#[test]
fn install_that_is_killed_anywhere_is_completed_by_the_next_one() {
    for files in nodes() {
        let (wanted, mut steps) = (undisturbed(&files), 0);
        loop {
            let node = Node::in_memory(&files);
            let root = node.root();
            root.fail_after(steps);
            let killed = install_in(&root, &node.options, &node.host).is_err();
            drop(root);
            node.install();
            same(&node.tree(), &wanted, &format!("after {steps} steps"));
            let asked = node.host.taken();
            for program in ["sysctl -p", "systemctl enable", "systemctl restart containerd"] {
                assert!(asked.iter().any(|line| line.starts_with(program)), "{steps}: {asked:?}");
            }
            assert_eq!(node.install(), [""; 0], "after {steps} steps");
            if !killed {
                break;
            }
            steps += 1;
            assert!(steps < MOST);
        }
        assert!(steps > 20, "{steps} steps are fewer than there are files");
    }
}

#[test]
fn update_that_is_killed_anywhere_is_completed_by_the_next_one() {
    let mut steps = 0;
    loop {
        let mut node = Node::in_memory(&[(CONFIG, VERSION_3)]);
        node.install();
        node.assets("2");
        node.options.sandboxer = true;
        node.host.taken();
        let root = node.root();
        root.fail_after(steps);
        let killed = install_in(&root, &node.options, &node.host).is_err();
        drop(root);
        node.install();
        assert_eq!(node.read("/usr/local/bin/containerd-wasmtimed"), "containerd-wasmtimed 2");
        assert!(node.read(CONFIG).contains("sandboxer"));
        let asked = node.host.taken();
        for program in ["systemctl reload containerd-wasmtimed", "systemctl restart containerd"] {
            assert!(asked.iter().any(|line| line == program), "{steps}: {asked:?}");
        }
        if !killed {
            break;
        }
        steps += 1;
        assert!(steps < MOST);
    }
}

#[test]
fn removal_of_a_runtime_that_is_killed_anywhere_is_completed_by_the_next_run() {
    let node = narrowed();
    node.install();
    let wanted = node.tree();
    let mut steps = 0;
    loop {
        let node = narrowed();
        let root = node.root();
        root.fail_after(steps);
        let killed = install_in(&root, &node.options, &node.host).is_err();
        drop(root);
        node.install();
        same(&node.tree(), &wanted, &format!("after {steps} steps"));
        let asked = node.host.taken();
        for program in ["systemctl restart containerd", "systemctl disable --now"] {
            assert!(asked.iter().any(|line| line.starts_with(program)), "{steps}: {asked:?}");
        }
        if !killed {
            break;
        }
        steps += 1;
        assert!(steps < MOST);
    }
}

#[test]
fn install_that_is_killed_anywhere_can_be_taken_back() {
    for files in nodes() {
        let before = Node::in_memory(&files).tree();
        for steps in 0..MOST {
            let node = Node::in_memory(&files);
            let root = node.root();
            root.fail_after(steps);
            let killed = install_in(&root, &node.options, &node.host).is_err();
            drop(root);
            node.uninstall();
            let mut after = node.tree();
            // Made before there is a record; the next run takes them for the node's own.
            if steps < 4 {
                after.retain(|path, _| {
                    before.contains_key(path) || !path.starts_with("var/lib/runwasi")
                });
            }
            assert_eq!(after, before, "after {steps} steps");
            if !killed {
                break;
            }
        }
    }
}

#[test]
fn uninstall_that_is_killed_anywhere_is_completed_by_the_next_one() {
    for files in nodes() {
        let before = Node::in_memory(&files).tree();
        for steps in 0..MOST {
            let node = Node::in_memory(&files);
            node.install();
            node.host.taken();
            let root = node.root();
            root.fail_after(steps);
            let killed = uninstall_in(&root, &node.options, &node.host).is_err();
            drop(root);
            node.uninstall();
            same(&node.tree(), &before, &format!("after {steps} steps"));
            let asked = node.host.taken();
            let restart = "systemctl restart containerd".to_owned();
            assert!(asked.contains(&restart), "{steps}: {asked:?}");
            if !killed {
                break;
            }
        }
    }
}
