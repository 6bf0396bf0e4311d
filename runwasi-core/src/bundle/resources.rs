//! `linux.resources` of the OCI runtime spec: the limits of a new container, and their changes by
//! containerd's `Update`. Untrusted: every value is checked here, and an error names the field.
//!
//! Fields that are not read here have no meaning for a guest. The table in `docs/config-json.md`
//! lists them.

use std::time::Duration;

use oci_spec::runtime::LinuxResources;

use super::{
    error::{Wrong, wrong},
    json::{self, JsonError},
};

/// The kernel's bounds for `cpu.cfs_period_us`, in microseconds.
const PERIODS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
/// The kernel's minimum for `cpu.cfs_quota_us`, in microseconds.
const LEAST_QUOTA: u64 = 1_000;
/// The kernel's default for `cpu.cfs_period_us`.
const DEFAULT_PERIOD: Duration = Duration::from_millis(100);

/// The kernel's bounds for `cpu.shares`.
pub(crate) const LEAST_SHARES: u64 = 2;
pub(crate) const MOST_SHARES: u64 = 262_144;

/// The kernel's default for `cpu.shares`.
pub const DEFAULT_SHARES: u64 = 1024;

/// Limits of a container. A field that the JSON does not set is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourcesConfig {
    /// Bytes of memory.
    pub memory: Option<Limit<u64>>,
    /// `cpu.shares`: relative weight where guests compete for the CPU.
    pub shares: Option<u64>,
    /// CPU time and the period for it.
    pub bandwidth: Bandwidth,
}

/// CPU bandwidth. A new container or an update may set only one part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// CPU time in a period.
    pub time: Option<Limit<Duration>>,
    /// Length of the period.
    pub period: Option<Duration>,
}

/// A limit that the JSON sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit<T> {
    /// Unlimited.
    None,
    /// This limit.
    Of(T),
}

/// Allowed CPU time in every period. A time above the period allows several CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// CPU time.
    pub time: Duration,
    /// Length of the period.
    pub period: Duration,
}

impl<T> Limit<T> {
    /// The limit, unless it is unlimited.
    pub fn get(self) -> Option<T> {
        match self {
            Self::None => None,
            Self::Of(limit) => Some(limit),
        }
    }
}

impl Bandwidth {
    /// Both parts together. A period without a time limits nothing.
    pub fn quota(self) -> Option<Limit<Quota>> {
        let period = self.period.unwrap_or(DEFAULT_PERIOD);
        Some(match self.time? {
            Limit::None => Limit::None,
            Limit::Of(time) => Limit::Of(Quota { time, period }),
        })
    }

    /// The bandwidth after a change. What that does not set stays as it is, as with runc.
    fn changed(self, change: Self) -> Self {
        Self { time: change.time.or(self.time), period: change.period.or(self.period) }
    }
}

/// Invalid resources of an update.
#[derive(Debug, thiserror::Error)]
pub enum ResourcesConfigError {
    /// Not JSON. The source names line and column.
    #[error("resources: {0}")]
    Syntax(#[source] serde_json::Error),
    /// A field has an invalid value.
    #[error("{field}: {reason}")]
    Field {
        /// The field, as in the spec.
        field: String,
        /// The reason.
        reason: String,
    },
}

impl From<JsonError> for ResourcesConfigError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Syntax(error) => Self::Syntax(error),
            JsonError::Field((field, reason)) => Self::Field { field, reason },
        }
    }
}

impl ResourcesConfig {
    /// True if any of them restricts the container.
    pub(crate) fn bind(&self) -> bool {
        let Self { memory, shares, bandwidth } = self;
        memory.is_some_and(|limit| limit.get().is_some())
            || bandwidth.quota().is_some_and(|quota| quota.get().is_some())
            // `ctr` always sends the default, which every container has anyway.
            || shares.is_some_and(|shares| shares != DEFAULT_SHARES)
    }

    /// Parses and checks the JSON of containerd's `Update`.
    pub fn parse(json: &[u8]) -> Result<Self, ResourcesConfigError> {
        let resources: LinuxResources = json::parse(json, &["linux", "resources"])?;
        check_change(&resources)
            .and_then(|()| Self::from_spec(&resources))
            .map_err(|(field, reason)| ResourcesConfigError::Field { field, reason })
    }

    /// Changes the bandwidth of a container by that of this update, which gets both parts if it has
    /// one.
    // The bounds are those of each part alone, so the two need no further check.
    pub(crate) fn change(&mut self, bandwidth: &mut Bandwidth) {
        if self.bandwidth != Bandwidth::default() {
            *bandwidth = bandwidth.changed(self.bandwidth);
            self.bandwidth = *bandwidth;
        }
    }

