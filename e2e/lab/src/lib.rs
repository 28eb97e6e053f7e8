//! Starts real clusters and machines, and asks for their state: a Kubernetes cluster whose nodes have their own clocks,
//! machines without Kubernetes, and time servers whose time can be changed. Tests and measurements use its parts. It
//! must never move the clock of the host: nothing that it starts has CAP_SYS_TIME.
//!
//! A program that starts time servers ([`upstream::up`]) has the hidden subcommand [`liar::VERB`], which calls
//! [`liar::serve`]: it runs itself again as the server.
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
pub mod registry;
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
pub mod prometheus;
pub mod install;
pub mod under_test;
