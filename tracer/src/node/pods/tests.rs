//! Pods out of the files of a real node, and of nodes that are broken in various ways.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use proptest::prelude::*;

use super::{
    combine::{Combined, Files, Found, PodProcess, Surroundings, combine},
    reader::PodReader,
    *,
};

const NGINX_UID: &str = "4990d984-10d7-4903-89be-5be14e76c05a";
const NGINX: &str = "be5f355e645675f42075859138209e1277abc4a643bd5a33d16888ec98621531";
const NGINX_WEB: &str = "93654ab60ba0ee04c2a086d8af5adb551cf163233d81c755764640926e8eb563";
const NGINX_NETNS: &str = "/run/netns/cni-22152ca6-899e-e873-1a4b-8a6253e88db3";
const CURL_UID: &str = "5cf5fb22-f4bf-477f-825f-1eadec32a779";
const CURL_NETNS: &str = "/run/netns/cni-c2d10c4f-1f21-d02f-cf87-319db35852eb";
/// The node's own network namespace.
const HOST: u32 = 1;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cri")
}

fn read(root: &Path) -> PodReader {
    let mut reader = PodReader::new(HostRoot::at(root).unwrap());
    reader.refresh(true);
    reader
}

fn process(pid: u32, netns: u32, uid: &str, container: Option<&str>) -> PodProcess {
    PodProcess {
        pid,
        netns,
        place: cgroup::Place {
            uid: Uid::new(uid).unwrap(),
            container: container.map(str::to_owned),
            unified: None,
        },
        cgroup: Some(u64::from(pid) + 100),
    }
}

fn pods(files: &Files, mounts: &[(&str, u32)], processes: &[PodProcess]) -> Combined {
    let mounts: BTreeMap<&str, u32> = mounts.iter().copied().collect();
    let root = HostRoot::default();
    let around = Surroundings {
        netns_at: &|path| mounts.get(root.on_node(path).as_str()).copied(),
        initial: HOST,
        processes,
    };
    combine(files, &around)
}

fn of(combined: &Combined) -> Vec<(String, PodNetwork)> {
    let pods = combined.pods.iter();
    pods.map(|pod| (pod.name.to_string(), pod.network))
        .collect()
}

/// What each place gave, as text.
fn learnt(pod: &Pod) -> Vec<String> {
    let evidence = pod
        .evidence
        .iter()
        .filter(|evidence| !evidence.facts.is_empty());
    evidence
        .map(|Evidence { source, facts, .. }| {
            let facts: Vec<&str> = facts.iter().map(|fact| fact.as_str()).collect();
            format!("{source}: {}", facts.join(" "))
        })
        .collect()
}

