//! Guests that are wasm layers of an image instead of files: what is read of them, and how often.

use std::sync::Arc;

use runwasi_core::{
    network::Network,
    testing::{Harness, ImageStore},
};
use runwasi_wasmtime::{Settings, WasmtimeEngine};

use super::{Fixture, Ran, Result, printing};

const IMAGE: &str = "docker.io/library/layers:1";

/// A fixture whose containers are made from what is on the shelf.
async fn fixture(shelf: &Arc<ImageStore>, cache: Arc<tempfile::TempDir>) -> Result<Fixture> {
    let directory = cache.path().join("code");
    let settings = Settings { slots: 10, cache: Some(directory), ..Settings::default() };
    let harness =
        Harness::start_with(WasmtimeEngine::new(&settings)?, Network::of_process(), shelf.clone())?;
    let client = harness.client().await?;
    Ok(Fixture { harness, client, cache })
}

fn printed(text: &str) -> Ran {
    Ran { status: 0, stdout: text.into(), stderr: String::new() }
}

#[tokio::test]
async fn a_layer_is_read_once_and_never_again_while_its_code_is_kept() -> Result {
    let (shelf, cache) = (Arc::new(ImageStore::default()), Arc::new(tempfile::tempdir()?));
    let hello = printing("layer");
    shelf.put(IMAGE, &[("a.wasm", hello.as_bytes())]);
    let one = fixture(&shelf, cache.clone()).await?;
    assert_eq!(one.run(&["/a.wasm"], &[]).await?, printed("layer"));
    assert_eq!(one.run(&["/any", "words"], &[]).await?, printed("layer"));
    assert_eq!(one.run(&["/a.wasm#again"], &[]).await?, printed("layerlayer"));
    assert_eq!(shelf.reads(), 1);
    // Another process of the node, to which it is all new, has the code of the first.
    shelf.damage(hello.as_bytes(), None);
    let other = fixture(&shelf, cache).await?;
    assert_eq!(other.run(&["/a.wasm"], &[]).await?, printed("layer"));
    assert_eq!(shelf.reads(), 1);
    Ok(())
}

#[tokio::test]
async fn of_several_layers_only_the_one_that_is_meant_is_read() -> Result {
    let shelf = Arc::new(ImageStore::default());
    let (one, two) = (printing("one"), printing("two"));
    shelf.put(IMAGE, &[("one.wasm", one.as_bytes()), ("two.wasm", two.as_bytes())]);
    let fixture = fixture(&shelf, Arc::new(tempfile::tempdir()?)).await?;
    assert_eq!(fixture.run(&["/two.wasm"], &[]).await?, printed("two"));
    assert_eq!(shelf.reads(), 1);
    let refused = fixture.refused(&["/three.wasm"], &[]).await?;
    assert!(refused.message.contains("only one.wasm, two.wasm"), "{refused}");
    assert_eq!(shelf.reads(), 1);
    Ok(())
}

#[tokio::test]
async fn a_file_is_taken_before_a_layer_and_nothing_is_asked_for_it() -> Result {
    let shelf = Arc::new(ImageStore::default());
    shelf.put(IMAGE, &[("a.wat", printing("layer").as_bytes())]);
    let fixture = fixture(&shelf, Arc::new(tempfile::tempdir()?)).await?;
    assert_eq!(fixture.run(&["/a.wat"], &[("/a.wat", &printing("file"))]).await?, printed("file"));
    assert_eq!(shelf.reads(), 0);
    Ok(())
}

#[tokio::test]
async fn bytes_of_another_digest_are_refused_and_kept_nowhere() -> Result {
    let shelf = Arc::new(ImageStore::default());
    let (right, wrong) = (printing("right"), printing("wrong"));
    shelf.put(IMAGE, &[("a.wasm", right.as_bytes())]);
    shelf.damage(right.as_bytes(), Some(wrong.as_bytes()));
    let fixture = fixture(&shelf, Arc::new(tempfile::tempdir()?)).await?;
    let refused = fixture.refused(&["/a.wasm"], &[]).await?;
    assert!(refused.message.contains("damaged") && refused.message.contains(IMAGE), "{refused}");
    assert_eq!(fixture.cached()?.len(), 0);
    shelf.damage(right.as_bytes(), Some(right.as_bytes()));
    assert_eq!(fixture.run(&["/a.wasm"], &[]).await?, printed("right"));
    Ok(())
}
