//! Writes an initramfs: a cpio archive of the "newc" kind (kernel documentation, early-userspace/buffer-format).
//! In: names and contents. Out: bytes. Needs no root and no scratch folder.
use std::collections::BTreeSet;

/// The archive while it grows.
#[derive(Default)]
pub(crate) struct Cpio {
    bytes: Vec<u8>,
    names: BTreeSet<String>,
}

impl Cpio {
    /// A regular file, and the folders it lies in.
    pub(crate) fn file(&mut self, name: &str, body: &[u8], mode: u32) {
        self.folders_of(name);
        self.entry(name, 0o100_000 | mode, body, (0, 0));
    }

    /// A character device.
    pub(crate) fn device(&mut self, name: &str, major: u32, minor: u32) {
        self.folders_of(name);
        self.entry(name, 0o020_600, &[], (major, minor));
    }

    /// The finished archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[], (0, 0));
        self.pad(512);
        self.bytes
    }

    fn folders_of(&mut self, name: &str) {
        let slashes: Vec<_> = name.match_indices('/').map(|(at, _)| at).collect();
        for at in slashes {
            self.entry(&name[..at], 0o040_755, &[], (0, 0));
        }
    }

    fn entry(&mut self, name: &str, mode: u32, body: &[u8], device: (u32, u32)) {
        if !self.names.insert(name.to_owned()) {
            return;
        }
        let fields = [
            self.names.len(), // inode number
            mode as usize,
            0, // uid
            0, // gid
            1, // links
            0, // mtime
            body.len(),
            0,
            0, // device of the file itself
            device.0 as usize,
            device.1 as usize,
            name.len() + 1,
            0, // checksum
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad(4);
        self.bytes.extend_from_slice(body);
        self.pad(4);
    }

    fn pad(&mut self, to: usize) {
        let length = self.bytes.len().next_multiple_of(to);
        self.bytes.resize(length, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_before_what_lies_in_them() {
        let mut cpio = Cpio::default();
        cpio.file("a/b/c", b"hello", 0o644);
        cpio.file("a/d", b"", 0o755);
        let bytes = cpio.finish();
        assert_eq!(bytes.len() % 512, 0);
        // Header fields of the first entry: a folder.
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[14..22], b"000041ed");
        let text = String::from_utf8_lossy(&bytes);
        let order: Vec<_> = ["a\0", "a/b\0", "a/b/c\0", "hello", "a/d\0", "TRAILER!!!\0"]
            .iter()
            .map(|name| text.find(name).unwrap())
            .collect();
        assert!(order.is_sorted(), "{order:?}");
    }
}