/// The fixture's root without some of its parts.
fn without(parts: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    copy(&fixture(), root.path());
    for part in parts {
        fs::remove_dir_all(root.path().join(part)).unwrap();
    }
    root
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

#[test]
fn a_node_with_everything_there() {
    let files = read(&fixture()).files();
    assert_eq!((files.results.len(), files.containers.len()), (4, 4));
    assert_eq!((files.logs.len(), files.allocations.len()), (2, 2));
    let mounts = [(NGINX_NETNS, 5), (CURL_NETNS, 6)];
    let processes = [
        process(24228, 5, NGINX_UID, Some(NGINX)),
        process(24258, 5, NGINX_UID, Some(NGINX_WEB)),
        process(24260, 5, NGINX_UID, Some(NGINX_WEB)),
    ];
    let combined = pods(&files, &mounts, &processes);
    assert_eq!((combined.nameless, combined.absent), (0, 0));
    let expected = [
        ("default/curl-client".to_owned(), PodNetwork::Own(6)),
        (
            "default/nginx-7c5ddbdf54-x8k2p".to_owned(),
            PodNetwork::Own(5),
        ),
    ];
    assert_eq!(of(&combined), expected);
    let nginx = &combined.pods[1];
    assert_eq!(nginx.uid.as_ref().map(Uid::as_str), Some(NGINX_UID));
    assert_eq!(nginx.sandbox.as_deref(), Some(NGINX));
    assert_eq!(nginx.addresses, ["10.244.1.100".parse::<IpAddr>().unwrap()]);
    let web = Container {
        id: NGINX_WEB.to_owned(),
        name: Some("web".to_owned()),
        pid: Some(24258),
    };
    assert_eq!(nginx.containers, [web]);
    assert_eq!(nginx.cgroups, [24328, 24358, 24360]);
    let expected = [
        "cni-result: name uid network address",
        "containerd: container",
        "cgroup: process",
    ];
    assert_eq!(learnt(nginx), expected);
    assert!(
        nginx.evidence[0]
            .place
            .starts_with("/var/lib/cni/results/cbr0-be5f355e")
    );
}

#[test]
fn without_the_cni_cache_the_runtime_and_host_local_say_the_same() {
    let root = without(&["var/lib/cni/results"]);
    let mounts = [(NGINX_NETNS, 5), (CURL_NETNS, 6)];
    let combined = pods(&read(root.path()).files(), &mounts, &[]);
    let curl = &combined.pods[0];
    assert_eq!(
        (curl.name.name(), curl.network),
        ("curl-client", PodNetwork::Own(6))
    );
    assert_eq!(curl.addresses, ["10.244.1.101".parse::<IpAddr>().unwrap()]);
    let expected = [
        "containerd: name uid network",
        "containerd: container",
        "host-local: address",
    ];
    let mut learnt = learnt(curl);
    learnt.sort();
    assert_eq!(learnt, {
        let mut e = expected.map(str::to_owned);
        e.sort();
        e
    });
}

#[test]
fn by_processes_and_log_directories_alone() {
    let root = without(&["var/lib/cni", "run"]);
    let files = read(root.path()).files();
    let processes = [
        // A runtime's helper, in the pod's cgroup but not in its network.
        process(10, HOST, NGINX_UID, None),
        process(11, 5, NGINX_UID, Some(NGINX_WEB)),
        process(12, 7, "00000000-0000-0000-0000-000000000000", Some(NGINX)),
    ];
    let combined = pods(&files, &[], &processes);
    let expected = [(
        "default/nginx-7c5ddbdf54-x8k2p".to_owned(),
        PodNetwork::Own(5),
    )];
    assert_eq!(of(&combined), expected);
    assert_eq!(combined.nameless, 1, "a UID that nobody names");
    let expected = ["cgroup: uid network", "cgroup: process", "pod-logs: name"];
    assert_eq!(learnt(&combined.pods[0]), expected);
}

#[test]
fn a_pod_with_the_nodes_network_is_known_by_its_processes_only() {
    let root = without(&["var/lib/cni", "run"]);
    let files = read(root.path()).files();
    let combined = pods(&files, &[], &[process(10, HOST, CURL_UID, Some(NGINX_WEB))]);
    assert_eq!(
        of(&combined),
        [("default/curl-client".to_owned(), PodNetwork::Host)]
    );
    assert!(combined.pods[0].addresses.is_empty());
    assert_eq!(combined.pods[0].containers[0].pid, Some(10));
    // Also when the runtime says so; but then it runs only if there is a process.
    let mut files = read(&fixture()).files();
    files.results.clear();
    for container in &mut files.containers {
        let network = &mut container.value.1.network;
        *network = network.as_ref().map(|_| oci::Network::Host);
    }
    let combined = pods(&files, &[], &[process(10, HOST, CURL_UID, None)]);
    assert_eq!(
        of(&combined),
        [("default/curl-client".to_owned(), PodNetwork::Host)]
    );
}

#[test]
fn what_is_left_over_is_no_pod() {
    let files = read(&fixture()).files();
    let combined = pods(&files, &[], &[]);
    assert_eq!((combined.pods.len(), combined.absent), (0, 2));
    // Not even where its namespace's name now means the node's.
    let combined = pods(&files, &[(NGINX_NETNS, HOST)], &[]);
    assert!(combined.pods.is_empty());
}

#[test]
fn a_namespace_belongs_to_one_pod_the_one_that_was_attached_last() {
    let mut files = read(&fixture()).files();
    files.containers.clear();
    for result in &mut files.results {
        result.value.netns = Some("/run/netns/reused".to_owned());
        let nginx = result.value.sandbox == NGINX;
        result.written = i128::from(nginx);
    }
    let combined = pods(&files, &[("/run/netns/reused", 5)], &[]);
    let nginx = (
        "default/nginx-7c5ddbdf54-x8k2p".to_owned(),
        PodNetwork::Own(5),
    );
    assert_eq!(of(&combined), [nginx]);
    // Unless the other has processes there.
    let curl = files
        .results
        .iter()
        .find(|found| found.written == 0)
        .unwrap();
    let process = process(9, 5, CURL_UID, Some(&curl.value.sandbox));
    let combined = pods(&files, &[("/run/netns/reused", 5)], &[process]);
    assert_eq!(combined.pods[0].name.name(), "curl-client");
}

#[test]
fn of_two_sandboxes_of_one_pod_a_process_is_in_the_one_whose_network_it_has() {
    let mut files = read(&fixture()).files();
    files.containers.clear();
    files.results.retain(|found| found.value.sandbox == NGINX);
    let mut before = files.results.clone();
    for found in &mut before {
        found.value.sandbox = "earlier".to_owned();
        found.value.netns = Some("/run/netns/earlier".to_owned());
        found.written = 0;
    }
    files.results.extend(before);
    let mounts = [(NGINX_NETNS, 5), ("/run/netns/earlier", 4)];
    let combined = pods(
        &files,
        &mounts,
        &[process(9, 4, NGINX_UID, Some(NGINX_WEB))],
    );
    let with_process = combined
        .pods
        .iter()
        .filter(|pod| !pod.containers.is_empty());
    let networks: Vec<PodNetwork> = with_process.map(|pod| pod.network).collect();
    assert_eq!(
        (combined.pods.len(), networks),
        (2, vec![PodNetwork::Own(4)])
    );
}

#[test]
fn what_changes_is_read_again_and_nothing_else() {
    let root = without(&[]);
    let mut reader = read(root.path());
    assert!(!reader.refresh(true), "nothing has changed");
    let results = root.path().join("var/lib/cni/results");
    let file = results.join(format!("cbr0-{NGINX}-eth0"));
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    assert!(reader.refresh(true));
    assert_eq!(reader.files().results.len(), 3);
    fs::write(&file, text.replace("nginx-7c5ddbdf54-x8k2p", "another")).unwrap();
    assert!(reader.refresh(true));
    let names = reader
        .files()
        .results
        .into_iter()
        .filter_map(|found| found.value.pod);
    assert!(names.into_iter().any(|name| name.name() == "another"));
    fs::remove_dir_all(root.path().join("var/log/pods")).unwrap();
    assert!(reader.refresh(true));
    assert!(reader.files().logs.is_empty());
}

#[test]
fn a_change_in_a_directory_is_told() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let root = without(&[]);
    let mut reader = read(root.path());
    let changed = |reader: &PodReader| {
        let watch = reader.changes().unwrap();
        let mut events = [PollFd::new(&watch, PollFlags::IN)];
        poll(&mut events, Some(&Timespec::default())).unwrap() > 0
    };
    assert!(!changed(&reader));
    fs::write(root.path().join("var/lib/cni/results/new"), "{}").unwrap();
    assert!(changed(&reader));
    assert!(reader.refresh(false), "without waiting for the next round");
    assert!(!changed(&reader) && !reader.refresh(false));
}

