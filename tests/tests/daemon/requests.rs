//! Requests that the manager socket must refuse; the cases are listed in `main.rs`.

use anyhow::{Result, bail};
use containerd_shim_protos::ttrpc::Error;
use prost::Message;
use runwasi_tests::{ShimDriver, says};

use crate::api::{Create, PROTOCOL, call, refusal};
use crate::witness::{Witness, bundle};

pub(crate) fn unknown_protocols_are_refused(p: &ShimDriver) -> Result<()> {
    let witness = Witness::start(p, "witness")?;
    let bundle = bundle(p, "new")?;
    for protocol in [0, PROTOCOL + 1, u32::MAX] {
        let create = Create { protocol, ..Create::of(p, "new", bundle.path()) };
        let only = Create { protocol, ..Create::default() };
        let (create, only) = (create.encode_to_vec(), only.encode_to_vec());
        for (method, payload) in [
            ("Create", create),
            ("Connect", only.clone()),
            ("Delete", only.clone()),
            ("List", only),
        ] {
            let said = refusal(p, method, payload)?;
            says(&said, &["protocol", &protocol.to_string(), &PROTOCOL.to_string()], &[])?;
        }
    }
    witness.is_undisturbed(p)?;
    witness.end(p)?;
    p.becomes_clean()
}

pub(crate) fn unknown_methods_are_refused(p: &ShimDriver) -> Result<()> {
    let witness = Witness::start(p, "witness")?;
    for method in ["", "Destroy", "create", &"x".repeat(100_000)] {
        match call(p, method, Vec::new()) {
            Err(Error::RpcStatus(status)) => says(&status.message, &[method], &[])?,
            other => bail!("{method:?} is not refused: {other:?}"),
        }
    }
    witness.is_undisturbed(p)?;
    witness.end(p)?;
    p.becomes_clean()
}

pub(crate) fn garbage_for_a_message_is_refused(p: &ShimDriver) -> Result<()> {
    let witness = Witness::start(p, "witness")?;
    let bundle = bundle(p, "new")?;
    let right = Create::of(p, "new", bundle.path());
    // A string that ends after the message, no UTF-8, a field of another type, and half of a right one.
    let half = right.encode_to_vec();
    let broken = [
        vec![0x12, 0xff, 0x01],
        vec![0x12, 1, 0xff],
        vec![0x0a, 1, b'x'],
        half[..half.len() / 2].to_vec(),
    ];
    for payload in broken {
        refusal(p, "Create", payload)?;
    }
    let wrong = [
        (&["id", "a/b"][..], Create { id: "a/b".to_owned(), ..right.clone() }),
        (&["id"], Create { id: String::new(), ..right.clone() }),
        (&["id", "xxx"], Create { id: "x".repeat(4000), ..right.clone() }),
        (&["id", "../up"], Create { group: "../up".to_owned(), ..right.clone() }),
        (&["namespace", "../up"], Create { namespace: "../up".to_owned(), ..right.clone() }),
        (&["bundle"], Create { bundle: String::new(), ..right.clone() }),
        (&["bundle", "relative"], Create { bundle: "relative".to_owned(), ..right }),
    ];
    for (names, request) in wrong {
        let said = refusal(p, "Create", request.encode_to_vec())?;
        says(&said, names, &[])?;
        anyhow::ensure!(
            said.len() < 2000,
            "the message repeats all of the bad field: {} bytes",
            said.len()
        );
    }
    witness.is_undisturbed(p)?;
    witness.end(p)?;
    p.becomes_clean()
}
