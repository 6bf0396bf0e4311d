//! Components with several calls in progress, each on a stack of its own. Part of `guests.rs`.

use std::fmt::Write;

use super::{Duration, Fixture, Result, SIGKILL};

/// Longer than a test.
const FOR_EVER: Duration = Duration::from_secs(100);
const SHORT: Duration = Duration::from_millis(20);

/// A command of p3 that calls so many components, each of which waits for `time` in its call.
fn waiting_in(calls: usize, time: Duration) -> String {
    waiting(&vec![time; calls])
}

/// A command of p3 that calls components, each of which waits for one of the times in its call.
fn waiting(times: &[Duration]) -> String {
    let mut text = CLOCK.to_owned();
    let each = |text: &mut String, line: &str| {
        for (n, time) in times.iter().enumerate() {
            let line = line.replace('N', &n.to_string());
            // A `String` takes all that is written.
            let _ = writeln!(text, "{}", line.replace("TIME", &time.as_nanos().to_string()));
        }
    };
    each(&mut text, WAITER);
    each(&mut text, r#"(instance $waiterN (instantiate $typeN (with "wait" (func $wait))))"#);
    text.push_str(
        r#"(component $caller (import "wait" (func $wait async (param "how-long" u64)))"#,
    );
    each(
        &mut text,
        r#"(import "fN" (func $fN async)) (core func $fN (canon lower (func $fN) async))"#,
    );
    text.push_str(r#"(core func $wait (canon lower (func $wait)))"#);
    text.push_str(r#"(core module $m (import "h" "wait" (func $wait (param i64)))"#);
    each(&mut text, r#"(import "h" "fN" (func $fN (result i32)))"#);
    text.push_str(r#"(func (export "run") (result i32)"#);
    each(&mut text, "(drop (call $fN))");
    // After all of them.
    let longest = times.iter().max().unwrap_or(&SHORT);
    let _ = write!(text, "(call $wait (i64.const {})) (i32.const 0)))", (4 * *longest).as_nanos());
    text.push_str(r#"(core instance $i (instantiate $m (with "h" (instance"#);
    text.push_str(r#"(export "wait" (func $wait))"#);
    each(&mut text, r#"(export "fN" (func $fN))"#);
    text.push_str("))))\n");
    text.push_str(
        r#"(func (export "run") async (result (result)) (canon lift (core func $i "run"))))"#,
    );
    text.push_str(r#"(instance $command (instantiate $caller (with "wait" (func $wait))"#);
    each(&mut text, r#"(with "fN" (func $waiterN "f"))"#);
    text.push_str(r#")) (export "wasi:cli/run@0.3.0" (instance $command)))"#);
    text
}

/// Begin of the component.
const CLOCK: &str = r#"(component
    (import "wasi:clocks/monotonic-clock@0.3.0" (instance $clock
        (export "wait-for" (func async (param "how-long" u64)))))
    (alias export $clock "wait-for" (func $wait))
"#;

/// One of the components that it calls.
const WAITER: &str = r#"(component $typeN
        (import "wait" (func $wait async (param "how-long" u64)))
        (core func $wait (canon lower (func $wait)))
        (core module $m
            (import "h" "wait" (func $wait (param i64)))
            (func (export "f") (call $wait (i64.const TIME))))
        (core instance $i (instantiate $m (with "h" (instance (export "wait" (func $wait))))))
        (func (export "f") async (canon lift (core func $i "f"))))
"#;

#[tokio::test]
async fn calls_that_wait_take_stacks_of_the_container_and_give_them_back() -> Result {
    let fixture = Fixture::new(10).await?;
    let few = waiting_in(6, SHORT);
    for round in 0..4 {
        let ran = fixture.run(&["/few"], &[("/few", &few)]).await?;
        assert_eq!(ran.status, 0, "round {round}: {}", ran.stderr);
    }
    // Eight stacks are the share, and eighteen those of the engine.
    let ran = fixture.run(&["/many"], &[("/many", &waiting_in(14, FOR_EVER))]).await?;
    assert_eq!(ran.status, 134);
    for part in ["instance slots", "8 of one container", "engine.container-stacks raises"] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    assert_eq!(fixture.run(&["/few"], &[("/few", &few)]).await?.status, 0);
    Ok(())
}

#[tokio::test]
async fn stacks_of_calls_that_wait_count_against_the_memory_limit() -> Result {
    let fixture = Fixture::new(10).await?;
    let bundle = || fixture.harness.bundle("c", &["/c"]).file("/c", waiting_in(6, SHORT));
    // One and five further ones of 512 KiB.
    assert_eq!(fixture.run_bundle(bundle().memory_limit(4 << 20)).await?.status, 0);
    let ran = fixture.run_bundle(bundle().memory_limit(2 << 20)).await?;
    assert_eq!(ran.status, 137, "{}", ran.stderr);
    assert!(ran.stderr.contains("out of memory"), "{}", ran.stderr);
    Ok(())
}

#[tokio::test]
async fn calls_that_wait_leave_stacks_to_other_containers() -> Result {
    let fixture = Fixture::new(10).await?;
    let text = waiting_in(8, FOR_EVER);
    for id in ["a", "b"] {
        let bundle = fixture.harness.bundle(id, &["/c"]).file("/c", &text).write()?;
        fixture.client.create(id, &bundle, &Default::default(), &[]).await?;
        fixture.client.start(id).await?;
    }
    // Eight of ten are the first one's, so the second one ends.
    assert_eq!(tokio::time::timeout(FOR_EVER / 5, fixture.client.wait("b")).await??, 134);
    assert_eq!(fixture.client.state("a").await?.status, "RUNNING");
    let ran = fixture.run(&["/few"], &[("/few", &waiting_in(1, SHORT))]).await?;
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    fixture.client.kill("a", SIGKILL).await?;
    assert_eq!(fixture.client.wait("a").await?, 137);
    Ok(())
}

#[tokio::test]
async fn stacks_that_are_kept_after_calls_leave_stacks_to_other_containers() -> Result {
    let fixture = Fixture::new(8).await?;
    // Four stacks at once, of which it has two after a moment, and wasmtime keeps the others.
    let text = waiting(&[FOR_EVER, SHORT, SHORT]);
    let bundle = fixture.harness.bundle("a", &["/c"]).file("/c", &text).write()?;
    fixture.client.create("a", &bundle, &Default::default(), &[]).await?;
    fixture.client.start("a").await?;
    // Six processes are the share.
    for n in 0..5 {
        let exec = format!("e{n}");
        let spec = r#"{"user":{"uid":0,"gid":0},"args":["/c"],"cwd":"/"}"#;
        fixture.client.exec("a", &exec, spec, &Default::default()).await?;
        // Refused, or ended later, if the share is used up.
        drop(fixture.client.start(("a", exec.as_str())).await);
        tokio::time::sleep(3 * SHORT).await;
    }
    // What the first one leaves are two processes with two stacks each.
    for id in ["b", "c"] {
        let bundle =
            fixture.harness.bundle(id, &["/c"]).file("/c", waiting_in(1, FOR_EVER)).write()?;
        fixture.client.create(id, &bundle, &Default::default(), &[]).await?;
        fixture.client.start(id).await?;
    }
    tokio::time::sleep(5 * SHORT).await;
    for id in ["a", "b", "c"] {
        assert_eq!(fixture.client.state(id).await?.status, "RUNNING", "{id}");
        fixture.client.kill(id, SIGKILL).await?;
        fixture.client.wait(id).await?;
    }
    Ok(())
}
