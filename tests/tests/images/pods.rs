//! Wasm images in pods, through containerd's CRI; the cases are listed in `main.rs`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_image::image::WASM_LAYERS;
use runwasi_image::{ImageBuilder, WasmForm, WasmLayer};
use runwasi_tests::cri::messages::{ContainerState, ImageSpec};
use runwasi_tests::runtime::WasmImage;
use runwasi_tests::{Image, Pod, Pods, Registry, poll_until, says};

use crate::fixture::exiting;

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
    let log = poll_until("a line in the log", Duration::from_secs(20), || {
        fs::read_to_string(&status.log_path).ok().filter(|log| log.ends_with('\n'))
    })?;
    ensure!(log.lines().count() == 1 && log.ends_with(&format!(" stdout F {text}\n")), "{log:?}");
    pods.cri.remove(container)?;
    Ok(fs::remove_file(&status.log_path)?)
}

/// Names and exit statuses of modules in images of one config, which are one image to the CRI.
const TWINS: [(&str, u8); 2] = [("first", 3), ("second", 5)];

pub(crate) fn image_that_a_pod_names_runs_although_another_has_its_config(
    pods: &mut Pods,
) -> Result<()> {
    let pod = pods.run("twins")?;
    let id = import_twins(pods)?;
    for (name, status) in TWINS {
        // As the kubelet does: by the image's id, with its name as the pod has it.
        let image = ImageSpec { image: id.clone(), user_specified_image: name.to_owned() };
        let container = pods.create_of(&pod, name, image, &["x"])?;
        pods.cri.start(&container)?;
        let ended = pods.becomes(&container, ContainerState::Exited)?;
        ensure!(ended.exit_code == i32::from(status), "{name}: {ended:?}");
    }
    pods.finish(&pod)?;
    pods.becomes_clean()
}

pub(crate) fn images_of_one_config_are_refused_if_the_pod_names_none(
    pods: &mut Pods,
) -> Result<()> {
    let pod = pods.run("twins")?;
    let id = import_twins(pods)?;
    for image in [id.as_str(), &full_name(TWINS[0].0), &full_name(TWINS[1].0)] {
        let container = pods.create_of(&pod, "twin", image, &["x"])?;
        let error = pods.cri.start(&container).err().context("one of two images was run")?;
        let names = TWINS.map(|(name, _)| full_name(name));
        let named = [names[0].as_str(), &names[1], "the same config"];
        says(&format!("{error:#}"), &named, &[])?;
        pods.cri.remove(&container)?;
    }
    pods.finish(&pod)?;
    pods.becomes_clean()
}

fn full_name(name: &str) -> String {
    format!("docker.io/library/{name}:latest")
}

/// Gives the id of both.
fn import_twins(pods: &Pods) -> Result<String> {
    for (name, status) in TWINS {
        let (file, tar) = (pods.fixture.dir().join(name), pods.fixture.dir().join("twin.tar"));
        fs::write(&file, exiting(status, &file.to_string_lossy()))?;
        let layer =
            WasmLayer { file, title: "x".to_owned(), media_type: WASM_LAYERS[0].to_owned() };
        let builder = ImageBuilder::new(full_name(name));
        fs::write(&tar, builder.wasm_tar(&[layer], WasmForm::EmptyConfig)?)?;
        pods.import(&full_name(name), &tar)?;
    }
    let ids = TWINS.map(|(name, _)| pods.cri.image_id(&full_name(name)));
    let [first, second] = ids;
    let (first, second) = (first?, second?);
    ensure!(first == second, "{first} is not {second}: the test shows nothing");
    Ok(first)
}

/// The CRI looks for this machine's platform alone.
pub(crate) fn index_for_wasm_alone_is_not_pulled_for_a_pod(pods: &mut Pods) -> Result<()> {
    let image = Image::Wasm(WasmImage::OciIndex);
    let registry = Registry::start(&[image])?;
    let refused = pods.cri.pull(&registry.name(image)).err().context("it was pulled")?;
    says(&format!("{refused:#}"), &["no match for platform"], &[])?;
    pods.becomes_clean()
}
