//! Builds what needs no running cluster: Debian packages, programs of Kubernetes, images, releases, parts of
//! docs/benchmarks.md, and the site of the docs. Checks the CRDs and the chart with programs of other projects. The command line (`xtask`) uses
//! it, and so does the lab, which runs the results. It starts no process that continues after it.
#![forbid(unsafe_code)]

pub mod checkout;
pub mod interrupt;
pub mod ticks;
pub mod process;

pub mod packages;
pub mod tools;
pub mod source;
mod third_party;
mod sbom;
pub mod image;
mod chart;
pub mod plugin;
pub mod push;
pub mod release;
pub mod page;
pub mod book;
pub mod crds;
pub mod kube_score;
