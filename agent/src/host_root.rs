//! The host's files as a container sees them: finds a path of the host in the tree that is mounted here. Links are
//! followed as the host would follow them, so an absolute link stays in that tree. Only reads links.
use std::{
    collections::VecDeque,
    ffi::OsString,
    fs, io,
    path::{Component, Path, PathBuf},
};

/// The folder where the host's root is mounted; `/` outside of containers.
#[derive(Clone, Debug)]
pub(crate) struct HostRoot(PathBuf);

/// The kernel follows as many links (path_resolution(7)).
const MOST_LINKS: u32 = 40;

impl HostRoot {
    /// A host whose root is mounted at `path`.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Finds the host's `path` here, with all links followed. `..` does not lead out of the root.
    ///
    /// # Errors
    /// If a part of the path does not exist or cannot be read, or if links form a circle.
    pub(crate) fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        self.walk(path, |_| ())
    }

    /// The same, with everything on the way: the root, folders and links, in their order, and the end.
    ///
    /// # Errors
    /// As [`HostRoot::resolve`].
    pub(crate) fn components(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut components = vec![self.0.clone()];
        let end = self.walk(path, |passed| components.push(passed.to_owned()))?;
        // The way may lead back to a former part.
        components.push(end);
        Ok(components)
    }

    fn walk(&self, path: &Path, mut pass: impl FnMut(&Path)) -> io::Result<PathBuf> {
        let mut open: VecDeque<OsString> = names(path).collect();
        let mut at: Vec<OsString> = Vec::new();
        let mut links = 0;
        while let Some(name) = open.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            let here = self.0.join(at.iter().collect::<PathBuf>()).join(&name);
            pass(&here);
            if !fs::symlink_metadata(&here)?.is_symlink() {
                at.push(name);
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(io::Error::other("too many links"));
            }
            let target = fs::read_link(&here)?;
            if target.is_absolute() {
                at.clear();
            }
            for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                open.push_front(name);
            }
        }
        Ok(self.0.join(at.iter().collect::<PathBuf>()))
    }
}

fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn links_are_followed_in_the_hosts_tree_and_never_out_of_it() {
        let folder = Scratch::new();
        let root = folder.path().join("host");
        fs::create_dir_all(root.join("usr/share/zone")).unwrap();
        fs::write(root.join("usr/share/zone/UTC"), "x").unwrap();
        fs::write(folder.path().join("secret"), "x").unwrap();
        for (target, link) in [
            ("/usr/share", "absolute"),
            ("usr/../usr/share/zone/UTC", "relative"),
            ("absolute/zone/UTC", "chained"),
            ("../../../../secret", "out"),
            ("../secret", "dangling"),
            ("circle", "circle"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let host = HostRoot::new(root.clone());
        let check = |path: &str, expected: Option<&str>| {
            let found = host.resolve(Path::new(path)).ok();
            assert_eq!(found, expected.map(|path| root.join(path)), "{path}");
        };
        check("/usr/share/zone/UTC", Some("usr/share/zone/UTC"));
        check("/absolute/zone/UTC", Some("usr/share/zone/UTC"));
        check("/relative", Some("usr/share/zone/UTC"));
        check("/chained", Some("usr/share/zone/UTC"));
        check("/../../usr/share", Some("usr/share"));
        check("/out", None);
        check("/dangling", None);
        check("/circle", None);
        check("/usr/share/zone/Mars", None);
        fs::write(root.join("secret"), "x").unwrap();
        check("/out", Some("secret"));
    }
}
