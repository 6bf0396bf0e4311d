//! Names that are no names, and calls in the wrong state; the cases are listed in `main.rs`.

use anyhow::{Context, Result, ensure};
use containerd_shim_protos::api::{ConnectRequest, ConnectResponse};
use runwasi_tests::ShimDriver;
use runwasi_tests::shim::{LIMIT, TASK_V2, TASK_V3, TaskClient, reason};

pub(crate) fn id_with_a_slash_is_refused(p: &ShimDriver) -> Result<()> {
    id_is_refused(p, "a/b", "a/b")
}

pub(crate) fn id_with_dots_is_refused(p: &ShimDriver) -> Result<()> {
    id_is_refused(p, "..", "..")?;
    id_is_refused(p, "../../../tmp/x", "../../../tmp/x")
}

pub(crate) fn id_of_4000_characters_is_refused(p: &ShimDriver) -> Result<()> {
    id_is_refused(p, &"x".repeat(4000), "xxx")
}

pub(crate) fn missing_id_is_refused(p: &ShimDriver) -> Result<()> {
    id_is_refused(p, "", "id")
}

fn id_is_refused(p: &ShimDriver, id: &str, shown: &str) -> Result<()> {
    let bundle = p.bundle("bundle", &["/a"])?;
    let said = p.start(id, bundle.path())?.refused()?;
    super::says(&said, &["id", shown], &[])?;
    ensure!(said.len() < 2000, "the message repeats all of the bad id: {} bytes", said.len());
    // Nor may `delete` reach outside.
    p.command(id, bundle.path())
        .args(["-bundle", &bundle.path().to_string_lossy(), "delete"])
        .run()?;
    p.becomes_clean()?;
    ensure!(bundle.entries().is_empty(), "left in the bundle: {:?}", bundle.entries());
    Ok(())
}

pub(crate) fn namespace_with_a_path_is_refused(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("x", &["/a"])?;
    // The last one of a repeated flag counts.
    let said =
        p.command("x", bundle.path()).args(["-namespace", "../up", "start"]).run()?.refused()?;
    super::says(&said, &["namespace", "../up"], &[])?;
    p.becomes_clean()
}

pub(crate) fn wrong_directory_of_compiled_code_is_refused_by_its_variable(
    p: &ShimDriver,
) -> Result<()> {
    let bundle = p.bundle("x", &["/a"])?;
    let command = |value: &str| p.command("x", bundle.path()).env("RUNWASI_CACHE", value);
    for (value, reason) in [
        ("", "RUNWASI_CACHE: is empty"),
        ("code", "RUNWASI_CACHE: \"code\" is not an absolute path"),
    ] {
        let said = command(value).args(["start"]).run()?.refused()?;
        super::says(&said, &[reason], &[])?;
        p.becomes_clean()?;
        // A container of before the variable can be removed.
        let path = bundle.path().to_string_lossy();
        command(value).args(["-bundle", &path, "delete"]).run()?.ok()?;
    }
    Ok(())
}

pub(crate) fn create_with_a_bad_id_is_refused(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("good", &["/a"])?;
    let client = p.connect("good", bundle.path())?;
    for id in ["", "a/b", "..", &"x".repeat(4000)] {
        let error = client
            .create(id, bundle.path(), &[])
            .err()
            .with_context(|| format!("{id:?} was created"))?;
        super::says(&reason(&error), &["id"], &[])?;
    }
    p.finish(&client, "good", bundle.path())?;
    p.becomes_clean()
}

/// The surroundings of all cases above are right: a container goes through its whole life here.
pub(crate) fn good_container_runs(p: &ShimDriver) -> Result<()> {
    let (bundle, client) = sleeping(p)?;
    end(p, &client, &bundle)?;
    p.hears(&["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"])
}

pub(crate) fn second_start_is_denied_by_the_shim(p: &ShimDriver) -> Result<()> {
    let (bundle, client) = sleeping(p)?;
    let error = client.start("good").err().context("started twice")?;
    super::says(&reason(&error), &["good"], &["start", "running"])?;
    end(p, &client, &bundle)
}

pub(crate) fn delete_before_exit_is_denied_by_the_shim(p: &ShimDriver) -> Result<()> {
    let (bundle, client) = sleeping(p)?;
    let error = client.delete("good").err().context("deleted while running")?;
    super::says(&reason(&error), &["good"], &["running", "exit", "delete"])?;
    end(p, &client, &bundle)
}

pub(crate) fn calls_for_an_unknown_id_fail(p: &ShimDriver) -> Result<()> {
    let (bundle, client) = sleeping(p)?;
    for error in
        [client.start("nobody").err(), client.wait("nobody").err(), client.delete("nobody").err()]
    {
        super::says(
            &reason(&error.context("nobody answered")?),
            &["nobody"],
            &["not found", "no such", "unknown"],
        )?;
    }
    let error = client.kill("nobody", 9).err().context("nobody was killed")?;
    super::says(&reason(&error), &["nobody"], &["not found", "no such", "unknown"])?;
    end(p, &client, &bundle)
}

pub(crate) fn both_service_names_are_served(p: &ShimDriver) -> Result<()> {
    let (bundle, client) = sleeping(p)?;
    let mut request = ConnectRequest::new();
    request.id = "good".to_owned();
    for service in [TASK_V2, TASK_V3] {
        let answer: ConnectResponse = client.speaking(service).call("Connect", &request, LIMIT)?;
        ensure!(
            answer.shim_pid == p.shims()[0].pid && answer.task_pid > 0,
            "{service}: {answer:?}"
        );
    }
    end(p, &client, &bundle)
}

/// A running container `good` that only ends when killed.
pub(crate) fn sleeping(p: &ShimDriver) -> Result<(runwasi_tests::bundle::Bundle, TaskClient)> {
    let bundle = p.bundle("good", &[p.runtime().guest(), "sleep", "100"])?;
    bundle.add_guests()?;
    let client = p.connect("good", bundle.path())?;
    client.create("good", bundle.path(), &[])?;
    client.start("good")?;
    Ok((bundle, client))
}

/// Kills and removes it, and demands that nothing is left.
pub(crate) fn end(
    p: &ShimDriver,
    client: &TaskClient,
    bundle: &runwasi_tests::bundle::Bundle,
) -> Result<()> {
    client.kill("good", 9)?;
    let status = client.wait("good")?.exit_status;
    ensure!(status == 137, "status {status}");
    ensure!(client.delete("good")?.exit_status == 137);
    p.finish(client, "good", bundle.path())?;
    p.becomes_clean()
}
