//! Writing an initramfs: the "newc" form of cpio, as the kernel's
//! Documentation/driver-api/early-userspace/buffer-format.rst has it.
//!
//! Written here because it is thirty lines, and because the archive then needs no directory tree
//! on disk, no root for device nodes, and no cpio installed.

use std::fmt::Write as _;

/// What `mode` says of a file's kind.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive that is being written.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a directory; the path has no leading slash, here and below.
    pub(crate) fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, (0, 0), b"");
    }

    /// Adds a file that everyone may read and run.
    pub(crate) fn file(&mut self, path: &str, contents: &[u8]) {
        self.entry(path, REGULAR | 0o755, (0, 0), contents);
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.entry(path, LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// Adds a character device, with its major and minor number.
    pub(crate) fn device(&mut self, path: &str, number: (u32, u32)) {
        self.entry(path, CHARACTER_DEVICE | 0o600, number, b"");
    }

    /// The finished archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), b"");
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        self.entries += 1;
        let links = 1;
        // The kernel reads no more than it can hold in memory: 32 bits are the format's own limit.
        let size = u32::try_from(contents.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            size,
            0,
            0,
            device.0,
            device.1,
            name_size,
            0,
        ];
        let mut header = "070701".to_owned();
        for field in fields {
            let _ = write!(header, "{field:08x}");
        }
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(contents);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_headers_names_and_contents_on_boundaries_of_four() {
        let mut archive = Archive::default();
        archive.file("init", b"hello");
        let bytes = archive.finish();
        let text = String::from_utf8(bytes).unwrap();
        // 110 bytes of header, 5 of name and one of padding; 5 of contents and 3 of padding.
        let (file, trailer) = text.split_at(116 + 8);
        assert!(file.starts_with("07070100000001000081ed"), "{file}");
        assert_eq!(&file[54..62], "00000005", "the size");
        assert_eq!(&file[94..102], "00000005", "the name's size with its NUL");
        assert_eq!(&file[110..], "init\0\0hello\0\0\0");
        assert!(trailer.starts_with("070701") && trailer.contains("TRAILER!!!\0"));
        assert_eq!(trailer.len() % 4, 0);
    }
}
