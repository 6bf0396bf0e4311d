//! Programs that people have, in native containers beside wasm ones: they talk over localhost, and
//! execs run what their container has; the cases are listed in `main.rs`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::cri::messages::{ContainerState, Mount};
use runwasi_tests::{Image, Pod, Pods, Runtime, poll_until, says};

use crate::mixed::{NATIVE, WASM, line, start, volume};

/// Says one line about each connection, and answers as HTTP servers do.
const SERVER: &str = r#"
    $| = 1;
    my $listener = IO::Socket::INET->new(LocalAddr => "127.0.0.1:9090", Listen => 5) or die $@;
    print "listening\n";
    while (my $client = $listener->accept) {
        my $request = <$client>;
        print $client "HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\nby native\n";
        close $client;
    }"#;

/// Prints the body of an answer.
const CLIENT: &str = r#"
    my $server = IO::Socket::INET->new("127.0.0.1:8080") or die $@;
    print $server "GET / HTTP/1.0\r\n\r\n";
    1 while <$server> =~ /\S/;
    print <$server>;"#;

/// Seconds of an exec that ends by itself.
const PATIENCE: i64 = 30;

/// The programs of this machine and their libraries, as read-only volumes.
pub(crate) fn of_host() -> Vec<Mount> {
    let there = ["/usr", "/bin", "/lib", "/lib64"].into_iter().filter(|at| Path::new(at).exists());
    let mount = |place: &str| Mount {
        container_path: place.to_owned(),
        host_path: place.to_owned(),
        readonly: true,
        ..Mount::default()
    };
    there.map(mount).collect()
}

/// Starts a container with a program in Perl, which every Debian has.
fn perl(pods: &Pods, pod: &Pod, name: &str, program: &str) -> Result<String> {
    let command = ["/usr/bin/perl", "-MIO::Socket::INET", "-e", program];
    let image = Image::WasmtestNative.name();
    let container = pods.create_mounted(pod, name, image, &command, of_host())?;
    pods.cri.start(&container)?;
    Ok(container)
}

pub(crate) fn native_and_wasm_programs_talk_over_localhost(pods: &mut Pods) -> Result<()> {
    pods.load_image(Image::Wasmguests)?;
    let pod = pods.run("talking")?;
    let guest = |name: &str, words: &[&str]| -> Result<String> {
        let container = pods.create_of(&pod, name, Image::Wasmguests.name(), words)?;
        pods.cri.start(&container)?;
        Ok(container)
    };
    // It listens when it has started.
    guest("web", &["/http_hello.wasm"])?;
    let client = perl(pods, &pod, "client", CLIENT)?;
    ensure!(line(pods, &client)? == "Hello from wasm!");
    let server = perl(pods, &pod, "server", SERVER)?;
    let log = pods.status(&server)?.log_path;
    poll_until("the native server", Duration::from_secs(20), || {
        fs::read_to_string(&log).ok().filter(|log| log.contains("listening"))
    })?;
    let client = guest("guest", &["/net.wasm", "http-get", "http://127.0.0.1:9090/"])?;
    ensure!(pods.becomes(&client, ContainerState::Exited)?.exit_code == 0);
    let log = pods.status(&client)?.log_path;
    let seen = poll_until("the answer", Duration::from_secs(20), || {
        fs::read_to_string(&log).ok().filter(|log| log.lines().count() == 2)
    })?;
    ensure!(seen.ends_with(" stdout F by native\n"), "{seen}");
    pods.finish(&pod)?;
    pods.becomes_clean()
}

/// As probes of Kubernetes run them.
pub(crate) fn exec_runs_what_its_container_has(pods: &mut Pods) -> Result<()> {
    pods.load_image(Image::Wasmtest)?;
    let pod = pods.run("execs")?;
    let volume = volume(pods)?;
    fs::copy(Runtime::Runc.guest_file(), Path::new(&volume.host_path).join("native"))?;
    let wasm = start(pods, &pod, "wasm", &[WASM, "sleep", "100"])?;
    let runs = |container: &str, program: &str| -> Result<()> {
        let echo = pods.cri.exec(container, &[program, "echo", "by", program], PATIENCE)?;
        let said = String::from_utf8_lossy(&echo.stdout).into_owned();
        ensure!(echo.exit_code == 0 && said == format!("by {program}\n"), "{echo:?}");
        ensure!(pods.cri.exec(container, &[program, "exit", "5"], PATIENCE)?.exit_code == 5);
        Ok(())
    };
    runs(&wasm, WASM)?;
    let refused = pods.cri.exec(&wasm, &["/v/native", "echo", "native"], PATIENCE);
    let error = refused.err().context("a native program ran in a wasm container")?;
    says(&format!("{error:#}"), &["/v/native", "it is a native program (ELF)"], &[])?;
    ensure!(pods.fixture.delegates().is_empty(), "a native runtime was started");
    ensure!(pods.status(&wasm)?.state() == ContainerState::Running);
    let native = start(pods, &pod, "native", &[NATIVE, "sleep", "100"])?;
    runs(&native, NATIVE)?;
    runs(&wasm, WASM)?;
    pods.finish(&pod)?;
    pods.becomes_clean()
}

pub(crate) fn exec_beyond_its_time_is_killed_alone(pods: &mut Pods) -> Result<()> {
    let pod = pods.run("late")?;
    let container = pods.start_in(&pod, "sleeper", &["sleep", "100"])?;
    let guest = pods.runtime.guest();
    let late = pods.cri.exec(&container, &[guest, "sleep", "90"], 1);
    let error = late.err().context("an exec had more than its time")?;
    says(&format!("{error:#}"), &[], &["timeout", "deadline"])?;
    let listed = pods.fixture.ctr_in("k8s.io").args(["task", "ps", &container]).run()?.ok()?;
    // Below the title: the container's own process.
    ensure!(listed.out().lines().count() == 2, "{listed}");
    ensure!(pods.cri.exec(&container, &[guest, "exit", "5"], PATIENCE)?.exit_code == 5);
    ensure!(pods.status(&container)?.state() == ContainerState::Running);
    pods.finish(&pod)?;
    pods.becomes_clean()
}
