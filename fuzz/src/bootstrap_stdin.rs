//! Stdin of `start`.

use std::path::Path;

use containerd_shim_protos::{bootstrap_api::BootstrapResult, protobuf::Message};
use runwasi_core::{
    Id,
    bootstrap::{
        BootstrapError,
        invocation::Invocation,
        socket::{self, MAX_PATH},
    },
    fuzzing,
};

/// The ids of the seeds, without which the bytes are no params.
const ID: &str = "c1";
const NAMESPACE: &str = "default";
const ADDRESS: &str = "/run/containerd/containerd.sock";

/// The socket lies in the directory that was named, and has a path that can be bound. Events always
/// have an address. The reply is one that containerd reads.
pub fn check(stdin: &[u8]) {
    let id = |text| Id::parse("id", text).expect("a valid id");
    let invocation = Invocation {
        namespace: id(NAMESPACE),
        id: id(ID),
        address: ADDRESS.to_owned(),
        bundle: "/bundle".into(),
        debug: false,
    };
    let input = fuzzing::start_input(stdin, &invocation);
    let directory = Path::new(input.socket_directory().unwrap_or("/run/containerd/s"));
    match input.socket(&invocation, &invocation.id) {
        Ok(path) => {
            assert!(path.as_os_str().len() <= MAX_PATH, "{path:?}");
            assert_eq!(path.parent(), Some(directory));
            check_reply(&input.reply(&socket::address(&path)).expect("a reply"), &path);
        }
        Err(BootstrapError::SocketPath { length, .. }) => assert!(length > MAX_PATH),
        Err(other) => panic!("{other}"),
    }
    assert!(!input.ttrpc_address(&invocation).is_empty());
}

/// A reply is the bare address, or a message with it.
fn check_reply(reply: &[u8], path: &Path) {
    let address = socket::address(path);
    if reply != address.as_bytes() {
        let message = BootstrapResult::parse_from_bytes(reply).expect("a message");
        assert_eq!(message.address, address);
        assert_eq!(message.protocol, "ttrpc");
    }
}
