//! Checks whether other users may replace what is in a folder: they own the folder or one on the path to it, or may
//! write to one. What root runs or trusts must not be in such a folder. Only reads.
use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::host_root::HostRoot;

/// Why other users may replace what is in `folder`, as seen under `root`, and what to do; none if they cannot.
///
/// # Errors
/// If a part of the path does not exist, or cannot be read.
pub(crate) fn of(root: &HostRoot, folder: &Path) -> io::Result<Option<String>> {
    let components = root.components(folder)?;
    let last = components.last().cloned();
    for part in components {
        if let Some(why) = of_one(&part, Some(&part) == last.as_ref())? {
            return Ok(Some(why));
        }
    }
    Ok(None)
}

/// The same for one folder or link, without the path to it.
pub(crate) fn of_one(path: &Path, is_last: bool) -> io::Result<Option<String>> {
    let found = fs::symlink_metadata(path)?;
    let shown = path.display();
    if found.uid() != 0 && found.uid() != sys::lock::own_user() {
        return Ok(Some(format!("{shown} belongs to user {}: change its owner to root", found.uid())));
    }
    // In a folder with the sticky bit, such as /tmp, each user may remove only files of its own.
    let sticky = found.mode() & 0o1000 != 0 && !is_last;
    if !found.is_symlink() && found.mode() & 0o022 != 0 && !sticky {
        let mode = found.mode() & 0o7777;
        return Ok(Some(format!(
            "{shown} may be written by others (mode {mode:04o}): run chmod go-w {shown}"
        )));
    }
    Ok(None)
}

/// Returns true for a regular file that no other user owns or may write, and that has no second name.
pub(crate) fn is_own(file: &Metadata) -> bool {
    let own = file.uid() == sys::lock::own_user() && file.mode() & 0o022 == 0;
    file.is_file() && own && file.nlink() == 1
}

/// The absolute form of `path`, which may be relative to the current folder.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_folder_or_its_parent_that_others_may_write_is_told() {
        let folder = Scratch::new();
        let (parent, state) = (folder.path().join("lib"), folder.path().join("lib/state"));
        fs::create_dir_all(&state).unwrap();
        symlink("lib/state", folder.path().join("link")).unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let check = |modes: [u32; 2], expected: Option<&str>| {
            set(&parent, modes[0]);
            set(&state, modes[1]);
            for components in [state.clone(), folder.path().join("link")] {
                let why = of(&HostRoot::new("/".into()), &components).unwrap();
                assert_eq!(why.is_some(), expected.is_some(), "{modes:?} {why:?}");
                let why = why.unwrap_or_default();
                assert!(why.contains(expected.unwrap_or_default()), "{why}");
            }
        };
        check([0o755, 0o700], None);
        check([0o755, 0o755], None);
        check([0o755, 0o770], Some("lib/state may be written by others (mode 0770)"));
        check([0o755, 0o702], Some("chmod go-w"));
        check([0o755, 0o1777], Some("mode 1777"));
        check([0o777, 0o700], Some("lib may be written"));
        check([0o1777, 0o700], None);
        if sys::lock::own_user() == 0 {
            chown(&parent, Some(65534), None).unwrap();
            check([0o755, 0o700], Some("lib belongs to user 65534"));
        }
        assert!(of(&HostRoot::new("/".into()), &folder.path().join("none")).is_err());
    }
}
