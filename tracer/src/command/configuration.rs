//! The files in `/etc` that belong to a network namespace, foremost its DNS settings.
//!
//! For a name, those in `/etc/netns/NAME`, as `ip netns exec` has it. For a process, its own
//! `resolv.conf` and `hosts`: a pod's are what kubelet made for it, and without them a name of the
//! cluster would not resolve as it does in the pod. The process's files are copied, for the kernel
//! binds no files from another mount namespace; they are looked up so that no symbolic link in a
//! container leads out of it.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
};

use super::error::Error;
use crate::node::pods::PodName;

/// Where `ip netns` looks for the files of a namespace.
const ETC_NETNS: &str = "/etc/netns";
/// Where namespaces have names.
const NAMES: [&str; 2] = ["/run/netns", "/var/run/docker/netns"];
/// What of a process's `/etc` counts.
const OF_PROCESS: [&str; 2] = ["resolv.conf", "hosts"];
/// A larger file is no DNS setting.
const LARGEST: u64 = 1 << 20;
/// How often a file is looked up while something is being renamed.
const ATTEMPTS: usize = 64;

/// A file to appear in the command's `/etc`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EtcFile {
    /// What it covers.
    pub(super) target: CString,
    pub(super) source: Source,
}

/// What appears there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A file or directory, bound.
    Path(CString),
    /// These bytes.
    Contents(Vec<u8>),
}

/// Whose files they are.
#[derive(Debug, PartialEq, Eq)]
enum Owner<'a> {
    Name(&'a str),
    Process(u32),
    Nobody,
}

/// The files for a namespace as a person names it (see [`crate::node::find::find`]), and what could
/// not be read.
pub(super) fn files_for(word: &str) -> Result<(Vec<EtcFile>, Vec<String>), Error> {
    match owner(word) {
        Owner::Name(name) => Ok((of_name(&Path::new(ETC_NETNS).join(name))?, Vec::new())),
        Owner::Process(pid) => Ok(of_process(pid)),
        Owner::Nobody => Ok(Default::default()),
    }
}

/// The files for a pod, by a process of it.
pub(super) fn files_of_pod(name: &PodName, process: Option<u32>) -> (Vec<EtcFile>, Vec<String>) {
    if let Some(pid) = process {
        return of_process(pid);
    }
    let note = format!(
        "no process of {name} is seen: the command sees this system's /etc/resolv.conf and \
         /etc/hosts instead of the pod's"
    );
    (Vec::new(), vec![note])
}

fn owner(word: &str) -> Owner<'_> {
    if let Some((directory, name)) = word.rsplit_once('/') {
        let process = directory
            .strip_prefix("/proc/")
            .and_then(|rest| rest.strip_suffix("/ns")?.parse().ok());
        return match process {
            Some(pid) if name == "net" => Owner::Process(pid),
            _ if directory.ends_with("/netns") && !matches!(name, "" | "." | "..") => {
                Owner::Name(name)
            }
            _ => Owner::Nobody,
        };
    }
    match word.parse() {
        Ok(pid)
            if !NAMES
                .iter()
                .any(|names| Path::new(names).join(word).exists()) =>
        {
            Owner::Process(pid)
        }
        _ => Owner::Name(word),
    }
}

fn of_name(directory: &Path) -> Result<Vec<EtcFile>, Error> {
    let failed = |source| Error::Configuration {
        path: directory.to_owned(),
        source,
    };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let target = Path::new("/etc").join(entry.file_name());
        files.push(EtcFile {
            target: c_string(&target).map_err(failed)?,
            source: Source::Path(c_string(&entry.path()).map_err(failed)?),
        });
    }
    Ok(files)
}

fn c_string(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn of_process(pid: u32) -> (Vec<EtcFile>, Vec<String>) {
    let (mut files, mut notes) = (Vec::new(), Vec::new());
    for name in OF_PROCESS {
        let target = Path::new("/etc").join(name);
        let read = read_of_process(pid, &target).and_then(|contents| {
            Ok(EtcFile {
                target: c_string(&target)?,
                source: Source::Contents(contents),
            })
        });
        match read {
            Ok(file) => files.push(file),
            // It uses none; nor does it matter what stands in ours.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => notes.push(format!(
                "the command sees this system's {} instead of that of process {pid}: {error}",
                target.display()
            )),
        }
    }
    (files, notes)
}

fn read_of_process(pid: u32, path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, format!("/proc/{pid}/root"), flags, Mode::empty())?;
    // A FIFO must not make this wait.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // EAGAIN: something on the system was renamed meanwhile.
    let opened = (0..ATTEMPTS)
        .map(|_| openat2(&root, path, flags, Mode::empty(), resolve))
        .find(|result| !matches!(result, Err(Errno::AGAIN)));
    let file = File::from(opened.unwrap_or(Err(Errno::AGAIN))?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut contents = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > LARGEST {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_paths_and_processes_have_their_own_files() {
        for (word, expected) in [
            ("pod-a1", Owner::Name("pod-a1")),
            ("/run/netns/pod-a1", Owner::Name("pod-a1")),
            ("/var/run/netns/pod-a1", Owner::Name("pod-a1")),
            ("/run/netns/", Owner::Nobody),
            ("/run/netns/..", Owner::Nobody),
            ("4194304000", Owner::Process(4_194_304_000)),
            ("/proc/17/ns/net", Owner::Process(17)),
            ("/proc/17/ns/mnt", Owner::Nobody),
            ("/proc/self/ns/net", Owner::Nobody),
            ("/mnt/kept", Owner::Nobody),
        ] {
            assert_eq!(owner(word), expected, "{word}");
        }
    }

    #[test]
    fn what_lies_in_a_names_directory_appears_in_etc() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(
            directory.path().join("resolv.conf"),
            "nameserver 10.96.0.10\n",
        )
        .unwrap();
        let files = of_name(directory.path()).unwrap();
        let source = directory.path().join("resolv.conf");
        assert_eq!(
            files,
            [EtcFile {
                target: c"/etc/resolv.conf".to_owned(),
                source: Source::Path(c_string(&source).unwrap()),
            }]
        );
        assert_eq!(of_name(Path::new("/nonexistent")).unwrap(), []);
    }

    #[test]
    fn a_processs_files_are_copied() {
        let (files, notes) = of_process(std::process::id());
        let resolv = files
            .iter()
            .find(|file| file.target.as_c_str() == c"/etc/resolv.conf");
        match fs::read("/etc/resolv.conf") {
            Ok(own) => assert_eq!(resolv.unwrap().source, Source::Contents(own)),
            Err(_) => assert!(resolv.is_none()),
        }
        assert_eq!(notes, [""; 0]);
        let (files, notes) = of_process(u32::MAX);
        assert!(files.is_empty() && notes.is_empty());
    }
}
