//! Unpacking what kernels and modules are packed with, by the tool of each format: they differ
//! from release to release, and Debian has the tools.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, bail};

/// A format of compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// gzip.
    Gzip,
    /// LZ4, in the format that the kernel uses.
    Lz4,
    /// xz.
    Xz,
    /// zstd.
    Zstd,
}

impl Format {
    /// The format that the data is in, by its first bytes.
    pub(crate) fn of(data: &[u8]) -> Option<Self> {
        let formats: [(&[u8], Self); 4] = [
            (b"\x1f\x8b", Self::Gzip),
            (b"\x02\x21\x4c\x18", Self::Lz4),
            (b"\xfd7zXZ\0", Self::Xz),
            (b"\x28\xb5\x2f\xfd", Self::Zstd),
        ];
        let found = formats.iter().find(|(magic, _)| data.starts_with(magic));
        found.map(|(_, format)| *format)
    }

    /// The program that unpacks it, which has the name of its Debian package.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Lz4 => "lz4",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }
}

/// Unpacks the data; what is in no known format is returned as it is.
///
/// # Errors
/// When the format's program is not installed or refuses the data.
pub(crate) fn decompress(data: &[u8]) -> anyhow::Result<Vec<u8>> {
    let Some(format) = Format::of(data) else {
        return Ok(data.to_vec());
    };
    let program = format.program();
    let mut child = Command::new(program)
        .args(["-d", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}: is it installed?"))?;
    let stdin = child.stdin.take();
    let output = thread::scope(|scope| {
        scope.spawn(move || {
            // When it does not take all of it, its exit status says why.
            let _ = stdin.map(|mut stdin| stdin.write_all(data));
        });
        child.wait_with_output()
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} cannot unpack it: {}", said.trim());
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_compressed_stays() {
        assert_eq!(decompress(b"\x7fELF").unwrap(), b"\x7fELF");
    }

    #[test]
    fn compressed_data_is_unpacked() {
        // `printf hello | gzip -n`
        let packed = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcbH\xcd\xc9\xc9\x07\0\x86\xa6\x106\x05\0\0\0";
        assert_eq!(decompress(packed).unwrap(), b"hello");
        assert!(decompress(&packed[..12]).is_err());
    }
}