#[test]
fn a_broken_node_gives_notes_and_what_is_left() {
    use std::os::unix::fs::symlink;
    let root = without(&[]);
    let results = root.path().join("var/lib/cni/results");
    fs::write(results.join("binary"), [0xff; 1000]).unwrap();
    fs::write(results.join("deep"), "[".repeat(100_000)).unwrap();
    fs::write(results.join("huge"), vec![b'{'; 3 << 20]).unwrap();
    fs::create_dir(results.join("directory")).unwrap();
    symlink("/etc/passwd", results.join("link")).unwrap();
    let tasks = root
        .path()
        .join("run/containerd/io.containerd.runtime.v2.task/k8s.io");
    fs::create_dir(tasks.join("empty")).unwrap();
    fs::write(tasks.join("file"), "").unwrap();
    symlink("loop", tasks.join("loop")).unwrap();
    let reader = read(root.path());
    let files = reader.files();
    assert_eq!((files.results.len(), files.containers.len()), (4, 4));
    let [note] = reader.notes() else {
        panic!("{:?}", reader.notes());
    };
    assert!(
        note.contains("binary") && note.ends_with("and 1 more"),
        "{note}"
    );
}

#[test]
fn a_node_without_any_of_it_has_no_pods() {
    let root = tempfile::tempdir().unwrap();
    let mut reader = read(root.path());
    assert_eq!(reader.files(), Files::default());
    assert!(reader.notes().is_empty());
    // It is made a node while it is watched.
    copy(&fixture(), root.path());
    assert!(reader.refresh(true));
    assert_eq!(reader.files().results.len(), 4);
}