    /// These limits for the kernel, with so many bytes in use, which an update takes away from no
    /// guest.
    // cgroup v2 ends the process at a limit below its usage, and v1 refuses it.
    pub(crate) fn with_used(self, used: u64) -> Self {
        let above = |limit| match limit {
            Limit::Of(limit) => Limit::Of(used.max(limit)),
            Limit::None => Limit::None,
        };
        Self { memory: self.memory.map(above), ..self }
    }

    pub(super) fn from_spec(resources: &LinuxResources) -> Result<Self, Wrong> {
        let cpu = resources.cpu().as_ref();
        let memory = resources
            .memory()
            .as_ref()
            .and_then(|memory| memory.limit())
            .filter(|limit| *limit != 0);
        // 0 means unset, as with runc. Other values are clamped to the kernel's range.
        let shares = cpu.and_then(|cpu| cpu.shares()).filter(|shares| *shares > 0);
        Ok(Self {
            // A negative limit does not fit into `u64` and means unlimited.
            memory: memory.map(|limit| u64::try_from(limit).map_or(Limit::None, Limit::Of)),
            shares: shares.map(|shares| shares.clamp(LEAST_SHARES, MOST_SHARES)),
            bandwidth: cpu
                .map(|cpu| bandwidth(cpu.quota(), cpu.period()))
                .transpose()?
                .unwrap_or_default(),
        })
    }
}

/// The spec's value for unlimited.
const UNLIMITED: i64 = -1;

/// Refuses values of an `Update` that no client can mean: a mistake must not lift a limit.
// A new container may have them, as with runc.
fn check_change(resources: &LinuxResources) -> Result<(), Wrong> {
    let limit = resources.memory().as_ref().and_then(|memory| memory.limit());
    check_negative("linux.resources.memory.limit", limit)?;
    let Some(cpu) = resources.cpu() else { return Ok(()) };
    check_negative("linux.resources.cpu.quota", cpu.quota())?;
    // Docker sends both as 0 if it changes neither.
    match (cpu.period(), cpu.quota()) {
        (Some(0), quota) if quota != Some(0) => check_period(0),
        _ => Ok(()),
    }
}

fn check_negative(field: &'static str, value: Option<i64>) -> Result<(), Wrong> {
    let Some(value) = value.filter(|value| *value < UNLIMITED) else { return Ok(()) };
    Err(wrong(field, format!("{value} is negative, and only {UNLIMITED} is unlimited")))
}

fn check_period(period: u64) -> Result<(), Wrong> {
    if PERIODS.contains(&period) {
        return Ok(());
    }
    let reason =
        format!("{period} is not between {} and {} microseconds", PERIODS.start(), PERIODS.end());
    Err(wrong("linux.resources.cpu.period", reason))
}

/// Checks quota and period. 0 is unset, as with runc.
fn bandwidth(quota: Option<i64>, period: Option<u64>) -> Result<Bandwidth, Wrong> {
    let period = period.filter(|period| *period > 0);
    period.map(check_period).transpose()?;
    let time = quota.filter(|quota| *quota != 0).map(cpu_time).transpose()?;
    Ok(Bandwidth { time, period: period.map(Duration::from_micros) })
}

