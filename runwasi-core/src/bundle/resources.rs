//! `linux.resources` of the OCI runtime spec: what a container is created with, and what containerd's `Update` changes. Used by
//! `config` and `container`. Untrusted: every value is checked here, and an error names the field.
//!
//! What is not read here has no meaning for a guest; the table in `docs/config-json.md` lists it.

use std::time::Duration;

use oci_spec::runtime::LinuxResources;

use super::error::{Wrong, wrong};

/// The kernel's bounds for `cpu.cfs_period_us`, and the least for `cpu.cfs_quota_us`, in microseconds.
const PERIODS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
const LEAST_QUOTA: u64 = 1_000;
const DEFAULT_PERIOD: u64 = 100_000;

/// The kernel's bounds for `cpu.shares`.
const LEAST_SHARES: u64 = 2;
const MOST_SHARES: u64 = 262_144;

/// The kernel's `cpu.shares` of whoever asks for none.
pub const DEFAULT_SHARES: u64 = 1024;

/// Limits; `None` is what was not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourcesConfig {
    /// Bytes of memory.
    pub memory: Option<Limit<u64>>,
    /// `cpu.shares`: the part of the CPU where guests compete.
    pub shares: Option<u64>,
    /// CPU time in a period.
    pub quota: Option<Limit<Quota>>,
}

/// A limit that was spoken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit<T> {
    /// There shall be none.
    None,
    /// This one.
    Of(T),
}

/// How much CPU time is allowed in every period; more than one period's worth means several CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// CPU time.
    pub time: Duration,
    /// In this time.
    pub period: Duration,
}

impl<T> Limit<T> {
    /// The limit, if there shall be one.
    pub fn get(self) -> Option<T> {
        match self {
            Self::None => None,
            Self::Of(limit) => Some(limit),
        }
    }
}

/// What is wrong with the resources of an update.
#[derive(Debug, thiserror::Error)]
pub enum ResourcesConfigError {
    /// Not JSON, or not of the spec's shape; the source names line and column.
    #[error("resources: {0}")]
    Syntax(#[source] serde_json::Error),
    /// A value that means nothing.
    #[error("{field}: {reason}")]
    Field {
        /// The field, as in the spec.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ResourcesConfig {
    /// Whether they hold anybody back. `ctr` always says [`DEFAULT_SHARES`], which is what everybody has.
    pub(crate) fn bind(&self) -> bool {
        let Self { memory, shares, quota } = self;
        memory.is_some_and(|limit| limit.get().is_some())
            || quota.is_some_and(|quota| quota.get().is_some())
            || shares.is_some_and(|shares| shares != DEFAULT_SHARES)
    }

    /// Reads the JSON that containerd's `Update` carries.
    pub fn parse(json: &[u8]) -> Result<Self, ResourcesConfigError> {
        let resources: LinuxResources =
            serde_json::from_slice(json).map_err(ResourcesConfigError::Syntax)?;
        Self::from_spec(&resources)
            .map_err(|(field, reason)| ResourcesConfigError::Field { field, reason })
    }

    pub(super) fn from_spec(resources: &LinuxResources) -> Result<Self, Wrong> {
        let cpu = resources.cpu().as_ref();
        let memory = resources
            .memory()
            .as_ref()
            .and_then(|memory| memory.limit())
            .filter(|limit| *limit != 0);
        // 0 means unset, as it does by way of runc; others are brought into the range that the kernel has.
        let shares = cpu.and_then(|cpu| cpu.shares()).filter(|shares| *shares > 0);
        Ok(Self {
            memory: memory.map(|limit| u64::try_from(limit).map_or(Limit::None, Limit::Of)),
            shares: shares.map(|shares| shares.clamp(LEAST_SHARES, MOST_SHARES)),
            quota: cpu.map(|cpu| quota(cpu.quota(), cpu.period())).transpose()?.flatten(),
        })
    }
}

/// A negative quota is none, as with the kernel; 0 is unset.
fn quota(quota: Option<i64>, period: Option<u64>) -> Result<Option<Limit<Quota>>, Wrong> {
    let period = period.filter(|period| *period > 0).unwrap_or(DEFAULT_PERIOD);
    if !PERIODS.contains(&period) {
        let reason = format!(
            "{period} is not between {} and {} microseconds",
            PERIODS.start(),
            PERIODS.end()
        );
        return Err(wrong("linux.resources.cpu.period", reason));
    }
    let Some(quota) = quota.filter(|quota| *quota != 0) else { return Ok(None) };
    let Ok(time) = u64::try_from(quota) else { return Ok(Some(Limit::None)) };
    if time < LEAST_QUOTA {
        let reason = format!("{time} is less than {LEAST_QUOTA} microseconds");
        return Err(wrong("linux.resources.cpu.quota", reason));
    }
    Ok(Some(Limit::Of(Quota {
        time: Duration::from_micros(time),
        period: Duration::from_micros(period),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<ResourcesConfig, String> {
        ResourcesConfig::parse(json.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn limits_are_read_with_the_kernels_meaning() {
        let quota = |time, period| {
            Some(Limit::Of(Quota {
                time: Duration::from_micros(time),
                period: Duration::from_micros(period),
            }))
        };
        for (json, wanted) in [
            ("{}", ResourcesConfig::default()),
            (
                r#"{"memory":{"limit":0},"cpu":{"shares":0,"quota":0,"period":0}}"#,
                ResourcesConfig::default(),
            ),
            (
                r#"{"memory":{"limit":67108864},"cpu":{"shares":512,"quota":20000,"period":50000}}"#,
                ResourcesConfig {
                    memory: Some(Limit::Of(64 << 20)),
                    shares: Some(512),
                    quota: quota(20_000, 50_000),
                },
            ),
            (
                r#"{"memory":{"limit":-1},"cpu":{"shares":1,"quota":-1}}"#,
                ResourcesConfig {
                    memory: Some(Limit::None),
                    shares: Some(2),
                    quota: Some(Limit::None),
                },
            ),
            (
                r#"{"cpu":{"quota":300000}}"#,
                ResourcesConfig { quota: quota(300_000, 100_000), ..ResourcesConfig::default() },
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
    fn values_that_the_kernel_would_refuse_are_named() {
        for (json, wanted) in [
            (r#"{"cpu":{"quota":999}}"#, "linux.resources.cpu.quota: 999 is less than"),
            (r#"{"cpu":{"period":999}}"#, "linux.resources.cpu.period: 999 is not between"),
            (r#"{"cpu":{"quota":5000,"period":1000001}}"#, "linux.resources.cpu.period: 1000001"),
            ("[]x", "resources: "),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.contains(wanted), "{json}: {error}");
        }
    }
}
