//! The network namespace that a person means: by name, by path, by a process in it, or by the pod
//! whose it is.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use super::{
    inventory::{Entry, Inventory},
    netns,
    pods::{self, HostRoot, Pod, PodName, PodNetwork},
    read::{ReadError, Reader},
};
use crate::privilege;

/// `NSFS_MAGIC`: the file system that namespaces' files are on.
const NSFS_MAGIC: u64 = 0x6e73_6673;
/// Names proposed for one that is not known.
const PROPOSALS: usize = 3;
/// How alike a proposed name must be, of 1.
const ALIKE: f64 = 0.75;

/// A namespace that was found, open.
#[derive(Debug)]
pub struct Found {
    /// Its inode number.
    pub inode: u32,
    /// To enter it with. It cannot end before this is closed.
    pub file: File,
}

/// Why no namespace was found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The namespaces cannot be listed.
    #[error("cannot list the network namespaces: {0}")]
    List(io::Error),
    /// Nothing has this name.
    #[error("no network namespace is called {word}{}; `tracer names` lists them", proposal(.alike))]
    Unknown {
        /// The name.
        word: String,
        /// Names that are like it.
        alike: Vec<String>,
    },
    /// Several have this name.
    #[error("{word} is the name of {count} network namespaces; give the path of one: {}", paths.join(", "))]
    Ambiguous {
        /// The name.
        word: String,
        /// How many.
        count: usize,
        /// Where they are mounted.
        paths: Vec<String>,
    },
    /// No pod of this name runs here.
    #[error("no pod on this node is called {name}{}; `tracer names` lists them", proposal(.alike))]
    UnknownPod {
        /// The name.
        name: PodName,
        /// Names that are like it.
        alike: Vec<String>,
    },
    /// Several pods of this name run here: one replaces another.
    #[error(
        "{} pods called {name} run here; give the network namespace of one with --netns: {}",
        namespaces.len(), namespaces.join(", ")
    )]
    AmbiguousPod {
        /// The name.
        name: PodName,
        /// What to call their namespaces.
        namespaces: Vec<String>,
    },
    /// The process has ended, or belongs to someone else.
    #[error("cannot look at process {pid}: {source}; it must exist, and this needs root")]
    Process {
        /// The process.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be opened.
    #[error("cannot open network namespace {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{} is not a network namespace; those are in /run/netns and /proc/PID/ns/net", path.display())]
    NotANamespace {
        /// The file.
        path: PathBuf,
    },
}

/// A pod that was found.
#[derive(Debug)]
pub struct FoundPod {
    /// Its network namespace; the node's own where it uses that.
    pub netns: Found,
    /// A process of one of its containers.
    pub process: Option<u32>,
}

fn proposal(alike: &[String]) -> String {
    if alike.is_empty() {
        return String::new();
    }
    format!(" (is it {}?)", alike.join(" or "))
}

/// Finds a namespace by `word`: a path when it has a slash, else a name (`host` is the node's own),
/// else, when it is a number, a process.
///
/// # Errors
/// When there is none, or more than one.
pub fn find(word: &str) -> Result<Found, FindError> {
    if word.contains('/') {
        return at(Path::new(word));
    }
    privilege::with_file_access(|| by_name(word)).map_err(|e| FindError::List(e.into()))?
}

fn by_name(word: &str) -> Result<Found, FindError> {
    let inventory = Inventory::read().map_err(FindError::List)?;
    let named: Vec<&Entry> = inventory.named(word).collect();
    match (named.as_slice(), word.parse()) {
        ([entry], _) => open(entry, word),
        ([], Ok(pid)) => of_process(pid),
        ([], Err(_)) => Err(FindError::Unknown {
            word: word.to_owned(),
            alike: alike(word, &inventory),
        }),
        (several, _) => Err(FindError::Ambiguous {
            word: word.to_owned(),
            count: several.len(),
            paths: several
                .iter()
                .flat_map(|entry| &entry.mounts)
                .map(|p| p.display().to_string())
                .collect(),
        }),
    }
}

