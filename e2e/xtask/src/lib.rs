//! Builds what needs no running cluster: Debian packages, programs of Kubernetes, images, and parts of docs/benchmarks.md. The
//! command line (`xtask`) calls it, and so does the lab, which runs what is built here. It starts nothing that stays.
#![forbid(unsafe_code)]

pub mod checkout;
pub mod interrupt;
pub mod ticks;
pub mod process;

pub mod packages;
pub mod tools;
pub mod image;
pub mod page;
