//! Shared keys with which clients may ask for proven answers (`serve.keys`): files in; a set of keys for the server's
//! threads out. A file that cannot be used, and a number that two keys have, are reported once. The other keys are
//! used.
use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::{Path, PathBuf},
    sync::Arc,
};

use tracing::{error, info};

use crate::auth::{Key, KeyFile};

/// Keys by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServedKeys(BTreeMap<u32, Key>);

impl ServedKeys {
    /// The key of this number.
    pub(super) fn find(&self, number: u32) -> Option<&Key> {
        self.0.get(&number)
    }
}

/// The files with keys, as last read.
#[derive(Debug)]
pub(crate) struct KeyFiles {
    directory: PathBuf,
    files: BTreeMap<String, KeyFile>,
    keys: Arc<ServedKeys>,
    troubles: Vec<String>,
}

impl KeyFiles {
    /// Without files so far.
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            files: BTreeMap::new(),
            keys: Arc::default(),
            troubles: Vec::new(),
        }
    }

    /// Reads the files with these names. Returns the keys if they have changed.
    pub(crate) fn read(&mut self, names: &[String]) -> Option<Arc<ServedKeys>> {
        self.files.retain(|name, _| names.contains(name));
        let (mut keys, mut troubles, mut owners) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        for name in names {
            let file = self.files.entry(name.clone()).or_default();
            let key = match file.key(&self.directory.join(name)) {
                Ok(key) => key,
                Err(error) => {
                    troubles.push(format!("key file {name}: {error}"));
                    continue;
                }
            };
            match keys.entry(key.id) {
                Entry::Vacant(place) => {
                    owners.insert(key.id, name);
                    place.insert(key);
                }
                Entry::Occupied(_) => troubles.push(format!(
                    "key file {name}: key {} is in {} as well, and that one counts",
                    key.id, owners[&key.id]
                )),
            }
        }
        self.set_troubles(troubles);
        let keys = ServedKeys(keys);
        if *self.keys == keys {
            return None;
        }
        info!(keys = ?keys.0.keys().collect::<Vec<_>>(), "Keys of clients");
        self.keys = Arc::new(keys);
        Some(Arc::clone(&self.keys))
    }

    /// What is wrong with the files, for a reader; empty if nothing is.
    pub(crate) fn trouble(&self) -> String {
        self.troubles.join("; ")
    }

    fn set_troubles(&mut self, troubles: Vec<String>) {
        for trouble in troubles.iter().filter(|trouble| !self.troubles.contains(trouble)) {
            error!(%trouble, "A key for clients is not served");
        }
        self.troubles = troubles;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn files_come_change_and_go() {
        let folder = Scratch::new();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let mut files = KeyFiles::new(folder.path());
        let names = ["a", "b", "c"].map(str::to_owned);
        let numbers =
            |keys: Option<Arc<ServedKeys>>| keys.map(|keys| keys.0.keys().copied().collect::<Vec<_>>());

        assert_eq!(numbers(files.read(&[])), None);
        assert_eq!(numbers(files.read(&names)), None);
        assert!(files.trouble().starts_with("key file a: No such file"), "{}", files.trouble());
        write("a", "1 SHA256 HEX:000102030405060708090a0b0c0d0e0f");
        write("b", "2 AES128 HEX:000102030405060708090a0b0c0d0e0f");
        write("c", "1 AES128 HEX:000102030405060708090a0b0c0d0e0f");
        assert_eq!(numbers(files.read(&names)), Some(vec![1, 2]));
        assert_eq!(files.trouble(), "key file c: key 1 is in a as well, and that one counts");
        assert_eq!(numbers(files.read(&names)), None, "nothing changed");

        write("c", "3 AES128 HEX:000102030405060708090a0b0c0d0e0f");
        assert_eq!(numbers(files.read(&names)), Some(vec![1, 2, 3]));
        assert_eq!(files.trouble(), "");
        write("b", "2 AES128 HEX:ff0102030405060708090a0b0c0d0e0f");
        let before = Arc::clone(&files.keys);
        let keys = files.read(&names).unwrap();
        assert_eq!((before.find(1), before.find(2) == keys.find(2)), (keys.find(1), false));

        write("b", "2 AES128 HEX:ff");
        assert_eq!(
            numbers(files.read(&names)),
            Some(vec![1, 3]),
            "a key that is wrong is not the one before"
        );
        assert!(files.trouble().contains("an AES128 key has 16 octets"), "{}", files.trouble());
        assert_eq!(numbers(files.read(&names[..1])), Some(vec![1]));
        assert_eq!(numbers(files.read(&[])), Some(vec![]));
        assert_eq!(files.trouble(), "");
    }
}
