//! Nothing of the tracer stays in the kernel, however it ends.
//!
//! Another process traces: this test executable, with one test and a variable that lets it work.
//! Its descriptors tell which programs, maps and links are its own; those must be gone.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use aya::{maps::loaded_maps, programs::loaded_programs};

use super::*;

const VARIABLE: &str = "TRACER_TEST_TRACES";

/// Not a test of anything: what the other process does.
#[test]
fn the_other_process() {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    let mut commands = io::stdin().lines();
    let mut next = || commands.next().unwrap().unwrap();
    runtime().block_on(async {
        let live = start(&Program::default());
        println!("\nready");
        next();
        drop(live);
        println!("\nready");
        next();
    });
}

/// What of BPF a process holds, by kind and id.
type Objects = BTreeSet<(&'static str, u32)>;

fn objects_of(pid: u32) -> Objects {
    let mut objects = Objects::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap() {
        // A descriptor can close meanwhile.
        let info = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
        for line in info.lines() {
            for kind in ["prog_id", "map_id", "link_id"] {
                if let Some(id) = line.strip_prefix(kind).and_then(|l| l.strip_prefix(":\t")) {
                    objects.insert((kind, id.parse().unwrap()));
                }
            }
        }
    }
    objects
}

/// Those of the objects that exist.
fn existing(objects: &Objects) -> Objects {
    let programs = loaded_programs().filter_map(|p| Some(("prog_id", p.ok()?.id())));
    let maps = loaded_maps().filter_map(|m| Some(("map_id", m.ok()?.id())));
    let links = loaded_links().into_iter().map(|id| ("link_id", id));
    let all: Objects = programs.chain(maps).chain(links).collect();
    objects.intersection(&all).copied().collect()
}

/// The ids of all links, `BPF_LINK_GET_NEXT_ID`.
fn loaded_links() -> Vec<u32> {
    const LINK_GET_NEXT_ID: libc::c_long = 31;
    let mut ids = vec![0];
    loop {
        // struct { __u32 start_id, next_id, open_flags; }
        let mut attr = [*ids.last().unwrap(), 0, 0];
        // SAFETY: the attribute is of the size given and lives through the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                LINK_GET_NEXT_ID,
                attr.as_mut_ptr(),
                size_of_val(&attr),
            )
        };
        if result < 0 {
            return ids.split_off(1);
        }
        ids.push(attr[1]);
    }
}

struct Other {
    child: Child,
    commands: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
    objects: Objects,
}

/// Has another process trace; returns when it does.
fn other() -> Other {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "kernel::live::tests::remains::the_other_process",
            "--nocapture",
        ])
        .env(VARIABLE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let commands = child.stdin.take().unwrap();
    let said = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut other = Other {
        child,
        commands,
        said,
        objects: Objects::new(),
    };
    other.wait_until_ready();
    other.objects = objects_of(other.child.id());
    other
}

impl Other {
    fn wait_until_ready(&mut self) {
        let ready = |line: io::Result<String>| line.unwrap() == "ready";
        assert!(self.said.any(ready), "the other process ended");
    }

    fn nothing_remains(&self) {
        wait_until("the kernel frees what the other process had", || {
            existing(&self.objects).is_empty()
        });
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A namespace with rules, so that there are netfilter links as well.
fn with_rules(name: &str) -> Option<Named> {
    let netns = Named::new(name);
    let rules = netns.run("nft add table inet t");
    if !rules {
        println!("skipped: nft does not work here");
    }
    rules.then_some(netns)
}

fn assert_complete(objects: &Objects) {
    let of = |kind| objects.iter().filter(|object| object.0 == kind).count();
    assert!(of("prog_id") >= 8, "{objects:?}");
    assert!(of("map_id") >= 4, "{objects:?}");
    // Five tracepoints (which show no link id before 5.8), a cgroup, and a namespace's 20.
    assert!(of("link_id") >= 21, "{objects:?}");
    assert_eq!(existing(objects), *objects);
}

#[test]
fn nothing_remains_when_it_is_dropped() {
    if !root() {
        return;
    }
    let Some(_netns) = with_rules("r1") else {
        return;
    };
    let mut other = other();
    assert_complete(&other.objects);
    writeln!(other.commands).unwrap();
    other.wait_until_ready();
    other.nothing_remains();
    assert!(objects_of(other.child.id()).is_empty());
}

#[test]
fn nothing_remains_when_it_is_killed() {
    if !root() {
        return;
    }
    let Some(_netns) = with_rules("r2") else {
        return;
    };
    let mut other = other();
    assert_complete(&other.objects);
    other.child.kill().unwrap();
    other.child.wait().unwrap();
    other.nothing_remains();
}
