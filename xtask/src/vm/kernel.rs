//! One kernel on disk: downloaded once, unpacked, ready to boot. Nothing is installed.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::decompress::{self, Format};
use super::index::Index;
use super::release::{self, Candidate, Series};
use crate::process;

/// A kernel ready to boot.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The upstream version: `6.1.192`.
    pub(crate) version: String,
    /// The numbers of that.
    pub(crate) numbers: Vec<u32>,
    /// What `uname -r` says on it.
    pub(crate) release: String,
    /// The directory it is in.
    directory: PathBuf,
}

/// The unpacked ELF kernel: qemu boots it directly (PVH), seconds sooner than the compressed one
/// unpacks itself under emulation.
const IMAGE: &str = "vmlinux";
/// How many older kernels are tried when the newest cannot be had.
const RETRIES: usize = 3;
/// The unpacked packages.
const TREE: &str = "tree";

impl Kernel {
    /// The newest kernel of the series, from the cache or downloaded into it.
    ///
    /// # Errors
    /// When the index has none, or none can be downloaded and unpacked.
    pub(crate) fn obtain(series: &Series, index: &mut Index, cache: &Path) -> anyhow::Result<Self> {
        let Some(newest) = series.ranked(index.kernels()).first().copied().cloned() else {
            bail!(
                "no kernel {series} on the mirror, which has {}",
                known(index)
            );
        };
        let first = Self::fetch(&newest, index, cache);
        let Err(error) = first else {
            return first;
        };
        // Point releases vanish from the mirror when there are newer ones, and not all packages of
        // a new one appear at once.
        println!("{error:#}");
        index.update()?;
        let ranked = series.ranked(index.kernels());
        let mut others = ranked.into_iter().filter(|candidate| **candidate != newest);
        let found = others.by_ref().take(RETRIES).find_map(|candidate| {
            let fetched = Self::fetch(candidate, index, cache);
            fetched.inspect_err(|error| println!("{error:#}")).ok()
        });
        found.ok_or(error)
    }

    fn fetch(candidate: &Candidate, index: &Index, cache: &Path) -> anyhow::Result<Self> {
        let name = format!("{}_{}", candidate.release, candidate.version);
        let kernel = Self {
            version: candidate.upstream(),
            numbers: candidate.upstream.clone(),
            release: candidate.release.clone(),
            directory: cache.join(&name),
        };
        if kernel.image().is_file() {
            return Ok(kernel);
        }
        println!("downloading the kernel {name}");
        // Complete once it has its name.
        let partial = cache.join(format!("{name}.partial"));
        remove(&partial)?;
        fs::create_dir_all(&partial)
            .with_context(|| format!("cannot make {}", partial.display()))?;
        index.download(&candidate.packages, &partial)?;
        unpack(&partial).with_context(|| format!("the kernel {name}"))?;
        remove(&kernel.directory)?;
        fs::rename(&partial, &kernel.directory)?;
        Ok(kernel)
    }

    /// The ELF kernel.
    pub(crate) fn image(&self) -> PathBuf {
        self.directory.join(IMAGE)
    }

    /// The directory of its modules.
    pub(crate) fn modules(&self) -> PathBuf {
        self.directory.join(TREE)
    }
}

/// The versions in the index, for a person.
fn known(index: &Index) -> String {
    let mut known: Vec<_> = index.kernels().iter().map(|it| &it.upstream).collect();
    known.sort_unstable();
    known.dedup();
    let known: Vec<String> = known.into_iter().map(|it| release::dotted(it)).collect();
    known.join(", ")
}

fn remove(directory: &Path) -> anyhow::Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)
            .with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    Ok(())
}

/// Unpacks the packages in the directory, and the kernel that is in them.
fn unpack(directory: &Path) -> anyhow::Result<()> {
    let tree = directory.join(TREE);
    for package in files(directory)? {
        if package.extension() == Some(OsStr::new("deb")) {
            let mut unpack = Command::new("dpkg");
            process::run_quietly(unpack.arg("--extract").arg(&package).arg(&tree))?;
            fs::remove_file(&package)?;
        }
    }
    let compressed = files(&tree)?.into_iter().find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("vmlinuz")
    });
    let compressed = compressed.context("no vmlinuz in its packages")?;
    let bytes =
        fs::read(&compressed).with_context(|| format!("cannot read {}", compressed.display()))?;
    let payload = payload(&bytes).context("its vmlinuz is not a bzImage")?;
    let image = decompress::decompress(payload)?;
    if !image.starts_with(b"\x7fELF") {
        bail!("its vmlinuz does not hold an ELF image");
    }
    fs::write(directory.join(IMAGE), image)?;
    Ok(())
}

/// All files under the directory, links not followed.
pub(crate) fn files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.append(&mut self::files(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// The compressed kernel in a bzImage (Documentation/arch/x86/boot.rst, "The real-mode kernel
/// header").
fn payload(image: &[u8]) -> Option<&[u8]> {
    const SETUP_SECTORS: usize = 0x1f1;
    const MAGIC: usize = 0x202;
    const PAYLOAD: usize = 0x248;
    let word = |at: usize| {
        let bytes = image.get(at..at + 4)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    if image.get(MAGIC..MAGIC + 4)? != b"HdrS" {
        return None;
    }
    let sectors = match image[SETUP_SECTORS] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let begin = (sectors + 1) * 512 + word(PAYLOAD)?;
    let payload = image.get(begin..begin.checked_add(word(PAYLOAD + 4)?)?)?;
    // But for gzip, which has it anyway, the unpacked size follows the compressed data.
    match Format::of(payload)? {
        Format::Gzip => Some(payload),
        _ => Some(&payload[..payload.len().checked_sub(4)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_where_the_header_says() {
        let mut image = vec![0; 4096];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&12_u32.to_le_bytes());
        image[1040..1052].copy_from_slice(b"\x28\xb5\x2f\xfddatasize");
        assert_eq!(payload(&image), Some(b"\x28\xb5\x2f\xfddata".as_slice()));
        image[0x24c..0x250].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(payload(&image), None);
    }

    #[test]
    fn other_files_have_no_payload() {
        assert_eq!(payload(b""), None);
        assert_eq!(payload(&[0; 4096]), None);
    }
}