#[test]
fn files_that_vanish_while_they_are_read_are_as_if_they_had_never_been() {
    let root = without(&[]);
    let results = root.path().join("var/lib/cni/results");
    let file = results.join(format!("cbr0-{NGINX}-eth0"));
    let text = fs::read(&file).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fs::write(&file, &text).unwrap();
                fs::remove_file(&file).unwrap();
            }
        });
        let mut reader = read(root.path());
        for _ in 0..300 {
            reader.refresh(true);
            assert!(reader.files().results.len() >= 3);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// Few values, so that they meet.
fn small() -> impl Strategy<Value = u32> {
    0u32..4
}

prop_compose! {
    fn result()(pod in small(), sandbox in small(), netns in small(), written in 0i128..3) -> Found<cni::CniResult> {
        Found {
            place: format!("/var/lib/cni/results/{sandbox}-{pod}"),
            written,
            value: cni::CniResult {
                sandbox: format!("s{sandbox}"),
                pod: (pod > 0).then(|| PodName::new("default", &format!("p{pod}")).unwrap()),
                uid: Uid::new(&format!("u{pod}")),
                netns: Some(format!("/run/netns/n{netns}")),
                interface: "eth0".to_owned(),
                addresses: vec![IpAddr::from([10, 0, 0, u8::try_from(pod).unwrap()])],
                host_interfaces: vec![],
            },
        }
    }
}

prop_compose! {
    fn container()(id in small(), sandbox in small(), pod in small(), netns in small(), is_sandbox: bool) -> Found<(String, oci::OciContainer)> {
        let container = oci::OciContainer {
            runtime: Source::Containerd,
            sandbox: format!("s{sandbox}"),
            is_sandbox,
            pod: (pod > 0).then(|| PodName::new("default", &format!("p{pod}")).unwrap()),
            uid: Uid::new(&format!("u{pod}")),
            name: None,
            network: Some(if netns == 0 { oci::Network::Host } else { oci::Network::Own(format!("/run/netns/n{netns}")) }),
            addresses: vec![],
        };
        Found { place: format!("/run/{id}"), written: 0, value: (format!("c{id}"), container) }
    }
}

prop_compose! {
    fn any_process()(pid in 1u32..9, netns in 1u32..4, uid in small(), container in small()) -> PodProcess {
        process(pid, netns, &format!("u{uid}"), Some(&format!("c{container}")))
    }
}

proptest! {
    #[test]
    fn whatever_the_places_say_each_namespace_is_one_pods(
        results in prop::collection::vec(result(), 0..8),
        containers in prop::collection::vec(container(), 0..8),
        processes in prop::collection::vec(any_process(), 0..8),
    ) {
        let files = Files { results, containers, ..Files::default() };
        let mounts = [("/run/netns/n1", HOST), ("/run/netns/n2", 2), ("/run/netns/n3", 3)];
        let combined = pods(&files, &mounts, &processes);
        let mut taken: Vec<u32> = combined.pods.iter().filter_map(|pod| pod.network.own()).collect();
        prop_assert!(!taken.contains(&HOST), "the node's own is no pod's");
        taken.sort_unstable();
        let all = taken.len();
        taken.dedup();
        prop_assert_eq!(taken.len(), all);
        for pod in &combined.pods {
            // Every name was given by someone, and each fact is said to come from one place.
            let gave = |fact| pod.evidence.iter().filter(|e| e.facts.contains(&fact)).count();
            prop_assert_eq!(gave(Fact::Name), 1);
            prop_assert!(gave(Fact::Uid) <= 1);
            prop_assert!(pod.network.own().is_some() || pod.addresses.is_empty());
        }
    }
}
