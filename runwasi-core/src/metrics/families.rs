//! Writer of metric families: name, help, type and samples.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, MetricEncoder},
    metrics::MetricType,
    registry::Unit,
};

use super::{labels::Label, numbers::Distribution};

/// Name, meaning and unit of a family. The unit and, for a counter, `total` are appended to the
/// name.
#[derive(Clone, Copy)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) unit: Option<&'static Unit>,
}

/// Labels of a sample.
pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Families on their way into a text.
pub(super) struct Families<'a>(DescriptorEncoder<'a>);

/// A family without a unit.
pub(super) fn family(name: &'static str, help: &'static str) -> Family {
    Family { name, help, unit: None }
}

/// A family of seconds.
pub(super) fn seconds(name: &'static str, help: &'static str) -> Family {
    Family { name, help, unit: Some(&Unit::Seconds) }
}

/// A family of bytes.
pub(super) fn bytes(name: &'static str, help: &'static str) -> Family {
    Family { name, help, unit: Some(&Unit::Bytes) }
}

/// One sample for each value of a label.
pub(super) fn each<L: Label, T>(
    name: &'static str,
    value: impl Fn(L) -> T,
) -> impl Iterator<Item = (Labels<'static>, T)> {
    L::ALL.iter().map(move |label| (vec![(name, label.text())], value(*label)))
}

/// The only sample of a family without labels.
pub(super) fn only<T>(value: T) -> [(Labels<'static>, T); 1] {
    [(Vec::new(), value)]
}

/// The type that stands for the labels of an exemplar, of which there are none.
type NoLabels = [(&'static str, &'static str); 0];

impl<'a> Families<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    pub(super) fn counters<'s>(
        &mut self,
        family: Family,
        samples: impl IntoIterator<Item = (Labels<'s>, u64)>,
    ) -> fmt::Result {
        self.samples(family, MetricType::Counter, samples, |encoder, value| {
            encoder.encode_counter::<NoLabels, u64, f64>(&value, None)
        })
    }

    /// A counter of seconds.
    pub(super) fn counted_seconds(&mut self, family: Family, value: f64) -> fmt::Result {
        self.samples(family, MetricType::Counter, only(value), |encoder, value| {
            encoder.encode_counter::<NoLabels, f64, f64>(&value, None)
        })
    }

    pub(super) fn gauges<'s>(
        &mut self,
        family: Family,
        samples: impl IntoIterator<Item = (Labels<'s>, i64)>,
    ) -> fmt::Result {
        self.samples(family, MetricType::Gauge, samples, |encoder, value| {
            encoder.encode_gauge(&value)
        })
    }

    /// A gauge that may be absent.
    pub(super) fn gauge(&mut self, family: Family, value: Option<u64>) -> fmt::Result {
        self.gauges(family, value.map(|value| (Vec::new(), signed(value))))
    }

    /// A gauge with a fraction.
    pub(super) fn fraction(&mut self, family: Family, value: f64) -> fmt::Result {
        self.samples(family, MetricType::Gauge, only(value), |encoder, value| {
            encoder.encode_gauge(&value)
        })
    }

    pub(super) fn histograms<'s>(
        &mut self,
        family: Family,
        samples: impl IntoIterator<Item = (Labels<'s>, Distribution)>,
    ) -> fmt::Result {
        self.samples(family, MetricType::Histogram, samples, |encoder, value| {
            let Distribution { sum, count, buckets } = value;
            encoder.encode_histogram::<NoLabels>(sum, count, &buckets, None)
        })
    }

    fn samples<'s, T>(
        &mut self,
        family: Family,
        kind: MetricType,
        samples: impl IntoIterator<Item = (Labels<'s>, T)>,
        encode: impl Fn(&mut MetricEncoder<'_>, T) -> fmt::Result,
    ) -> fmt::Result {
        let Family { name, help, unit } = family;
        let mut encoder = self.0.encode_descriptor(name, help, unit, kind)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                encode(&mut encoder, value)?;
            } else {
                encode(&mut encoder.encode_family(&labels)?, value)?;
            }
        }
        Ok(())
    }
}

/// A number for a gauge.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
