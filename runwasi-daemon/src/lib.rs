//! One wasm host for the whole node: the place of `containerd-wasmtimed` and its thin shim. Nothing is here yet.
