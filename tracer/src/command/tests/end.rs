//! The tracer's end, in all ways.

use std::{os::unix::process::CommandExt, process::Stdio, thread, time::Duration};

use super::{role::Tracer, *};

/// A process that ends only when it is told to, with no hold on the output of the test.
const ENDLESS: &str = "exec sleep 1000 >/dev/null 2>&1";

fn wait_until_gone(cgroup: &str, guardian: &str) {
    wait_until("the cgroup is gone", || !Path::new(cgroup).exists());
    wait_until("the guardian is gone", || !is_guardian(guardian));
}

/// Not a process that has its number by now, nor what is left of it until it is waited for.
fn is_guardian(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.starts_with("Name:\ttrace-guardian\n") && !status.contains("State:\tZ")
}

#[test]
fn a_killed_tracer_leaves_the_command_and_nothing_else() {
    if !root() {
        return;
    }
    let mut tracer = Tracer::start("run", ENDLESS);
    let (cgroup, guardian) = (tracer.hear("cgroup "), tracer.hear("guardian "));
    let survivor = Survivor::new(&tracer.hear("command "));
    wait_until("the command is in its cgroup", || !survivor.is_back());
    assert!(is_guardian(&guardian));
    tracer.signal(Signal::KILL);
    tracer.wait();
    wait_until_gone(&cgroup, &guardian);
    assert!(survivor.lives() && survivor.is_back());
}

#[test]
fn a_tracer_killed_after_its_command_leaves_what_runs_in_the_background() {
    if !root() {
        return;
    }
    let (_directory, out) = scratch().unwrap();
    let script = format!("sleep 1000 >/dev/null 2>&1 & echo $! > {}", out.display());
    let mut tracer = Tracer::start("run", &script);
    let (cgroup, guardian) = (tracer.hear("cgroup "), tracer.hear("guardian "));
    assert_eq!(tracer.hear("ended "), "0");
    let survivor = Survivor::new(&fs::read_to_string(&out).unwrap());
    tracer.signal(Signal::KILL);
    tracer.wait();
    wait_until_gone(&cgroup, &guardian);
    assert!(survivor.lives() && survivor.is_back());
}

#[test]
fn a_tracer_killed_before_its_command_leaves_nothing() {
    if !root() {
        return;
    }
    let mut tracer = Tracer::start("prepare", ENDLESS);
    let (cgroup, guardian) = (tracer.hear("cgroup "), tracer.hear("guardian "));
    assert!(Path::new(&cgroup).exists() && is_guardian(&guardian));
    tracer.signal(Signal::KILL);
    tracer.wait();
    wait_until_gone(&cgroup, &guardian);
}

/// As a terminal or a test runner does it.
#[test]
fn a_tracer_killed_with_its_process_group_leaves_nothing() {
    if !root() {
        return;
    }
    let script = "sleep 1000 & exec sleep 1000";
    let mut command = Tracer::command(&[], "run", script).unwrap();
    let mut tracer = Tracer::spawn(command.process_group(0)).unwrap();
    let (cgroup, guardian) = (tracer.hear("cgroup "), tracer.hear("guardian "));
    let command = Survivor::new(&tracer.hear("command "));
    let group = Pid::from_child(&tracer.child);
    rustix::process::kill_process_group(group, Signal::KILL).unwrap();
    tracer.wait();
    wait_until_gone(&cgroup, &guardian);
    wait_until("the command has ended", || !command.lives());
}

/// Wherever it has come to when it is killed.
#[test]
fn a_tracer_killed_at_any_moment_leaves_nothing() {
    if !root() {
        return;
    }
    for delay in 0..24 {
        let mut tracer = Tracer::start("repeat", "exit 0");
        tracer.hear("repeating");
        thread::sleep(Duration::from_micros(700 * delay));
        tracer.signal(Signal::KILL);
        tracer.wait();
        let pid = tracer.child.id();
        wait_until("its cgroups are gone", || leaves_of(pid).is_empty());
    }
}

