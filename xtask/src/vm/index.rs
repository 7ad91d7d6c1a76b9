//! Debian's package index, of every suite that has kernels, in an apt state directory of our own.
//!
//! The machine's own apt state is only asked for its mirror: which suites it installs from, and
//! what is installed, play no part and do not change. Packages are downloaded, never installed.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};

use super::release::{Candidate, candidates};
use crate::process;

/// The suites that have kernels: 5.10, 6.1, 6.12, and newer ones.
const SUITES: [&str; 5] = ["bullseye", "bookworm", "trixie", "trixie-backports", "sid"];
/// Their security updates, which are on a mirror of their own.
const SECURITY_SUITES: [&str; 3] = ["bullseye-security", "bookworm-security", "trixie-security"];
/// Words that a Debian suite's name begins with, to tell its mirrors from other sources.
const RELEASES: [&str; 9] = [
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldstable",
    "stable",
    "testing",
];
/// Signs all of them. Without it apt takes the keys that it trusts anyway.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Kernels for virtual machines: configured as Debian's others for all that is tested here, but
/// with a third of the drivers and of the size.
const FLAVOUR: &str = "-cloud-amd64";
/// How long an index is good enough.
const FRESH: Duration = Duration::from_secs(20 * 60 * 60);

/// The index.
pub(crate) struct Index {
    directory: PathBuf,
    kernels: Vec<Candidate>,
}

impl Index {
    /// Opens the index in the directory, fetching it when there is none or it is old.
    ///
    /// # Errors
    /// When the machine's mirror is not known or there is no index to be had. An old index that
    /// cannot be refreshed is used as it is.
    pub(crate) fn open(directory: PathBuf) -> anyhow::Result<Self> {
        let mut index = Self {
            directory,
            kernels: Vec::new(),
        };
        let age = fs::metadata(index.stamp())
            .and_then(|stamp| stamp.modified())
            .ok()
            .and_then(|time| SystemTime::now().duration_since(time).ok());
        if age.is_some() {
            index.kernels = index.read()?;
        }
        if index.kernels.is_empty() || age.is_none_or(|age| age > FRESH) {
            index.update()?;
        }
        Ok(index)
    }

    /// The kernels that it lists.
    pub(crate) fn kernels(&self) -> &[Candidate] {
        &self.kernels
    }

    /// Fetches it anew.
    ///
    /// # Errors
    /// When there is none to be had, and there was none before.
    pub(crate) fn update(&mut self) -> anyhow::Result<()> {
        println!("fetching the index of Debian's kernels");
        let fetched = self.fetch();
        // One suite that has gone must not take the others with it, nor a mirror that cannot be
        // reached what is known.
        self.kernels = self.read()?;
        match fetched {
            Ok(()) => fs::write(self.stamp(), "")?,
            Err(error) if self.kernels.is_empty() => return Err(error),
            Err(error) => println!("not all of it could be fetched: {error:#}"),
        }
        Ok(())
    }

