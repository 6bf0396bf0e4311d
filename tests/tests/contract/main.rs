//! What the shim owes containerd and its users besides containers: its command line's answers, file systems given back,
//! `make install` and `make load`; run by `make test`.

mod bootstrap;
mod make;
mod rootfs;
