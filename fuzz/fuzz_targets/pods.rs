//! What a node keeps of its pods, on any bytes.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use tracer::node::pods::{
    PodName, cgroup, cni,
    combine::{Files, Found, PodProcess, Surroundings, combine},
    ipam, logs, oci,
};

/// The node's own network namespace.
const INITIAL: u32 = 0;

fn found<T>(value: T) -> Found<T> {
    Found {
        place: String::new(),
        written: 0,
        value,
    }
}

/// Each piece is given to every parser; what they understand is combined.
fn read(data: &[u8]) -> (Files, Vec<PodProcess>) {
    let (mut files, mut processes) = (Files::default(), Vec::new());
    for (index, piece) in (1..).zip(data.split(|&byte| byte == 0).take(32)) {
        files.results.extend(cni::parse(piece).ok().map(found));
        let container = oci::parse(piece).ok().flatten();
        let name = String::from_utf8_lossy(piece).into_owned();
        files
            .containers
            .extend(container.map(|container| found((name.clone(), container))));
        files.logs.extend(logs::parse(&name).map(found));
        let address = ipam::address_of(&name).unwrap_or([10, 0, 0, 1].into());
        files
            .allocations
            .extend(ipam::parse(address, piece).ok().map(found));
        let process = cgroup::parse(piece).map(|place| PodProcess {
            pid: index,
            netns: index % 4,
            place,
            cgroup: None,
        });
        processes.extend(process);
        let _ = oci::parse_pid(piece);
    }
    (files, processes)
}

fuzz_target!(|data: &[u8]| {
    let (files, processes) = read(data);
    let around = Surroundings {
        netns_at: &|path| u32::try_from(path.len() % 5).ok(),
        initial: INITIAL,
        processes: &processes,
    };
    let combined = combine(&files, &around);
    let mut taken = BTreeSet::from([INITIAL]);
    for pod in combined.pods {
        assert_eq!(PodName::parse(&pod.name.to_string()), Ok(pod.name.clone()));
        assert!(pod.network.own().is_none_or(|inode| taken.insert(inode)));
    }
});