    fn fetch(&self) -> anyhow::Result<()> {
        for directory in ["lists/partial", "cache/archives/partial"] {
            let directory = self.directory.join(directory);
            fs::create_dir_all(&directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        // Nothing is installed as far as this apt knows.
        fs::write(self.directory.join("status"), "")?;
        fs::write(self.directory.join("sources.list"), mirrors()?)?;
        fs::write(self.configuration(), configuration(&self.directory))?;
        process::run_quietly(self.command("apt-get").args(["-q", "update"]))
    }

    fn read(&self) -> anyhow::Result<Vec<Candidate>> {
        if !self.configuration().exists() {
            return Ok(Vec::new());
        }
        let pattern = format!("^linux-image-[0-9].*[0-9a-z]{FLAVOUR}$");
        let mut search = self.command("apt-cache");
        let names = output(search.args(["search", "--names-only", &pattern]))?;
        let names = names.lines().filter_map(|line| line.split(' ').next());
        // `linux-image-6.1-cloud-amd64` only points to the newest; its like have no release.
        let names: Vec<&str> = names.filter(|name| name.matches('.').count() > 1).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut show = self.command("apt-cache");
        show.args(["show", "--no-all-versions"]).args(names);
        candidates(&output(&mut show)?)
    }

    /// Downloads the packages into the directory.
    ///
    /// # Errors
    /// When apt fails: no network, or they are not on the mirror any more.
    pub(crate) fn download(&self, packages: &[String], directory: &Path) -> anyhow::Result<()> {
        let mut download = self.command("apt-get");
        download.args(["-q", "download"]).args(packages);
        process::run_quietly(download.current_dir(directory))
    }

    /// When it was fetched last.
    fn stamp(&self) -> PathBuf {
        self.directory.join("updated")
    }

    fn configuration(&self) -> PathBuf {
        self.directory.join("apt.conf")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.configuration());
        command
    }
}

/// The lines of a `sources.list` of kernels.
///
/// # Errors
/// When this machine has no apt, or it has no Debian mirror.
pub(crate) fn mirrors() -> anyhow::Result<String> {
    sources(&targets()?)
}

fn configuration(directory: &Path) -> String {
    let path = directory.display();
    format!(
        "Dir::State \"{path}\";\n\
         Dir::State::lists \"{path}/lists/\";\n\
         Dir::State::status \"{path}/status\";\n\
         Dir::Cache \"{path}/cache\";\n\
         Dir::Etc::sourcelist \"{path}/sources.list\";\n\
         Dir::Etc::sourceparts \"/dev/null\";\n\
         Acquire::Retries \"3\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
         Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled \"false\";\n\
         Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled \"false\";\n\
         APT::Sandbox::User \"root\";\n\
         APT::Update::Error-Mode \"any\";\n\
         #clear APT::Update::Post-Invoke;\n\
         #clear APT::Update::Post-Invoke-Success;\n"
    )
}

/// What an update of the machine's own index would fetch, a line each:
/// `'http://mirror/debian/dists/bookworm/InRelease' file 0`.
fn targets() -> anyhow::Result<String> {
    let mut command = Command::new("apt-get");
    output(command.args(["--print-uris", "update"]))
}

/// The same mirrors with our suites.
fn sources(targets: &str) -> anyhow::Result<String> {
    let mirror = |security: bool| {
        let mut lines = targets.lines().filter_map(|line| {
            let (uri, _) = line.strip_prefix('\'')?.split_once('\'')?;
            let (mirror, file) = uri.split_once("/dists/")?;
            Some((mirror, file.split('/').next()?))
        });
        let debian = |suite: &str| RELEASES.iter().any(|release| suite.starts_with(release));
        let found =
            lines.find(|(_, suite)| debian(suite) && suite.ends_with("-security") == security);
        found.map(|(uri, _)| uri)
    };
    let Some(main) = mirror(false) else {
        bail!("this machine's apt has no Debian mirror in its sources, from which to get kernels");
    };
    let options = if Path::new(KEYRING).exists() {
        format!("arch=amd64 signed-by={KEYRING}")
    } else {
        "arch=amd64".to_owned()
    };
    let mut text = String::new();
    for suite in SUITES {
        let _ = writeln!(text, "deb [{options}] {main} {suite} main");
    }
    // A mirror without security updates still has the kernels of the last point release.
    if let Some(security) = mirror(true) {
        for suite in SECURITY_SUITES {
            let _ = writeln!(text, "deb [{options}] {security} {suite} main");
        }
    }
    Ok(text)
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let line = process::line(command);
    let output = command
        .output()
        .with_context(|| format!("cannot run `{line}`: is this a Debian?"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed ({}): {}", output.status, said.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("the output of `{line}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_mirrors_are_used_for_all_suites() {
        let targets = "'http://other.example/dists/nodistro/InRelease' a 0\n\
            'http://mirror.example/debian/dists/bookworm/InRelease' b 0\n\
            'http://mirror.example/debian/dists/bookworm-updates/InRelease' c 0\n\
            'http://mirror.example/debian-security/dists/bookworm-security/InRelease' d 0\n";
        let sources = sources(targets).unwrap();
        let has = |end: &str| sources.lines().any(|line| line.ends_with(end));
        assert!(has("] http://mirror.example/debian bullseye main"));
        assert!(has("] http://mirror.example/debian sid main"));
        assert!(has(
            "] http://mirror.example/debian-security trixie-security main"
        ));
        assert!(!sources.contains("other.example"), "{sources}");
    }

    #[test]
    fn without_a_security_mirror_there_are_still_kernels() {
        let sources = sources("'http://mirror.example/debian/dists/sid/InRelease' a 0\n").unwrap();
        assert_eq!(sources.lines().count(), SUITES.len());
    }

    #[test]
    fn without_a_debian_mirror_there_are_none() {
        let error = sources("'http://ubuntu.example/dists/noble/InRelease' a 0\n").unwrap_err();
        assert!(error.to_string().contains("no Debian mirror"), "{error}");
    }
}
