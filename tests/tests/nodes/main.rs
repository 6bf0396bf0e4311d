//! The way onto a node: the installer with real containerds, its image, and the manifests of `deploy`; run by `make test`.

mod chart;
mod fixture;
mod image;
mod manifests;
mod real;
