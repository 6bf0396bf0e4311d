//! Each guest does what it is there for, under a real containerd; run by `make test`. The list is made of the sources: a guest
//! without a case here does not compile, and neither does a case without a guest.

mod cases;

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use runwasi_tests::runtime::target_dir;

include!(concat!(env!("OUT_DIR"), "/each_guest.rs"));

macro_rules! suite_of {
    ($($guest:ident)*) => {
        runwasi_tests::suite! { wasmtime = Wasmtime, wasmtimed = Wasmtimed; { cases: $($guest)*; } }
    };
}
each_guest!(suite_of);

/// Guests that are there in a second form.
const FURTHER: [&str; 3] = ["resvg.component.wasm", "wasmtest-native", "wasmtest.component.wasm"];

macro_rules! files_of {
    ($($guest:ident)*) => { [$(concat!(stringify!($guest), ".wasm")),*] };
}

/// What is built of no source that is here is run by no test.
#[test]
fn every_file_that_is_built_belongs_to_a_guest() -> Result<()> {
    let guests = target_dir().join("guests");
    let files = std::fs::read_dir(&guests)
        .with_context(|| format!("{}: `make images`", guests.display()))?;
    let built = files
        .map(|file| Ok(file?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<BTreeSet<_>>>()?;
    let wanted = each_guest!(files_of)
        .into_iter()
        .chain(FURTHER)
        .map(str::to_owned)
        .collect::<BTreeSet<_>>();
    ensure!(built == wanted, "built {built:?}\nbut there are {wanted:?}");
    Ok(())
}
