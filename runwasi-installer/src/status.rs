//! Compares a node with its record. Changes nothing.

use crate::Error;
use crate::containerd::plan;
use crate::files::{self, FileState};
use crate::options::Options;
use crate::record;
use crate::root::Root;

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether everything is there and nothing is due.
    pub complete: bool,
    /// A line for each file and each step that is due.
    pub lines: Vec<String>,
}

/// Looks at a node.
pub fn status(options: &Options) -> Result<Status, Error> {
    let root = Root::open(&options.root)?;
    let Some(record) = record::load(&root, &options.record_dir)? else {
        return Ok(Status { complete: false, lines: vec!["not installed".to_owned()] });
    };
    let mut status = Status { complete: true, lines: Vec::new() };
    for (path, digests) in &record.files {
        let digests: Vec<&str> = digests.iter().map(String::as_str).collect();
        match files::found(&root, path, &digests)? {
            FileState::Same => status.good(format!("{path}: installed")),
            FileState::Missing => status.bad(format!("{path}: missing")),
            FileState::Other => status.bad(format!("{path}: changed by another")),
        }
    }
    for file in &record.configurations {
        match root.read_text(file)? {
            Some(text) if plan::has_runtimes(file, &text)? => {
                status.good(format!("{file}: has the runtimes"));
            }
            _ => status.bad(format!("{file}: has not the runtimes")),
        }
    }
    let due = [
        (record.due.programs, "programs: not tried yet"),
        (record.due.sysctl, "sysctl: due"),
        (record.due.daemon, "containerd-wasmtimed: start due"),
        (record.due.containerd, "containerd: restart due"),
        (record.due.stop, "containerd-wasmtimed: stop due"),
    ];
    for (_, line) in due.into_iter().filter(|(is, _)| *is) {
        status.bad(line.to_owned());
    }
    if let Some(refused) = &record.refused {
        let times = refused.times;
        let fault = if refused.undone {
            "undoes a change when it starts"
        } else {
            "has not come back with a change"
        };
        status.bad(format!("containerd: {fault} (tries: {times})"));
    }
    Ok(status)
}

impl Status {
    fn good(&mut self, line: String) {
        self.lines.push(line);
    }

    fn bad(&mut self, line: String) {
        self.complete = false;
        self.lines.push(line);
    }
}
