//! Reads the tars back as containerd would: every digest and size must fit, and equal input gives equal bytes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Read;
use std::path::Path;

use runwasi_image::image::WASM_LAYERS;
use runwasi_image::layout::digest;
use runwasi_image::{ImageBuilder, WasmForm, WasmLayer, cli};
use serde_json::{Value, json};

const NAME: &str = "docker.io/library/wasmtest:latest";
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

fn linux() -> Vec<u8> {
    ImageBuilder::new(NAME)
        .entrypoint(["/wasmtest.wasm"])
        .cmd(["echo", "hi"])
        .env(["A=1"])
        .workdir("/tmp")
        .user("1000:1000")
        .file(Path::new("Cargo.toml"), "/etc/motd", 0o644)
        .unwrap()
        .directory("/tmp", 0o1777)
        .unwrap()
        .linux_tar()
        .unwrap()
}

fn wasm(form: WasmForm) -> Vec<u8> {
    wasm_of(ImageBuilder::new(NAME), form, "application/wasm", &[("a.wasm", MODULE)])
}

fn wasm_of(
    image: ImageBuilder,
    form: WasmForm,
    media_type: &str,
    layers: &[(&str, &[u8])],
) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let write = |(title, content): &(&str, &[u8])| {
        let file = folder.path().join(title);
        std::fs::write(&file, content).unwrap();
        WasmLayer { file, title: (*title).to_owned(), media_type: media_type.to_owned() }
    };
    let layers: Vec<_> = layers.iter().map(write).collect();
    image.wasm_tar(&layers, form).unwrap()
}

fn unpack(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (path, content)
    });
    entries.collect()
}

/// The blob a descriptor names, after checking that name and size are true.
fn blob<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
    let expected = descriptor["digest"].as_str().unwrap();
    let content = &files[&format!("blobs/{}", expected.replace(':', "/"))];
    assert_eq!(digest(content), expected);
    assert_eq!(descriptor["size"], content.len());
    content
}

/// (manifest's descriptor, manifest, config, layers), following every digest from the index down.
fn follow(tar: &[u8]) -> (Value, Value, Value, Vec<Vec<u8>>) {
    let files = unpack(tar);
    let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let descriptor = index["manifests"][0].clone();
    let mut manifest: Value = serde_json::from_slice(blob(&files, &descriptor)).unwrap();
    let mut named = ["oci-layout", "index.json", "manifest", "config"].len();
    if descriptor["mediaType"] == "application/vnd.oci.image.index.v1+json" {
        named += 1;
        assert_eq!(manifest["manifests"][0]["platform"]["architecture"], "wasm");
        manifest = serde_json::from_slice(blob(&files, &manifest["manifests"][0])).unwrap();
    }
    let config = serde_json::from_slice(blob(&files, &manifest["config"])).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    let layers: Vec<_> = layers.iter().map(|l| blob(&files, l).to_vec()).collect();
    let distinct: BTreeSet<_> = layers.iter().collect();
    assert_eq!(
        files.len(),
        named + distinct.len(),
        "nothing but what is referenced, and that once"
    );
    (descriptor, manifest, config, layers)
}

#[test]
fn every_digest_of_a_linux_image_matches_its_blob() {
    let (descriptor, manifest, config, layers) = follow(&linux());
    let names = &descriptor["annotations"];
    assert_eq!(names["io.containerd.image.name"], NAME);
    assert_eq!(names["org.opencontainers.image.ref.name"], "latest");
    assert_eq!(descriptor["platform"]["os"], "linux");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");
    assert_eq!(config["rootfs"]["diff_ids"], json!([digest(&layers[0])]));
    let process = json!({
        "Entrypoint": ["/wasmtest.wasm"], "Cmd": ["echo", "hi"], "Env": ["A=1"],
        "WorkingDir": "/tmp", "User": "1000:1000",
    });
    assert_eq!(config["config"], process);
    assert_eq!(unpack(&layers[0]).len(), ["etc", "etc/motd", "tmp"].len());
}

#[test]
fn every_digest_of_a_wasm_artifact_matches_its_blob() {
    let (descriptor, manifest, config, layers) = follow(&wasm(WasmForm::Artifact));
    let platform = json!({"architecture": "wasm", "os": "wasip1"});
    assert_eq!(descriptor["platform"], platform);
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    assert_eq!(
        manifest["layers"][0]["annotations"],
        json!({"org.opencontainers.image.title": "a.wasm"})
    );
    assert_eq!(layers, [MODULE]);
    assert_eq!(config["layerDigests"], json!([digest(MODULE)]));
}

