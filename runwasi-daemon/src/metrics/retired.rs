//! Series of retired daemons beside those of this one.
//!
//! After a reload most guests are still in the daemon before it, which no longer has the address of
//! the metrics. So the daemon that has it asks the others by the manager API, and adds the label
//! `retired` with their pid to each of their samples. Sums go on without a step: a counter without
//! that label begins anew, as after a restart.

use std::{
    collections::HashMap,
    fmt::Write,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use runwasi_core::{
    metrics::exposition::{Exposition, Format},
    scrape::answer::Answers,
};

use crate::{
    manager::{client::Client, messages::MetricsReply},
    state_dir::StateDirectory,
};

/// Most daemons that are asked, as by the commands. Each has been the daemon of the node before: a
/// node whose pods live long has one of each reload.
const MOST: usize = 256;

/// Time limit for one of them. One that lives answers in milliseconds.
const PATIENCE: Duration = Duration::from_millis(500);

/// Time limit for all together, within that of a scrape.
const ALL: Duration = Duration::from_secs(4);

/// One family: its head, and its samples.
struct Family<'a> {
    name: &'a str,
    head: Vec<&'a str>,
    samples: Vec<&'a str>,
}

/// The series of this process, and of the retired daemons of `state`, which run `program`.
pub(crate) fn answers(
    exposition: Arc<Exposition>,
    state: StateDirectory,
    program: &'static str,
) -> Answers {
    // Asked anew for each scrape: daemons retire and end in between.
    Answers::new(move |format| {
        let own = exposition.text(format);
        // An error: the directory has gone, and with it all that could be asked.
        let others = state.others().unwrap_or_default();
        with_retired(own, &others, program, format)
    })
}

/// The text `own` with the series of the retired daemons at the sockets `others`. Blocks.
fn with_retired(own: String, others: &[PathBuf], program: &'static str, format: Format) -> String {
    let end = Instant::now() + ALL;
    let ask = |socket: &PathBuf| {
        let patience = end.saturating_duration_since(Instant::now()).min(PATIENCE);
        let reply = Client::connect(socket, program, patience)
            .and_then(|client| client.metrics(format == Format::OpenMetrics));
        // An error: it has just ended, or is of a version without metrics.
        let unknown = |error| tracing::debug!(%error, "no metrics of another daemon");
        reply.map_err(unknown).ok().filter(|reply| reply.retired)
    };
    let replies: Vec<MetricsReply> = others.iter().take(MOST).filter_map(ask).collect();
    if replies.is_empty() { own } else { merged(&own, &replies) }
}

fn merged(own: &str, replies: &[MetricsReply]) -> String {
    let mut heads = Vec::new();
    let mut samples: HashMap<&str, String> = HashMap::new();
    let texts = replies.iter().map(|reply| (reply.text.as_str(), Some(reply.pid)));
    for (text, pid) in [(own, None)].into_iter().chain(texts) {
        for family in families(text) {
            let lines = samples.entry(family.name).or_insert_with(|| {
                heads.push((family.name, family.head));
                String::new()
            });
            for sample in family.samples {
                write_sample(lines, sample, pid);
            }
        }
    }
    let mut merged = String::with_capacity(own.len() * (replies.len() + 1));
    for (name, head) in heads {
        head.iter().for_each(|line| push_line(&mut merged, line));
        merged.push_str(&samples[name]);
    }
    if own.ends_with(END) {
        merged.push_str(END);
    }
    merged
}

/// The last line of OpenMetrics.
const END: &str = "# EOF\n";

/// The families of a text of our own.
fn families(text: &str) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let name = help.split(' ').next().unwrap_or_default();
            families.push(Family { name, head: vec![line], samples: Vec::new() });
        } else if let Some(family) = families.last_mut() {
            match line.starts_with('#') {
                true if line == END.trim_end() => {}
                true => family.head.push(line),
                false => family.samples.push(line),
            }
        }
    }
    families
}

/// Writes a sample, with the label of a retired daemon.
fn write_sample(lines: &mut String, sample: &str, retired: Option<u32>) {
    let Some((pid, (series, value))) = retired.zip(sample.rsplit_once(' ')) else {
        return push_line(lines, sample);
    };
    let (open, comma) = match series.strip_suffix('}') {
        Some(labels) => (labels, ","),
        None => (series, "{"),
    };
    // Never an error: a `String` takes everything.
    let _ = writeln!(lines, "{open}{comma}retired=\"{pid}\"}} {value}");
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_retired_daemons_are_in_their_family_with_a_label() {
        let own = "# HELP a of a\n# TYPE a counter\na_total 1\n\
            # HELP b of b\n# TYPE b gauge\nb{x=\"} \"} 2\n# EOF\n";
        let old = "# HELP b of b\n# TYPE b gauge\nb{x=\"y\"} 3\n\
            # HELP c of c\n# TYPE c gauge\nc 4\n# EOF\n";
        let reply = |text: &str, pid| MetricsReply { text: text.to_owned(), pid, retired: true };
        let expected = "# HELP a of a\n# TYPE a counter\na_total 1\n\
            # HELP b of b\n# TYPE b gauge\nb{x=\"} \"} 2\nb{x=\"y\",retired=\"7\"} 3\n\
            # HELP c of c\n# TYPE c gauge\nc{retired=\"7\"} 4\nc{retired=\"8\"} 4\n# EOF\n";
        let last = "# HELP c of c\n# TYPE c gauge\nc 4\n";
        assert_eq!(merged(own, &[reply(old, 7), reply(last, 8)]), expected);
        assert_eq!(merged(own, &[]), own);
    }
}