/// When nothing could tidy up, the next one does.
#[test]
fn what_a_killed_guardian_leaves_is_removed_with_the_next_run() {
    if !root() {
        return;
    }
    let mut tracer = Tracer::start("run", ENDLESS);
    let (cgroup, guardian) = (tracer.hear("cgroup "), tracer.hear("guardian "));
    let survivor = Survivor::new(&tracer.hear("command "));
    kill_process(Survivor::new(&guardian).0, Signal::KILL).unwrap();
    // A tracer whose guardian is gone still removes the cgroup when it ends; not when killed.
    let prepared = Prepared::new(shell("exit 0", Path::new(""))).unwrap();
    assert!(Path::new(&cgroup).exists(), "it is in use");
    drop(prepared);
    tracer.signal(Signal::KILL);
    tracer.wait();
    let removed = || {
        drop(Prepared::new(shell("exit 0", Path::new(""))).unwrap());
        !Path::new(&cgroup).exists()
    };
    // The lock goes with the last descriptor, which a fork in another test may hold a moment.
    wait_until("the next run removes it", removed);
    assert!(survivor.lives() && survivor.is_back());
}

#[test]
fn the_guardian_is_apart_from_all() {
    if !root() {
        return;
    }
    let mut tracer = Tracer::start("prepare", ENDLESS);
    let (cgroup, guardian) = (tracer.hear("cgroup "), tracer.hear("guardian "));
    let proc = |file: &str| PathBuf::from(format!("/proc/{guardian}/{file}"));
    let line = fs::read_to_string(proc("cmdline")).unwrap();
    assert_eq!(line.trim_end_matches('\0'), "trace-guardian");
    let pid = Survivor::new(&guardian);
    assert_eq!(rustix::process::getsid(Some(pid.0)).unwrap(), pid.0);
    assert_eq!(fs::read_link(proc("cwd")).unwrap(), Path::new("/"));
    let mut open: Vec<(String, PathBuf)> = fs::read_dir(proc("fd"))
        .unwrap()
        .flatten()
        .map(|entry| {
            let number = entry.file_name().to_string_lossy().into_owned();
            (number, fs::read_link(entry.path()).unwrap())
        })
        .collect();
    open.sort();
    let parent = Path::new(&cgroup).parent().unwrap();
    assert_eq!(open.len(), 3, "{open:?}");
    assert!(open[0].1.to_string_lossy().starts_with("pipe:"), "{open:?}");
    assert_eq!(open[1].1, parent);
    assert_eq!(open[2].1, parent.join("cgroup.procs"));
    // Only SIGKILL would end it.
    for signal in [
        Signal::TERM,
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::PIPE,
    ] {
        kill_process(pid.0, signal).unwrap();
    }
    assert!(is_guardian(&guardian));
    tracer.go_on();
    assert!(tracer.wait().success());
    assert!(
        !Path::new(&cgroup).exists() && !pid.lives(),
        "neither is left"
    );
}

#[test]
fn sigterm_goes_to_the_command() {
    if !root() {
        return;
    }
    let script = "trap 'exit 7' TERM; echo trapped >&2; while :; do sleep 0.01; done";
    let mut command = Tracer::command(&[], "run", script).unwrap();
    let mut tracer = Tracer::spawn(command.stderr(Stdio::piped())).unwrap();
    let cgroup = tracer.hear("cgroup ");
    let mut said = [0; 8];
    let mut stderr = tracer.child.stderr.take().unwrap();
    io::Read::read_exact(&mut stderr, &mut said).unwrap();
    assert_eq!(&said, b"trapped\n");
    tracer.signal(Signal::TERM);
    assert_eq!(tracer.hear("ended "), "7");
    tracer.go_on();
    assert_eq!(tracer.wait().code(), Some(7));
    assert!(!Path::new(&cgroup).exists());
}

#[test]
fn the_commands_output_can_go_to_stderr() {
    if !root() {
        return;
    }
    let mut command = Tracer::command(&[], "run", "echo to-stderr").unwrap();
    let mut tracer = Tracer::spawn(command.stderr(Stdio::piped())).unwrap();
    tracer.hear("ended ");
    tracer.go_on();
    let stderr = io::read_to_string(tracer.child.stderr.take().unwrap()).unwrap();
    assert_eq!(stderr, "to-stderr\n");
}
