//! Programs of this machine for the initramfs, with the libraries and links that they need.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::cpio::Archive;

/// Where programs are looked for: root's path, whatever this process's is.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Top-level directories that are links into `/usr` on the test machine, as on Debian.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// An initramfs with programs.
pub(crate) struct Programs {
    archive: Archive,
    /// Paths that are in the archive already.
    present: BTreeSet<PathBuf>,
}

/// Where the program is on this machine.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = |directory: &&str| Path::new(directory).join(program);
    DIRECTORIES.iter().map(path).find(|path| path.is_file())
}

impl Programs {
    /// An initramfs with nothing but the links of a merged `/usr`.
    pub(crate) fn new() -> Self {
        let mut programs = Self {
            archive: Archive::default(),
            present: BTreeSet::new(),
        };
        programs.directory(Path::new("/usr"));
        for name in MERGED {
            programs.directory(&Path::new("/usr").join(name));
            programs.archive.link(name, &format!("usr/{name}"));
        }
        programs
    }

    /// Adds a program of this machine by its name.
    ///
    /// # Errors
    /// When it or a library of it is not there or cannot be read.
    pub(crate) fn add(&mut self, program: &str) -> anyhow::Result<()> {
        let path = find(program).with_context(|| format!("{program} is not installed"))?;
        self.copy(&path)?;
        self.libraries(&path)
    }

    /// Adds a program under another path.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub(crate) fn add_as(&mut self, program: &Path, path: &str) -> anyhow::Result<()> {
        self.write(Path::new(path), &read(program)?);
        self.libraries(program)
    }

    /// Adds the plug-ins in a directory, under the same path.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub(crate) fn add_plugins(&mut self, directory: &Path) -> anyhow::Result<()> {
        let entries = fs::read_dir(directory)
            .with_context(|| format!("cannot list {}", directory.display()))?;
        for entry in entries {
            self.copy(&entry?.path())?;
        }
        Ok(())
    }

    /// Adds a file with those contents.
    pub(crate) fn write(&mut self, path: &Path, contents: &[u8]) {
        if self.enter(path) {
            self.archive.file(&relative(path), contents);
        }
    }

    /// Adds a directory.
    pub(crate) fn directory(&mut self, path: &Path) {
        if self.enter(path) {
            self.archive.directory(&relative(path));
        }
    }

    /// Adds a character device.
    pub(crate) fn device(&mut self, path: &Path, number: (u32, u32)) {
        if self.enter(path) {
            self.archive.device(&relative(path), number);
        }
    }

    /// The initramfs.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.archive.finish()
    }

    /// Whether the path is new; its parents are added.
    fn enter(&mut self, path: &Path) -> bool {
        if !self.present.insert(path.to_path_buf()) {
            return false;
        }
        if let Some(parent) = path.parent()
            && parent != Path::new("/")
        {
            self.directory(parent);
        }
        true
    }

    /// Copies a file, or a link and what it points to, under the path that it has here.
    fn copy(&mut self, path: &Path) -> anyhow::Result<()> {
        let path = merged(path)?;
        let metadata = path
            .symlink_metadata()
            .with_context(|| format!("cannot find {}", path.display()))?;
        if metadata.is_symlink() {
            let target = path.parent().unwrap_or(&path).join(path.read_link()?);
            let target = merged(&target)?;
            if self.enter(&path) {
                let text = target.to_string_lossy();
                self.archive.link(&relative(&path), &text);
            }
            return self.copy(&target);
        }
        if !self.present.contains(&path) {
            self.write(&path, &read(&path)?);
        }
        Ok(())
    }

    fn libraries(&mut self, program: &Path) -> anyhow::Result<()> {
        let output = Command::new("ldd")
            .arg(program)
            .output()
            .context("cannot run ldd")?;
        // It fails for a static program: then there is nothing to copy.
        for library in libraries(&String::from_utf8_lossy(&output.stdout))? {
            self.copy(&library)
                .with_context(|| format!("a library of {}", program.display()))?;
        }
        Ok(())
    }
}

/// The libraries in what ldd prints, the loader among them.
fn libraries(text: &str) -> anyhow::Result<Vec<PathBuf>> {
    if let Some(missing) = text.lines().find(|line| line.ends_with("not found")) {
        bail!("a library is missing: {}", missing.trim());
    }
    let paths = text.lines().filter_map(|line| {
        let words = line.split_whitespace();
        words.into_iter().find(|word| word.starts_with('/'))
    });
    Ok(paths.map(PathBuf::from).collect())
}

/// The path with its directory's links resolved, so that it does not lead through `/lib`.
fn merged(path: &Path) -> anyhow::Result<PathBuf> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("{} is not a file", path.display());
    };
    let directory = directory
        .canonicalize()
        .with_context(|| format!("cannot find {}", directory.display()))?;
    Ok(directory.join(name))
}

fn relative(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches('/').to_owned()
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_what_ldd_prints() {
        let text = "\tlinux-vdso.so.1 (0x00007fce53d4c000)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007fce5361e000)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007fce53d4e000)\n";
        assert_eq!(
            libraries(text).unwrap(),
            [
                Path::new("/lib/x86_64-linux-gnu/libc.so.6"),
                Path::new("/lib64/ld-linux-x86-64.so.2")
            ]
        );
        assert_eq!(libraries("").unwrap(), Vec::<PathBuf>::new());
        assert!(libraries("\tlibx.so => not found\n").is_err());
    }

    #[test]
    fn a_program_comes_with_its_links_and_libraries() {
        let mut programs = Programs::new();
        programs.add("sh").unwrap();
        let has = |path: &str| programs.present.contains(Path::new(path));
        assert!(has("/usr/bin/sh") && has("/usr/bin/dash"));
        assert!(has("/usr/lib/x86_64-linux-gnu/libc.so.6"));
    }
}