/// A negative time means unlimited, as with the kernel.
fn cpu_time(quota: i64) -> Result<Limit<Duration>, Wrong> {
    match u64::try_from(quota) {
        Err(_) => Ok(Limit::None),
        Ok(time) if time < LEAST_QUOTA => {
            let reason = format!("{time} is less than {LEAST_QUOTA} microseconds");
            Err(wrong("linux.resources.cpu.quota", reason))
        }
        Ok(time) => Ok(Limit::Of(Duration::from_micros(time))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<ResourcesConfig, String> {
        ResourcesConfig::parse(json.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn limits_have_the_kernels_meaning() {
        let bandwidth = |time, period: Option<u64>| Bandwidth {
            time: Some(time),
            period: period.map(Duration::from_micros),
        };
        let limit = |time| Limit::Of(Duration::from_micros(time));
        for (json, wanted) in [
            ("{}", ResourcesConfig::default()),
            (
                r#"{"memory":{"limit":0},"cpu":{"shares":0,"quota":0,"period":0}}"#,
                ResourcesConfig::default(),
            ),
            (
                concat!(
                    r#"{"memory":{"limit":67108864},"#,
                    r#""cpu":{"shares":512,"quota":20000,"period":50000}}"#
                ),
                ResourcesConfig {
                    memory: Some(Limit::Of(64 << 20)),
                    shares: Some(512),
                    bandwidth: bandwidth(limit(20_000), Some(50_000)),
                },
            ),
            (
                r#"{"memory":{"limit":-1},"cpu":{"shares":1,"quota":-1}}"#,
                ResourcesConfig {
                    memory: Some(Limit::None),
                    shares: Some(2),
                    bandwidth: bandwidth(Limit::None, None),
                },
            ),
            (
                r#"{"cpu":{"quota":300000}}"#,
                ResourcesConfig {
                    bandwidth: bandwidth(limit(300_000), None),
                    ..ResourcesConfig::default()
                },
            ),
        ] {
            assert_eq!(parse(json).unwrap(), wanted, "{json}");
        }
    }

    #[test]
    fn only_a_limit_and_unusual_shares_bind() {
        for free in ["{}", r#"{"cpu":{"shares":1024,"quota":-1},"memory":{"limit":-1}}"#] {
            assert!(!ResourcesConfig::parse(free.as_bytes()).unwrap().bind(), "{free}");
        }
        for bound in
            [r#"{"cpu":{"shares":1023}}"#, r#"{"cpu":{"quota":9999}}"#, r#"{"memory":{"limit":1}}"#]
        {
            assert!(ResourcesConfig::parse(bound.as_bytes()).unwrap().bind(), "{bound}");
        }
    }

    #[test]
    fn kernels_memory_limit_is_not_below_the_use() {
        for (json, limit) in [
            (r#"{"memory":{"limit":100}}"#, Some(Limit::Of(200))),
            (r#"{"memory":{"limit":300}}"#, Some(Limit::Of(300))),
            (r#"{"memory":{"limit":-1}}"#, Some(Limit::None)),
            ("{}", None),
        ] {
            let limits = ResourcesConfig::parse(json.as_bytes()).unwrap();
            assert_eq!(limits.with_used(200).memory, limit, "{json}");
        }
    }

    #[test]
    fn errors_name_values_that_the_kernel_would_refuse() {
        for (json, wanted) in [
            (r#"{"cpu":{"quota":999}}"#, "linux.resources.cpu.quota: 999 is less than"),
            (r#"{"cpu":{"period":999}}"#, "linux.resources.cpu.period: 999 is not between"),
            (r#"{"cpu":{"quota":5000,"period":1000001}}"#, "linux.resources.cpu.period: 1000001"),
            (r#"{"cpu":{"period":0}}"#, "linux.resources.cpu.period: 0 is not between"),
            (r#"{"cpu":{"quota":5000,"period":0}}"#, "linux.resources.cpu.period: 0 is not"),
            (r#"{"memory":{"limit":-2}}"#, "linux.resources.memory.limit: -2 is negative"),
            (r#"{"cpu":{"quota":-5000}}"#, "linux.resources.cpu.quota: -5000 is negative"),
            ("[]x", "resources: "),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.contains(wanted), "{json}: {error}");
        }
    }

    #[test]
    fn new_container_may_have_what_an_update_may_not() {
        let json = r#"{"memory":{"limit":-2},"cpu":{"quota":20000,"period":0}}"#;
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let config = ResourcesConfig::from_spec(&resources).unwrap();
        assert_eq!(config.memory, Some(Limit::None));
        let quota = config.bandwidth.quota().and_then(Limit::get).unwrap();
        assert_eq!(quota.period, DEFAULT_PERIOD);
    }

    #[test]
    fn update_keeps_the_part_of_a_quota_that_it_does_not_set() {
        let quota = |time, period| {
            let [time, period] = [time, period].map(Duration::from_millis);
            Some(Limit::Of(Quota { time, period }))
        };
        let mut bandwidth =
            parse(r#"{"cpu":{"quota":500000,"period":1000000}}"#).unwrap().bandwidth;
        for (json, wanted) in [
            (r#"{"cpu":{"quota":300000}}"#, quota(300, 1000)),
            (r#"{"cpu":{"period":500000}}"#, quota(300, 500)),
            (r#"{"cpu":{"shares":512}}"#, None),
            (r#"{"cpu":{"quota":0,"period":0}}"#, None),
            (r#"{"cpu":{"quota":-1}}"#, Some(Limit::None)),
            (r#"{"cpu":{"period":200000}}"#, Some(Limit::None)),
            (r#"{"cpu":{"quota":100000}}"#, quota(100, 200)),
        ] {
            let mut update = parse(json).unwrap();
            update.change(&mut bandwidth);
            assert_eq!(update.bandwidth.quota(), wanted, "{json}");
        }
        let mut bandwidth = Bandwidth::default();
        parse(r#"{"cpu":{"period":50000}}"#).unwrap().change(&mut bandwidth);
        assert_eq!(bandwidth.quota(), None, "a period limits nothing");
        parse(r#"{"cpu":{"quota":10000}}"#).unwrap().change(&mut bandwidth);
        assert_eq!(bandwidth.quota(), quota(10, 50));
    }
}
