//! Containers that compute for ever, each in a sandbox of its own; made and judged by `scheduling`.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::Bench;
use crate::fake_containerd::{Container, FakeContainerd, Sandbox, Tasks};

/// What runs now.
pub(super) struct Spinners<'a> {
    bench: &'a Bench,
    fake: &'a FakeContainerd,
    all: Vec<Spinner>,
    /// How many containers there were, for new ids.
    made: usize,
}

struct Spinner {
    sandbox: Sandbox,
    id: String,
}

impl<'a> Spinners<'a> {
    /// Starts `count` of them, with the weights that `shares` gives.
    pub(super) fn start(
        bench: &'a Bench,
        fake: &'a FakeContainerd,
        count: usize,
        shares: impl Fn(usize) -> Option<u32>,
    ) -> Result<Self> {
        let mut spinners = Self { bench, fake, all: Vec::new(), made: 0 };
        for place in 0..count {
            let mut container = fake.container(&format!("of{count}spin{place}"), &["spin"])?;
            if let Some(shares) = shares(place) {
                container.weigh(shares)?;
            }
            let sandbox = fake.sandbox(&container)?;
            run(fake, &sandbox.tasks, &container)?;
            spinners.all.push(Spinner { sandbox, id: container.id });
        }
        Ok(spinners)
    }

    /// Any of them: its connection and its id.
    pub(super) fn any(&self) -> (&Tasks, &str) {
        let spinner = &self.all[fastrand::usize(..self.all.len())];
        (&spinner.sandbox.tasks, &spinner.id)
    }

    /// A container that is prepared to join the sandbox of any of them, and that sandbox's connection.
    pub(super) fn guest(&mut self, args: &[&str]) -> Result<(&Tasks, Container)> {
        self.made += 1;
        let sandbox = &self.all[fastrand::usize(..self.all.len())].sandbox;
        let container =
            self.fake.joining(&sandbox.id, &format!("{}guest{}", sandbox.id, self.made), args)?;
        Ok((&sandbox.tasks, container))
    }

    /// Kills any of them and puts a new one in its place; from the call until `Wait` has told the end, in milliseconds.
    pub(super) fn kill_one(&mut self) -> Result<f64> {
        self.made += 1;
        let place = fastrand::usize(..self.all.len());
        let Spinner { sandbox, id } = &mut self.all[place];
        let successor = self.fake.joining(
            &sandbox.id,
            &format!("{}next{}", sandbox.id, self.made),
            &["spin"],
        )?;
        let begin = Instant::now();
        self.fake.run(async {
            let (ended, killed) = tokio::join!(sandbox.tasks.wait(id), sandbox.tasks.kill(id));
            ended.and(killed)
        })?;
        let took = milliseconds(begin);
        self.fake.run(sandbox.tasks.delete(id))?;
        run(self.fake, &sandbox.tasks, &successor)?;
        *id = successor.id;
        Ok(took)
    }

    /// Lets them compute for a while and gives the part of a CPU that each had.
    pub(super) fn shares(&self, time: Duration) -> Result<Vec<f64>> {
        let before = self.cpu()?;
        self.bench.interrupt.pause(time)?;
        let after = self.cpu()?;
        // The time between the two readings of each, since reading many takes a while, too.
        let part = |(before, after): (&(Instant, Duration), &(Instant, Duration))| {
            (after.1.saturating_sub(before.1)).as_secs_f64() / (after.0 - before.0).as_secs_f64()
        };
        Ok(before.iter().zip(&after).map(part).collect())
    }

    /// Kills and removes them all.
    pub(super) fn remove(self) -> Result<()> {
        for Spinner { sandbox, id } in self.all {
            self.bench.interrupt.check()?;
            self.fake.run(sandbox.tasks.remove(&id))?;
            self.fake.leave(sandbox);
        }
        Ok(())
    }

    fn cpu(&self) -> Result<Vec<(Instant, Duration)>> {
        let one = |spinner: &Spinner| {
            let cpu = self.fake.run(spinner.sandbox.tasks.cpu(&spinner.id))?;
            Ok((Instant::now(), cpu))
        };
        self.all.iter().map(one).collect()
    }
}

/// `Create` and `Start`; how long both took, in milliseconds.
pub(super) fn run(fake: &FakeContainerd, tasks: &Tasks, container: &Container) -> Result<f64> {
    let begin = Instant::now();
    fake.run(async {
        tasks.create(container).await?;
        tasks.start(&container.id).await
    })?;
    Ok(milliseconds(begin))
}

pub(super) fn milliseconds(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}
