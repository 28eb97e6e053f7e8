//! The static pod that runs `timesync-agent boot` at the node's next boot. The agent keeps three files for it: the
//! `manifest` in kubelet's folder and, in the state folder, a copy of its own program and the file with which the
//! program runs. All three are written again after an upgrade, and removed when they are not wanted. The agent never
//! talks to kubelet.
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use contract::{BootPodState, BootReport};
use profile::{Agent, AgentFile, BootPod};
use tracing::{info, warn};

use crate::{exposure, host_root::HostRoot, load, state::State};

mod error;

mod own_file;

mod manifest;
mod program;

use error::Error;
use own_file::{put, take_away};
use program::{CONFIG, Program};

/// Keeps the files up to date, or keeps them removed.
#[derive(Debug)]
pub(crate) struct BootPodKeeper {
    orders: BootPod,
    host: HostRoot,
    state: Arc<State>,
    state_directory: PathBuf,
    /// The desired content of the manifest.
    manifest: String,
    config: String,
    program: Program,
    looked: Option<Instant>,
    /// Since when everything is in place, as far as the agent knows.
    installed: Option<Instant>,
    told: Option<BootReport>,
}

/// Interval between two looks: a request to remove the pod is carried out within a second.
const INTERVAL: Duration = Duration::from_millis(500);

/// Kubelet starts a pod within seconds of seeing its manifest. On a busy node it takes longer.
const KUBELET_TIMEOUT: Duration = Duration::from_secs(120);

impl BootPodKeeper {
    /// The keeper of the pod that `file`, the agent's own file, asks for; none if it does not mention the pod.
    pub(crate) fn new(file: &AgentFile, state: Arc<State>) -> Option<Self> {
        let orders = file.agent.boot.clone()?;
        Some(Self {
            manifest: manifest::text(&orders, &file.agent),
            config: config_text(file),
            host: HostRoot::new(file.agent.host_root.clone()),
            program: Program::new(&file.agent.state_directory),
            state_directory: file.agent.state_directory.clone(),
            state,
            orders,
            looked: None,
            installed: None,
            told: None,
        })
    }

    /// Brings the files into the desired state; none if there is nothing new to report.
    pub(crate) fn reconcile(&mut self, now: Instant) -> Option<BootReport> {
        if self.looked.is_some_and(|at| now.saturating_duration_since(at) < INTERVAL) {
            return None;
        }
        self.looked = Some(now);
        let ordered_away = self.is_ordered_away();
        let wanted = self.orders.static_pod && !ordered_away;
        let outcome = match self.exposure() {
            // Another user may have replaced the files already.
            Some(why) if wanted => self.remove().and(Err(Error::Exposed(why))),
            _ if wanted => self.install(now),
            _ => self.remove().map(|()| String::new()),
        };
        let report = match outcome {
            Ok(message) if wanted => BootReport {
                state: if message.is_empty() { BootPodState::Installed } else { BootPodState::Failed },
                message,
            },
            Ok(_) => BootReport {
                state: BootPodState::Absent,
                message: if ordered_away { REMOVED.to_owned() } else { String::new() },
            },
            Err(error) => BootReport { state: BootPodState::Failed, message: error.to_string() },
        };
        if self.told.as_ref() == Some(&report) {
            return None;
        }
        match report.state {
            BootPodState::Failed => {
                warn!(message = report.message, "Static pod for the next boot is not in place")
            }
            state => info!(state = state.as_str(), message = report.message, "Static pod for the next boot"),
        }
        self.told = Some(report.clone());
        Some(report)
    }

    /// Why other users may replace the program that the pod runs: here, or on the host, where the path to the folder
    /// may differ.
    fn exposure(&self) -> Option<String> {
        let on_host = exposure::of(&self.host, &self.orders.host_state_directory).ok().flatten();
        self.state.exposure().or(on_host)
    }

    fn is_ordered_away(&self) -> bool {
        let order = self.orders.order_file.as_ref().and_then(|path| load::read(path).ok());
        order.is_some_and(|order| order.trim() == BootPod::REMOVE)
    }