#[test]
fn several_layers_of_any_type_have_their_titles_and_equal_ones_one_blob() {
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    let several: [(&str, &[u8]); 3] =
        [("a.wasm", MODULE), ("b.wasm", COMPONENT), ("c.wasm", MODULE)];
    for media_type in WASM_LAYERS {
        for form in [WasmForm::Artifact, WasmForm::ImageConfig] {
            let tar = wasm_of(ImageBuilder::new(NAME).indexed(), form, media_type, &several);
            let (_, manifest, config, layers) = follow(&tar);
            assert_eq!(layers, [MODULE, COMPONENT, MODULE]);
            assert_eq!(config["os"], "wasip2");
            for (layer, (title, _)) in manifest["layers"].as_array().unwrap().iter().zip(several) {
                assert_eq!(layer["mediaType"], media_type);
                assert_eq!(layer["annotations"]["org.opencontainers.image.title"], title);
            }
        }
    }
}

#[test]
fn a_wasm_image_with_standard_config_has_nothing_for_containerd_to_unpack() {
    let (_, manifest, config, layers) = follow(&wasm(WasmForm::ImageConfig));
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    assert_eq!(layers, [MODULE]);
    assert_eq!(config["rootfs"]["diff_ids"], json!([]));
    // Images of the same process and other modules have other configs, by which the CRI knows them.
    let by = format!("wasm layer {}", digest(MODULE));
    assert_eq!(config["history"], json!([{"created_by": by, "empty_layer": true}]));
}

#[test]
fn equal_input_gives_equal_bytes() {
    // Annotations live in hash maps with a random order per map: several rounds, or luck could hide it.
    for _ in 0..8 {
        assert_eq!(linux(), linux());
        assert_eq!(wasm(WasmForm::Artifact), wasm(WasmForm::Artifact));
    }
}

#[test]
fn bad_arguments_are_refused_with_the_culprit_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.wasm");
    std::fs::write(&text, "no wasm").unwrap();
    let text = text.to_str().unwrap();
    let module = folder.path().join("a.wasm");
    std::fs::write(&module, MODULE).unwrap();
    let module = module.to_str().unwrap();
    let output = folder.path().join("out.tar");
    let output = output.to_str().unwrap();
    let wasm = ["wasm", "--name", NAME, "--output", output];
    let linux = ["linux", "--name", NAME, "--output", output];
    let cases: &[(&[&str], &[&str], &str)] = &[
        (&[], &[], "no form"),
        (&["zip"], &[], "\"zip\""),
        (&linux, &["--no-such"], "--no-such"),
        (&linux, &["--file", "/no/such:/a"], "/no/such"),
        (&linux, &["--file", "nothing"], "\"nothing\""),
        (&linux, &["--file", "Cargo.toml:/a:9"], "\"9\""),
        (&linux, &["--file", "Cargo.toml:a"], "\"a\""),
        (&linux, &["--dir", "/a:77777"], "\"77777\""),
        (&linux, &["--env", "novalue"], "\"novalue\""),
        (&linux, &["--workdir", "here"], "\"here\""),
        (&linux, &["--image-config"], "--image-config"),
        (&linux, &["--layer-type", "application/wasm"], "--layer-type"),
        (&linux, &["stray"], "stray"),
        (&["linux", "--output", output], &[], "--name"),
        (&["linux", "--name", "short"], &[], "\"short\""),
        (&["linux", "--name", NAME], &[], "--output"),
        (&["linux", "--name", NAME, "--output", "/no/such/x.tar"], &[], "/no/such/x.tar"),
        (&wasm, &[], "MODULE"),
        (&wasm, &["/no/such.wasm"], "/no/such.wasm"),
        (&wasm, &[text], text),
        (&wasm, &["--entrypoint", "/a", "Cargo.toml"], "Cargo.toml"),
        (&wasm, &["--layer-type", "application/x", module], "\"application/x\""),
        (&wasm, &["Cargo.toml:"], "\"Cargo.toml:\""),
    ];
    for (first, rest, culprit) in cases {
        let arguments = first.iter().chain(*rest).map(OsString::from);
        let error = cli::run(arguments).expect_err(&format!("{first:?} {rest:?} is refused"));
        let message = format!("{error:#}");
        assert!(message.contains(culprit), "{first:?} {rest:?}: {message}");
    }
    assert!(!Path::new(output).exists(), "a refused image leaves no file");
}