/// Finds a pod that runs here. What runtimes keep of pods is below `root`.
///
/// # Errors
/// When there is none of that name, or more than one, or its namespace cannot be opened.
pub fn find_pod(name: &PodName, root: HostRoot) -> Result<FoundPod, FindError> {
    let mut reader = Reader::new(root);
    reader.look(true).map_err(|error| match error {
        ReadError::Inventory(error) | ReadError::Thread(error) => FindError::List(error),
    })?;
    let pods: Vec<&Pod> = reader
        .pods()
        .iter()
        .filter(|pod| pod.name == *name)
        .collect();
    let entries = &reader.inventory().entries;
    let entry_of = |pod: &Pod| match pod.network {
        PodNetwork::Own(inode) => entries.get(&inode),
        PodNetwork::Host => entries.values().find(|entry| entry.initial),
    };
    let called = |pod: &&Pod| {
        let name = entry_of(pod).and_then(|entry| entry.names.first().cloned());
        name.unwrap_or_else(|| {
            pod.uid
                .as_ref()
                .map_or_else(String::new, |uid| format!("uid {uid}"))
        })
    };
    let known = || reader.pods().iter().map(|pod| &pod.name);
    match pods.as_slice() {
        [] => Err(FindError::UnknownPod {
            name: name.clone(),
            alike: pods::similar(name, known())
                .iter()
                .map(ToString::to_string)
                .collect(),
        }),
        [pod] => {
            let process = pod
                .containers
                .iter()
                .filter_map(|container| container.pid)
                .min();
            let entry = entry_of(pod).ok_or_else(|| FindError::Open {
                path: PathBuf::from(name.to_string()),
                source: io::ErrorKind::NotFound.into(),
            })?;
            let netns = open(entry, &name.to_string())?;
            Ok(FoundPod { netns, process })
        }
        several => Err(FindError::AmbiguousPod {
            name: name.clone(),
            namespaces: several.iter().map(called).collect(),
        }),
    }
}

fn open(entry: &Entry, word: &str) -> Result<Found, FindError> {
    let inode = entry.inode;
    match entry.open() {
        Ok(file) => Ok(Found { inode, file }),
        // No look at pid 1, and no other process: but this one may run in it.
        Err(_) if entry.own => at(Path::new("/proc/self/ns/net")),
        Err(source) => Err(FindError::Open {
            path: entry
                .mounts
                .first()
                .cloned()
                .unwrap_or_else(|| PathBuf::from(word)),
            source,
        }),
    }
}

fn of_process(pid: u32) -> Result<Found, FindError> {
    let failed = |source| FindError::Process { pid, source };
    let file = File::open(format!("/proc/{pid}/ns/net")).map_err(failed)?;
    let inode = netns::inode_of(&file).map_err(failed)?;
    Ok(Found { inode, file })
}

fn at(path: &Path) -> Result<Found, FindError> {
    let failed = |source| FindError::Open {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let system = rustix::fs::fstatfs(&file).map_err(|error| failed(error.into()))?;
    let path = path.to_owned();
    if u64::try_from(system.f_type) != Ok(NSFS_MAGIC) {
        return Err(FindError::NotANamespace { path });
    }
    match netns::inode_of(&file) {
        Ok(inode) => Ok(Found { inode, file }),
        Err(_) => Err(FindError::NotANamespace { path }),
    }
}

/// The known names that are like `word`, the most alike first.
fn alike(word: &str, inventory: &Inventory) -> Vec<String> {
    let names = inventory.entries.values().flat_map(|entry| &entry.names);
    let mut alike: Vec<(f64, &String)> = names
        .map(|name| (strsim::jaro_winkler(word, name), name))
        .filter(|&(likeness, _)| likeness >= ALIKE)
        .collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0));
    alike
        .into_iter()
        .take(PROPOSALS)
        .map(|(_, name)| name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::testing::{Named, root};

    fn error(word: &str) -> String {
        find(word).unwrap_err().to_string()
    }

    #[test]
    fn a_namespace_is_found_by_name_path_and_process() {
        if !root() {
            return;
        }
        let netns = Named::new("found");
        let inode = netns.inode();
        assert_eq!(find(&netns.name).unwrap().inode, inode);
        assert_eq!(
            find(&format!("/run/netns/{}", netns.name)).unwrap().inode,
            inode
        );
        let own = netns::inode_of(&File::open("/proc/self/ns/net").unwrap()).unwrap();
        assert_eq!(find(&std::process::id().to_string()).unwrap().inode, own);
        assert_eq!(find("/proc/self/ns/net").unwrap().inode, own);
        assert!(find("host").is_ok());
    }

    #[test]
    fn a_name_that_is_not_known_is_answered_with_one_that_is() {
        assert!(error("hots").contains("(is it host?)"), "{}", error("hots"));
        assert!(error("zzzzzzzz").contains("`tracer names`"));
    }

    #[test]
    fn what_is_no_namespace_is_refused() {
        assert!(error("/proc/self/stat").contains("not a network namespace"));
        assert!(error("/nonexistent/net").contains("cannot open"));
        assert!(error("4294967295").contains("process 4294967295"));
    }
}