    /// Writes the files, the manifest last. Returns what is not in order yet, for a reader.
    fn install(&mut self, now: Instant) -> Result<String, Error> {
        let folder = self.folder(&self.orders.manifest_directory)?;
        self.leave_former_folder()?;
        self.program.install()?;
        put(&self.state_directory.join(CONFIG), &self.config)?;
        let path = folder.join(manifest::NAME);
        if !matches!(manifest::found(&path)?, manifest::ExistingManifest::Ours(text) if text == self.manifest)
        {
            // Recorded before the manifest is written, so that it is found again, whatever the next configuration says.
            if self.state.manifest_folder().as_ref() != Some(&self.orders.manifest_directory) {
                self.state.save_manifest_folder(&self.orders.manifest_directory);
            }
            let on_host = self.orders.manifest_directory.join(manifest::NAME);
            put(&path, &self.manifest).map_err(|error| error.of_manifest(on_host))?;
            info!(path = %path.display(), "Manifest for the next boot written");
            self.installed = None;
        }
        let since = *self.installed.get_or_insert(now);
        let waited = now.saturating_duration_since(since) >= KUBELET_TIMEOUT;
        Ok(if waited && self.state.booted().is_none() {
            format!(
                "the manifest is in {}, but kubelet has not started it: is this its staticPodPath?",
                self.orders.manifest_directory.display()
            )
        } else {
            String::new()
        })
    }

    /// Removes the files, the manifest first.
    fn remove(&mut self) -> Result<(), Error> {
        self.installed = None;
        self.leave(&self.orders.manifest_directory.clone())?;
        if let Some(folder) = self.state.manifest_folder() {
            self.leave(&folder)?;
            self.state.forget_manifest_folder();
        }
        self.program.remove()?;
        take_away(&self.state_directory.join(CONFIG))
    }

    /// Removes the manifest from a folder that is not kubelet's any more.
    fn leave_former_folder(&self) -> Result<(), Error> {
        match self.state.manifest_folder() {
            Some(folder) if folder != self.orders.manifest_directory => self.leave(&folder),
            _ => Ok(()),
        }
    }

    /// Removes the agent's manifest from that folder of the host.
    fn leave(&self, folder: &Path) -> Result<(), Error> {
        let on_host = folder.join(manifest::NAME);
        let Ok(folder) = self.folder(folder) else { return Ok(()) };
        let path = folder.join(manifest::NAME);
        match manifest::found(&path) {
            Ok(manifest::ExistingManifest::Ours(_)) => {
                take_away(&path).map_err(|error| error.of_manifest(on_host))?;
                info!(path = %path.display(), "Manifest for the next boot removed");
                Ok(())
            }
            // A file of another owner is not the one to be removed.
            Ok(manifest::ExistingManifest::Nothing) | Err(Error::Foreign(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Where a folder of the host is here. It is not created: if it does not exist, kubelet has no staticPodPath there.
    fn folder(&self, path: &Path) -> Result<PathBuf, Error> {
        let found = self.host.resolve(path).ok().filter(|found| found.is_dir());
        found.ok_or_else(|| Error::NoFolder(path.to_owned()))
    }
}

const REMOVED: &str = "removed, as the pod's annotation timesync.dev/boot says";

/// The file of an agent that boots: like this agent's, but without what other programs ask it for.
fn config_text(file: &AgentFile) -> String {
    let agent = Agent {
        http_address: None,
        token_file: None,
        socket: None,
        clock_bound_segment: None,
        ..file.agent.clone()
    };
    let file = AgentFile { agent, profile: file.profile.clone() };
    // It was read from such a file, so it can be written as one. If not, the program reports that when it reads the
    // file.
    toml::to_string(&file).unwrap_or_default()
}

/// Removes the files, for a pod that no agent came for.
///
/// # Errors
/// What could not be removed, for a reader.
pub(crate) fn remove_unclaimed(file: &AgentFile, state: Arc<State>) -> Result<(), String> {
    let Some(mut keeper) = BootPodKeeper::new(file, state) else { return Ok(()) };
    keeper.remove().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
