//! The command's network namespace, and what goes with it in `/sys` and `/etc`.

use std::process::{Child, Command, Stdio};

use super::*;
use crate::{command::Place, node::testing::Named};

/// Tells the namespace, its devices, and what DNS and hosts files say.
const LOOK: &str = "exec > \"$1\"; readlink /proc/self/ns/net; ls /sys/class/net; \
                    cat /etc/resolv.conf /etc/hosts";

/// A directory in `/etc/netns`, removed with the test.
struct EtcNetns(PathBuf);

impl EtcNetns {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let directory = Path::new("/etc/netns").join(name);
        fs::create_dir_all(&directory).unwrap();
        for (name, contents) in files {
            fs::write(directory.join(name), contents).unwrap();
        }
        Self(directory)
    }
}

impl Drop for EtcNetns {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        // If nobody else has anything in it.
        let _ = fs::remove_dir("/etc/netns");
    }
}

/// What [`LOOK`] says when run in the namespace, and the notes.
async fn look(netns: &str) -> (String, Vec<String>) {
    let (_directory, out) = scratch().unwrap();
    let options = Options {
        place: Place::Netns(netns.to_owned()),
        ..shell(LOOK, &out)
    };
    let mut running = Prepared::new(options).unwrap().start().unwrap();
    let notes = running.notes().to_vec();
    assert_eq!(exit_code(running.wait().await.unwrap()), 0);
    assert_eq!(running.close().unwrap(), 0);
    (fs::read_to_string(&out).unwrap(), notes)
}

/// A process in a namespace with its `/etc`, as a pod's would be. Ended with the test.
struct Inhabitant(Child);

impl Inhabitant {
    fn new(netns: &Named) -> Self {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &netns.name, "sh", "-c"]);
        command.arg("echo ready; exec sleep 1000 >/dev/null 2>&1");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let ready = io::read_to_string(child.stdout.take().unwrap()).unwrap();
        assert_eq!(ready, "ready\n");
        Self(child)
    }
}

impl Drop for Inhabitant {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_namespace_is_entered_by_name_path_and_process() {
    if !root() {
        return;
    }
    let netns = Named::new("place");
    netns.ip("link add only-here type veth peer name here-too");
    let resolv = "nameserver 10.96.0.10\n";
    let hosts = "10.0.0.1 from-netns\n";
    let etc = EtcNetns::new(&netns.name, &[("resolv.conf", resolv), ("hosts", hosts)]);
    let inhabitant = Inhabitant::new(&netns);
    // From here on, the process is the only one to have them.
    let expected = format!(
        "net:[{}]\nhere-too\nlo\nonly-here\n{resolv}{hosts}",
        netns.inode()
    );
    let by_name = [netns.name.clone(), format!("/run/netns/{}", netns.name)];
    for word in &by_name {
        assert_eq!(look(word).await, (expected.clone(), Vec::new()), "{word}");
    }
    drop(etc);
    let pid = inhabitant.0.id();
    for word in [pid.to_string(), format!("/proc/{pid}/ns/net")] {
        assert_eq!(look(&word).await, (expected.clone(), Vec::new()), "{word}");
    }
    let own = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let (seen, _) = look(&netns.name).await;
    assert!(seen.contains(&own) && !seen.contains(resolv), "{seen}");
}

#[tokio::test]
async fn the_mounts_are_the_commands_alone() {
    if !root() {
        return;
    }
    let mounts = || {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut lines: Vec<String> = table.lines().map(str::to_owned).collect();
        // Other tests and programs come and go in this one.
        lines.retain(|line| !line.contains(" /run/netns"));
        lines
    };
    let netns = Named::new("mounts");
    let _etc = EtcNetns::new(&netns.name, &[("hosts", "")]);
    let before = mounts();
    let (_, notes) = look(&netns.name).await;
    assert_eq!(notes, [""; 0]);
    assert_eq!(mounts(), before);
}

#[tokio::test]
async fn what_is_mounted_in_sys_stays_visible() {
    if !root() {
        return;
    }
    let netns = Named::new("kept");
    let (_directory, out) = scratch().unwrap();
    let script = "read -r leaf < \"$1\"; grep -qx $$ \"$leaf/cgroup.procs\"";
    let options = Options {
        place: Place::Netns(netns.name.clone()),
        ..shell(script, &out)
    };
    let prepared = Prepared::new(options).unwrap();
    assert_eq!(prepared.netns(), Some(netns.inode()));
    fs::write(&out, format!("{}\n", prepared.leaf.path().display())).unwrap();
    let mut running = prepared.start().unwrap();
    assert_eq!(exit_code(running.wait().await.unwrap()), 0);
}

#[tokio::test]
async fn a_file_without_a_place_in_etc_is_noted_and_the_command_runs() {
    if !root() {
        return;
    }
    let netns = Named::new("noted");
    let _etc = EtcNetns::new(&netns.name, &[("tracer-no-such-file", "")]);
    let (seen, notes) = look(&netns.name).await;
    assert!(seen.starts_with("net:["), "{seen}");
    let [note] = notes.as_slice() else {
        panic!("{notes:?}")
    };
    assert!(note.contains("/etc/tracer-no-such-file"), "{note}");
    assert!(note.contains("No such file"), "{note}");
}

#[tokio::test]
async fn an_unknown_namespace_is_answered_with_one_that_is_known() {
    if !root() {
        return;
    }
    let netns = Named::new("known");
    let options = Options {
        place: Place::Netns(format!("{}n", netns.name)),
        ..shell("exit 0", Path::new(""))
    };
    let error = Prepared::new(options).unwrap_err().to_string();
    assert!(error.contains(&netns.name), "{error}");
}

#[tokio::test]
async fn the_namespace_is_not_kept_alive() {
    if !root() {
        return;
    }
    let netns = Named::new("freed");
    let inode = netns.inode();
    let options = Options {
        place: Place::Netns(netns.name.clone()),
        ..shell("exit 0", Path::new(""))
    };
    let mut running = Prepared::new(options).unwrap().start().unwrap();
    running.wait().await.unwrap();
    // By a descriptor of the tracer or of the guardian.
    let mut holders = vec![std::process::id().to_string()];
    holders.extend(
        running
            .leaf
            .guardian()
            .map(|pid| pid.as_raw_nonzero().to_string()),
    );
    assert_eq!(holders.len(), 2);
    for holder in holders {
        let link = format!("net:[{inode}]");
        let files = fs::read_dir(format!("/proc/{holder}/fd")).unwrap();
        let targets = files.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        assert_eq!(
            targets
                .filter(|target| target.as_os_str() == link.as_str())
                .count(),
            0
        );
    }
}
