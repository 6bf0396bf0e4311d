//! Wasm images in pods, through containerd's CRI; the cases are listed in `main.rs`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::cri::messages::ContainerState;
use runwasi_tests::runtime::WasmImage;
use runwasi_tests::{Image, Pod, Pods, Registry, poll_until};

const FORMS: [WasmImage; 3] = [WasmImage::Oci, WasmImage::Artifact, WasmImage::Several];

pub(crate) fn imported_wasm_images_run_in_a_pod(pods: &mut Pods) -> Result<()> {
    let pod = pods.run("wasm")?;
    for form in FORMS {
        let image = Image::Wasm(form);
        pods.load_image(image)?;
        says_hello_and_echoes(pods, &pod, form, image.name())
            .with_context(|| format!("{form:?}"))?;
    }
    pods.finish(&pod)?;
    pods.becomes_clean()
}

pub(crate) fn pulled_wasm_images_run_in_a_pod(pods: &mut Pods) -> Result<()> {
    let registry = Registry::start(&FORMS.map(Image::Wasm))?;
    let pod = pods.run("wasm")?;
    for form in FORMS {
        let name = registry.name(Image::Wasm(form));
        let id = pods.cri.pull(&name).with_context(|| format!("{form:?}"))?;
        // By its name, and as the kubelet does, by its id.
        says_hello_and_echoes(pods, &pod, form, &name).with_context(|| format!("{form:?}"))?;
        echoes(pods, &pod, "by-id", &id).with_context(|| format!("{form:?}"))?;
    }
    pods.finish(&pod)?;
    pods.becomes_clean()
}

/// A container that runs what the image says, if it says anything, and one that is told what to run.
fn says_hello_and_echoes(pods: &Pods, pod: &Pod, form: WasmImage, image: &str) -> Result<()> {
    if form.has_standard_config() {
        let container = pods.create_of(pod, "hello", image, &[])?;
        printed(pods, &container, "Hello from wasm!")?;
    }
    echoes(pods, pod, "echo", image)
}

fn echoes(pods: &Pods, pod: &Pod, name: &str, image: &str) -> Result<()> {
    let container = pods.create_of(pod, name, image, &["/wasmtest.wasm", "echo", image])?;
    printed(pods, &container, image)
}

/// Starts a container and demands that this is all it prints; its name is free then.
fn printed(pods: &Pods, container: &str, text: &str) -> Result<()> {
    pods.cri.start(container)?;
    let status = pods.becomes(container, ContainerState::Exited)?;
    ensure!(status.exit_code == 0, "{status:?}");
    // containerd closes the log when it has read all, a moment after it heard of the end.
    let log = poll_until("a line in the log", Duration::from_secs(5), || {
        fs::read_to_string(&status.log_path).ok().filter(|log| log.ends_with('\n'))
    })?;
    ensure!(log.lines().count() == 1 && log.ends_with(&format!(" stdout F {text}\n")), "{log:?}");
    pods.cri.remove(container)?;
    Ok(fs::remove_file(&status.log_path)?)
}
