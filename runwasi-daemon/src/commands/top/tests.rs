//! Samples for the tests of the model and of its view.

use std::time::{Duration, Instant};

use super::model::{Container, Model, Sample};

pub(super) fn container(id: &str, cpu: u64, memory: u64, requests: u64) -> Container {
    Container {
        namespace: "default".into(),
        sandbox: format!("pod-{id}"),
        id: id.into(),
        state: "running".into(),
        daemon: 7,
        created: 1,
        cpu: Duration::from_millis(cpu),
        memory,
        limit: Some(64 << 20),
        requests: Some(requests),
        ..Container::default()
    }
}

pub(super) fn sample(at: Instant, containers: Vec<Container>) -> Sample {
    Sample { at, containers, daemons: 1, faults: Vec::new() }
}

pub(super) fn two_samples() -> Model {
    let begun = Instant::now();
    let mut model = Model::default();
    model.take(sample(begun, vec![container("a", 100, 9, 10), container("b", 5000, 5, 0)]));
    let later = begun + Duration::from_secs(2);
    model.take(sample(later, vec![container("a", 1100, 9, 30), container("b", 5000, 10, 0)]));
    model
}
