//! Many sandboxes and containers at once, with the time each took; filled and emptied by `density`.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::Bench;
use crate::fake_containerd::{Container, FakeContainerd, Sandbox};
use crate::stats;

/// Neither wakes up nor ends.
const SLEEPER: [&str; 2] = ["sleep", "1000000"];

/// How many creations one figure of their cost is the median of.
const WINDOW: usize = 50;

/// Times in milliseconds in the order of the creations.
#[derive(Default)]
pub(super) struct Costs(Vec<f64>);

/// What lives on a fake.
pub(super) struct Population<'a> {
    bench: &'a Bench,
    fake: &'a FakeContainerd,
    /// What the ids of its containers begin with.
    name: &'static str,
    sandboxes: Vec<Sandbox>,
    /// A container and the place of its sandbox, in the order they came.
    containers: Vec<(usize, String)>,
    /// The shim's `start` with the connection to the sandbox.
    pub(super) starts: Costs,
    /// `Create` and `Start`.
    pub(super) creations: Costs,
}

impl<'a> Population<'a> {
    pub(super) fn new(bench: &'a Bench, fake: &'a FakeContainerd, name: &'static str) -> Self {
        let (starts, creations) = (Costs::default(), Costs::default());
        Self { bench, fake, name, sandboxes: Vec::new(), containers: Vec::new(), starts, creations }
    }

    /// Adds a sandbox with one container, on the host's network or in a namespace of its own.
    pub(super) fn add_sandbox(&mut self, own_network: bool) -> Result<()> {
        let place = self.sandboxes.len();
        let mut container = self.fake.container(&format!("{}{place}", self.name), &SLEEPER)?;
        if own_network {
            container.unshare_network()?;
        }
        let begin = Instant::now();
        self.sandboxes.push(self.fake.sandbox(&container)?);
        self.starts.push(begin);
        self.run(place, container)
    }

    /// Adds a container to one of the sandboxes, to all in turn.
    pub(super) fn join(&mut self) -> Result<()> {
        let place = self.len() % self.sandboxes.len();
        let id = format!("{}{place}c{}", self.name, self.containers.len());
        let container = self.fake.joining(&self.sandboxes[place].id, &id, &SLEEPER)?;
        self.run(place, container)
    }

    /// Adds until there are `wanted` containers or one is refused, which is said and no error: how many there can be
    /// is a figure, too.
    pub(super) fn fill(
        &mut self,
        wanted: usize,
        mut add: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        while self.len() < wanted {
            self.bench.interrupt.check()?;
            if let Err(error) = add(self) {
                return self
                    .bench
                    .say(&format!("density: no more than {} containers: {error:#}", self.len()));
            }
        }
        Ok(())
    }

    /// How many containers there are.
    pub(super) fn len(&self) -> usize {
        self.containers.len()
    }

    fn run(&mut self, place: usize, container: Container) -> Result<()> {
        let tasks = &self.sandboxes[place].tasks;
        let begin = Instant::now();
        self.fake.run(async {
            tasks.create(&container).await?;
            let started = tasks.start(&container.id).await;
            if started.is_err() {
                // What is told is why it did not start; one that cannot be deleted either shows in the end.
                tasks.delete(&container.id).await.ok();
            }
            started
        })?;
        self.creations.push(begin);
        self.containers.push((place, container.id));
        Ok(())
    }

    /// Kills all containers, then deletes them, then shuts the sandboxes down.
    pub(super) fn remove_all(&mut self) -> Result<()> {
        for (place, id) in &self.containers {
            self.bench.interrupt.check()?;
            self.fake.run(self.sandboxes[*place].tasks.kill(id))?;
        }
        for (place, id) in self.containers.drain(..) {
            self.bench.interrupt.check()?;
            let tasks = &self.sandboxes[place].tasks;
            self.fake.run(async {
                tasks.wait(&id).await?;
                tasks.delete(&id).await
            })?;
        }
        self.sandboxes.drain(..).for_each(|sandbox| self.fake.leave(sandbox));
        self.fake.becomes_empty()
    }
}

impl Costs {
    fn push(&mut self, begin: Instant) {
        self.0.push(begin.elapsed().as_secs_f64() * 1e3);
    }

    /// The median around the 100th, or in the middle of fewer than that.
    pub(super) fn early(&self) -> Result<f64> {
        let middle = 100.min(self.0.len() / 2);
        let (from, to) = (middle.saturating_sub(WINDOW / 2), middle + WINDOW / 2);
        stats::median(self.0.get(from..to).context("too few creations")?)
    }

    /// The median of the last ones.
    pub(super) fn late(&self) -> Result<f64> {
        stats::median(&self.0[self.0.len().saturating_sub(WINDOW)..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_is_around_the_hundredth_and_late_at_the_end() {
        let costs = Costs((0..1000).map(f64::from).collect());
        assert_eq!((costs.early().unwrap(), costs.late().unwrap()), (99.5, 974.5));
        let few = Costs((0..60).map(f64::from).collect());
        assert_eq!((few.early().unwrap(), few.late().unwrap()), (29.5, 34.5));
        assert!(Costs::default().early().is_err());
    }
}
