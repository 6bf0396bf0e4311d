//! The metrics of a daemon, read and parsed; called by the tests of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::http::get;
use crate::poll::poll_until;

/// Figures that follow an answer, such as those of a deletion, may be counted after it.
const SOON: Duration = Duration::from_secs(10);

/// One scrape in Prometheus' own format.
#[derive(Debug, Clone, PartialEq)]
pub struct Scrape {
    /// Its text.
    pub text: String,
    samples: BTreeMap<String, f64>,
}

/// A family as it is exposed: what its head and its samples say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// The labels of its samples, with the values they have.
    pub labels: BTreeMap<String, BTreeSet<String>>,
}

impl Scrape {
    /// Reads `/metrics`.
    pub fn of(server: SocketAddr) -> Result<Self> {
        let answer = get(server, "/metrics")?;
        ensure!(answer.status == 200, "{answer:?}");
        Self::parse(answer.body)
    }

    /// Parses a text.
    pub fn parse(text: String) -> Result<Self> {
        let mut samples = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').with_context(|| format!("{line:?}"))?;
            let value = value.parse().with_context(|| format!("{line:?}"))?;
            ensure!(samples.insert(series.to_owned(), value).is_none(), "twice: {line:?}");
        }
        Ok(Self { text, samples })
    }

    /// The value of a series, named as it is exposed.
    pub fn value(&self, series: &str) -> Result<f64> {
        self.samples.get(series).copied().with_context(|| format!("no {series} in {}", self.text))
    }

    /// All series.
    pub fn series(&self) -> impl Iterator<Item = &str> {
        self.samples.keys().map(String::as_str)
    }

    /// The names of all samples.
    pub fn names(&self) -> BTreeSet<String> {
        self.series().map(|series| name(series).to_owned()).collect()
    }

    /// The families.
    pub fn families(&self) -> BTreeMap<String, Family> {
        let kinds = self.text.lines().filter_map(|line| {
            let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
            Some((name.to_owned(), Family { kind: kind.to_owned(), ..Family::default() }))
        });
        let mut families: BTreeMap<_, _> = kinds.collect();
        for series in self.series() {
            let sample = name(series);
            let of_histogram = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| sample.strip_suffix(suffix))
                .filter(|name| families.contains_key(*name));
            if let Some(family) = families.get_mut(of_histogram.unwrap_or(sample)) {
                for (label, value) in labels(series).filter(|(label, _)| *label != "le") {
                    family.labels.entry(label.into()).or_default().insert(value.into());
                }
            }
        }
        families
    }
}

fn name(series: &str) -> &str {
    series.split('{').next().unwrap_or_default()
}

/// The labels of a series whose values have neither commas nor quotes.
fn labels(series: &str) -> impl Iterator<Item = (&str, &str)> {
    let inner = series.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
    inner.split(',').filter_map(|label| {
        let (name, value) = label.split_once('=')?;
        Some((name, value.trim_matches('"')))
    })
}

/// Waits until these series have grown by these numbers, since `before`, and by no more.
pub fn grow(server: SocketAddr, before: &Scrape, expected: &[(&str, f64)]) -> Result<Scrape> {
    let mut last = None;
    let grown = poll_until("the metrics", SOON, || {
        let now = Scrape::of(server).ok()?;
        let differences: Vec<_> = expected
            .iter()
            .map(|(series, _)| {
                Some((*series, now.value(series).ok()? - before.value(series).ok()?))
            })
            .collect();
        let is_done = differences.iter().flatten().eq(expected);
        last = Some(differences);
        is_done.then_some(now)
    });
    grown.with_context(|| format!("expected {expected:?}, last {last:?}"))
}

/// Waits until these series have these values.
pub fn become_equal(server: SocketAddr, expected: &[(&str, f64)]) -> Result<Scrape> {
    let mut last = None;
    let equal = poll_until("the metrics", SOON, || {
        let now = Scrape::of(server).ok()?;
        let values: Vec<_> =
            expected.iter().map(|(series, _)| (*series, now.value(series).ok())).collect();
        let is_done =
            values.iter().zip(expected).all(|((_, value), (_, wanted))| *value == Some(*wanted));
        last = Some(values);
        is_done.then_some(now)
    });
    equal.with_context(|| format!("expected {expected:?}, last {last:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_and_families_are_read() {
        let text = "# HELP a_total x\n# TYPE a_total counter\na_total{k=\"v\"} 1\na_total{k=\"w\"} 2\n\
            # TYPE h histogram\nh_sum 0.5\nh_count 1\nh_bucket{le=\"+Inf\"} 1\n";
        let scrape = Scrape::parse(text.to_owned()).unwrap();
        assert_eq!(scrape.value("a_total{k=\"w\"}").unwrap(), 2.0);
        assert!(scrape.value("a_total").is_err());
        let families = scrape.families();
        assert_eq!(families["a_total"].labels["k"].len(), 2);
        assert!(families["h"].kind == "histogram" && families["h"].labels.is_empty());
        assert!(scrape.names().contains("h_bucket"));
        assert!(Scrape::parse("a 1\na 1\n".to_owned()).is_err());
    }
}
