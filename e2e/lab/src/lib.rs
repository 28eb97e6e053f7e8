//! Brings up real things and asks them: a Kubernetes cluster whose nodes have clocks of their own, machines without
//! Kubernetes, time servers whose time can be bent. Tests and measurements are made of its parts. It must never move the
//! clock of the machine it runs on: what it starts has no CAP_SYS_TIME.
//!
//! A program that starts time servers ([`upstream::up`]) has the hidden subcommand [`liar::VERB`], which calls
//! [`liar::serve`]: such a server is the program itself, started once more.
#![forbid(unsafe_code)]

pub mod alone;
pub mod readings;
pub mod wait;
pub mod daemon;

mod kernel;
mod cpio;
pub mod vm_image;

pub mod pki;
pub mod network;
pub mod upstream;
pub mod liar;
pub mod control_plane;
pub mod node;
mod channel;
pub mod vm;
pub mod machine;
mod qmp;
pub mod cluster;

pub mod truth;
pub mod calendar;
pub mod kubectl;
pub mod agent_http;
pub mod ntp_query;
pub mod install;
pub mod under_test;
