//! What a container has used, asked of its task service itself and with the time of the answer: a `ctr` call takes longer than many
//! things that are to be measured. Called by tests that measure, and by the benches for the figures of an answer.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use containerd_shim_protos::api::{
    Empty, PauseRequest, ResumeRequest, StatsRequest, StatsResponse,
};
use containerd_shim_protos::cgroups::metrics as v1;
use containerd_shim_protos::cgroups_v2::metrics as v2;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;

use crate::containers::Containers;
use crate::poll::poll_until;
use crate::shim::{LIMIT, TaskClient};

/// A connection that asks for one container's figures.
pub struct Meter {
    client: TaskClient,
    id: String,
}

/// Figures, and when they were true.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Between question and answer.
    pub at: Instant,
    /// What was answered.
    pub figures: Figures,
}

/// What an answer to `Stats` says, in either message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// CPU time used.
    pub cpu: Duration,
    /// How often a quota was used up.
    pub throttled: u64,
}

impl Meter {
    /// Of a container that has been created.
    pub fn of(c: &Containers, id: &str) -> Result<Self> {
        Ok(Self { client: c.client(id)?, id: id.to_owned() })
    }

    /// The connection.
    pub fn client(&self) -> &TaskClient {
        &self.client
    }

    /// Asks once.
    pub fn read(&self) -> Result<Reading> {
        let request = StatsRequest { id: self.id.clone(), ..StatsRequest::default() };
        let asked = Instant::now();
        let answer: StatsResponse = self.client.call("Stats", &request, LIMIT)?;
        let at = asked + asked.elapsed() / 2;
        let figures =
            Figures::of(&answer.stats).with_context(|| format!("Stats of {}", self.id))?;
        Ok(Reading { at, figures })
    }

    /// Stops the container; one of its guests may be in a poll and end that.
    pub fn pause(&self) -> Result<()> {
        let request = PauseRequest { id: self.id.clone(), ..PauseRequest::default() };
        Ok(self.client.call::<Empty>("Pause", &request, LIMIT).map(drop)?)
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<()> {
        let request = ResumeRequest { id: self.id.clone(), ..ResumeRequest::default() };
        Ok(self.client.call::<Empty>("Resume", &request, LIMIT).map(drop)?)
    }

    /// Waits until the container uses its quota up once more. It then waits for its next period, so the figures stand still.
    pub fn used_up(&self) -> Result<Reading> {
        let before = self.read()?.figures.throttled;
        let seen =
            poll_until(&format!("the end of the quota of {}", self.id), LIMIT, || {
                match self.read() {
                    Ok(reading) => (reading.figures.throttled > before).then_some(Ok(reading)),
                    Err(error) => Some(Err(error)),
                }
            });
        seen?
    }

    /// The part of one CPU that a container with a quota uses over a second or more: from one end of its quota to another, between
    /// which there are whole periods.
    pub fn part_of_periods(&self) -> Result<f64> {
        let first = self.used_up()?;
        let mut last = self.used_up()?;
        while last.at - first.at < Duration::from_secs(1) {
            last = self.used_up()?;
        }
        Ok(last.part_since(&first))
    }
}

impl Reading {
    /// The part of one CPU that was used since an earlier reading.
    pub fn part_since(&self, before: &Self) -> f64 {
        let used = self.figures.cpu.saturating_sub(before.figures.cpu);
        used.as_secs_f64() / (self.at - before.at).as_secs_f64()
    }
}

impl Figures {
    /// Reads the message of an answer; containerd gives its type without the usual prefix.
    pub fn of(stats: &Any) -> Result<Self> {
        match stats.type_url.rsplit('/').next() {
            Some("io.containerd.cgroups.v1.Metrics") => {
                let cpu = v1::Metrics::parse_from_bytes(&stats.value)?.cpu;
                let throttled = cpu.throttling.throttled_periods;
                Ok(Self { cpu: Duration::from_nanos(cpu.usage.total), throttled })
            }
            Some("io.containerd.cgroups.v2.Metrics") => {
                let cpu = v2::Metrics::parse_from_bytes(&stats.value)?.cpu;
                Ok(Self { cpu: Duration::from_micros(cpu.usage_usec), throttled: cpu.nr_throttled })
            }
            _ => bail!("metrics of an unknown type: {:?}", stats.type_url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(kind: &str, value: Vec<u8>) -> Any {
        Any { type_url: kind.to_owned(), value, ..Default::default() }
    }

    #[test]
    fn cpu_is_nanoseconds_in_v1_and_microseconds_in_v2() {
        let mut old = v1::Metrics::new();
        old.cpu.mut_or_insert_default().usage.mut_or_insert_default().total = 1_500;
        let mut new = v2::Metrics::new();
        new.cpu.mut_or_insert_default().usage_usec = 2;
        new.cpu.mut_or_insert_default().nr_throttled = 3;
        let old = any("io.containerd.cgroups.v1.Metrics", old.write_to_bytes().unwrap());
        let new =
            any("types.example/io.containerd.cgroups.v2.Metrics", new.write_to_bytes().unwrap());
        assert_eq!(
            Figures::of(&old).unwrap(),
            Figures { cpu: Duration::from_nanos(1_500), throttled: 0 }
        );
        assert_eq!(
            Figures::of(&new).unwrap(),
            Figures { cpu: Duration::from_micros(2), throttled: 3 }
        );
        assert!(Figures::of(&any("", Vec::new())).is_err());
    }
}
