//! The local socket: a file that only root and the agent's own user may open. One agent at a time has it. Another agent
//! with the same path waits until it is free.
use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use axum::Router;
use tokio::{net::UnixListener, time};
use tracing::{info, warn};

/// Interval at which a socket of another agent is tried, and the own socket's file is checked.
const LOOK: Duration = Duration::from_secs(2);

/// Serves the socket, without end.
pub(super) async fn serve(path: PathBuf, router: Router) {
    let mut told = false;
    loop {
        match open(&path) {
            Ok(opened) => {
                info!(path = %path.display(), "Local socket is served");
                told = false;
                tokio::select! {
                    () = timesync_http::serve_local(opened.listener, router.clone(), opened.owner) => {}
                    () = lost(&path, opened.inode) => warn!(path = %path.display(), "Local socket was removed"),
                }
            }
            Err(error) if !told => {
                warn!(path = %path.display(), %error, "Local socket cannot be served; trying again");
                told = true;
            }
            Err(_) => {}
        }
        time::sleep(LOOK).await;
    }
}

struct Opened {
    listener: UnixListener,
    owner: u32,
    inode: u64,
}

/// Replaces a file that an ended agent left, but not the file of a running agent.
fn open(path: &Path) -> io::Result<Opened> {
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::other("another agent has it"));
    }
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    // Other users have no rights on it before it gets its name.
    let beside = path.with_extension("new");
    let _ = fs::remove_file(&beside);
    let listener = UnixListener::bind(&beside)?;
    fs::set_permissions(&beside, Permissions::from_mode(0o600))?;
    let file = fs::metadata(&beside)?;
    fs::rename(&beside, path)?;
    Ok(Opened { listener, owner: file.uid(), inode: file.ino() })
}

/// Returns when the file is gone, or was replaced by another one.
async fn lost(path: &Path, inode: u64) {
    while fs::metadata(path).is_ok_and(|file| file.ino() == inode) {
        time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn one_agent_at_a_time_has_it() {
        let folder = Scratch::new();
        let path = folder.path().join("state/agent.sock");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let first = open(&path).unwrap();
            let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
            assert_eq!(mode(&path), 0o600);
            assert!(open(&path).is_err(), "it was taken from an agent that runs");
            drop(first);
            // A file remains that no process serves.
            let second = open(&path).unwrap();
            let still = time::timeout(Duration::from_millis(100), lost(&path, second.inode)).await;
            assert!(still.is_err());
            fs::remove_file(&path).unwrap();
            assert!(time::timeout(Duration::from_secs(10), lost(&path, second.inode)).await.is_ok());
        });
    }
}
