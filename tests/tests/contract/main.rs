//! What the shim owes containerd and its users besides containers: its command line's answers, file systems given back,
//! `make install` and `make load`; what the libraries bring to an integrator's crate, releases, and blocks of the
//! documentation. Run by `make test`.

mod bootstrap;
mod docs;
mod integrator;
mod make;
mod release;
mod rootfs;
mod volatile;
