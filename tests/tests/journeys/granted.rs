//! Without root: the program's file has capabilities, and an ordinary user runs it. What is granted is
//! enough or what is missing is named; and what is granted to the program is not to its user.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tracer_tests::lab::{Config, Lab};
use tracer_tests::trace::json::{Packet, Stage};
use tracer_tests::trace::privileges::Privileges;
use tracer_tests::trace::process::{self, Ended, Running};

use super::connection::Planned;
use super::evidence::{Evidence, conntrack, judge, judge_all};
use super::paths::{CONNECTIONS, Connection, Outcome, Target};

/// `nobody`, and its group.
const NOBODY: u32 = 65534;
/// The first client port.
const FIRST_PORT: u16 = 27000;
/// What docs/privileges.md has for `tracer run` without root.
const DOCUMENTED: &[&str] = &[
    "CAP_BPF",
    "CAP_PERFMON",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_SYS_ADMIN",
    "CAP_SYS_PTRACE",
    "CAP_SYSLOG",
    "CAP_DAC_READ_SEARCH",
    "CAP_DAC_OVERRIDE",
];
/// Says that a test is over because it cannot be made here.
const SKIPPED: &str = "skipped: files cannot be given capabilities here";

/// A copy of the tracer with capabilities.
struct Granted {
    directory: TempDir,
}

impl Granted {
    /// `None` where a file system has no capabilities, or executing grants none.
    fn new(capabilities: &[&str]) -> anyhow::Result<Option<Self>> {
        let directory = tempfile::tempdir()?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let granted = Self { directory };
        process::copy_program(process::executable()?, &granted.path())?;
        let mut setcap = Command::new("setcap");
        let text = format!("{}+ep", capabilities.join(",").to_lowercase());
        let output = setcap.arg(text).arg(granted.path()).output();
        let output = output.context("cannot run setcap: is libcap2-bin installed?")?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let nosuid = |line: &str| {
            let mut words = line.split(' ').skip(4);
            let (place, options) = (words.next(), words.next());
            place.is_some_and(|place| place != "/" && granted.path().starts_with(place))
                && options.is_some_and(|options| options.split(',').any(|o| o == "nosuid"))
        };
        Ok((output.status.success() && !mounts.lines().any(nosuid)).then_some(granted))
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("tracer")
    }

    /// Run by `nobody`.
    fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")])
            .arg("--clear-groups")
            .arg(self.path())
            .args(arguments)
            .stdin(std::process::Stdio::null());
        command
    }

    fn run<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Ended> {
        self.command(arguments).output()?.try_into()
    }
}

#[test]
fn with_the_documented_capabilities_everything_is_traced() -> anyhow::Result<()> {
    needs_a_lab!();
    let Some(granted) = Granted::new(DOCUMENTED)? else {
        eprintln!("{SKIPPED}");
        return Ok(());
    };
    let lab = Lab::up(&Config::default())?;
    let netns = lab.netns("a1");
    // IPv4 and IPv6.
    let service = |path: &&Connection| {
        path.from == "a1"
            && path.outcome == Outcome::Answered
            && matches!(path.to, Target::Service("web-node2"))
    };
    let paths = CONNECTIONS.iter().filter(service);
    for (port, connection) in (FIRST_PORT..).zip(paths) {
        let planned = Planned::new(&lab, connection, port)?;
        let mut words: Vec<String> = ["run", "--netns", &netns, "--json", "--"]
            .map(str::to_owned)
            .into();
        words.extend(planned.client_line());
        let ended = granted.run(words)?;
        ensure!(ended.status.success(), "{ended:#?}");
        ensure!(!ended.stderr.contains("tracer:"), "{ended:#?}");
        let evidence = Evidence {
            trace: ended.trace()?,
            conntrack: conntrack(&lab)?,
            captured: None,
        };
        judge(&planned, &evidence).with_context(|| connection.name)?;
        judge_all(std::slice::from_ref(&planned), &evidence)?;
    }
    lab.down()
}

/// What is seen, or said, without one of them.
enum Without {
    /// It does not start.
    Refused,
    /// It traces, and says which one it misses.
    Less,
    /// Another one includes it.
    All,
}

#[test]
fn without_one_of_them_it_is_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let url = format!("http://{}/", lab.service("web-node1").cluster_ip);
    let netns = lab.netns("a1");
    for missing in DOCUMENTED {
        let rest: Vec<&str> = DOCUMENTED
            .iter()
            .copied()
            .filter(|c| c != missing)
            .collect();
        let Some(granted) = Granted::new(&rest)? else {
            eprintln!("{SKIPPED}");
            return Ok(());
        };
        let expected = match *missing {
            "CAP_BPF" | "CAP_PERFMON" => Without::All,
            "CAP_SYS_ADMIN" | "CAP_DAC_OVERRIDE" => Without::Refused,
            _ => Without::Less,
        };
        let words = [
            "run", "--netns", &netns, "--json", "--", "curl", "-sS", &url,
        ];
        let ended = granted.run(words)?;
        let named = ended.stderr.contains(missing);
        let traced = ended.status.success() && ended.trace()?.flows.len() == 1;
        let refused = ended.status.code() == Some(1) && ended.stdout.is_empty();
        let fits = match expected {
            Without::All => traced && !named,
            Without::Less => traced && named,
            Without::Refused => refused && named,
        };
        ensure!(fits, "without {missing}: {ended:#?}");
    }
    lab.down()
}

/// The least with which there is anything to see.
#[test]
fn with_two_capabilities_devices_and_drops_are_seen() -> anyhow::Result<()> {
    needs_a_lab!();
    let Some(granted) = Granted::new(&["CAP_BPF", "CAP_PERFMON"])? else {
        eprintln!("{SKIPPED}");
        return Ok(());
    };
    let lab = Lab::up(&Config::default())?;
    let service = lab.service("web-node1").cluster_ip.to_string();
    let mut running = Running::start(granted.command(["watch", "--json", "host", &service]))?;
    let said = running.wait_for("not everything is seen without")?;
    for missing in [
        "CAP_NET_ADMIN",
        "CAP_SYS_ADMIN",
        "CAP_SYS_PTRACE",
        "CAP_SYSLOG",
    ] {
        ensure!(said.contains(missing), "{said}");
    }
    running.wait_for("tracer: watching")?;
    let threads = Privileges::of_threads(running.pid())?;
    ensure!(
        threads.iter().all(|thread| thread.effective == 0),
        "{threads:x?}"
    );
    let mut curl = lab.command("a1", "curl");
    let output = curl.args(["-sS", &format!("http://{service}/")]).output()?;
    ensure!(output.status.success(), "{output:?}");
    let trace = running.stop()?;
    let [flow] = &trace.flows[..] else {
        anyhow::bail!("{trace:#?}");
    };
    // Its name is that of a mount, which anybody may look at.
    ensure!(flow.client.netns == Some(lab.netns("a1")), "{flow:#?}");
    let received = |packet: &&Packet| packet.hops.iter().any(|hop| hop.stage == Stage::Receive);
    ensure!(trace.packets_of(flow).iter().any(received), "{trace:#?}");
    lab.down()
}

/// A file that only root can read, and a command in a directory that only root can enter.
#[test]
fn what_the_program_may_do_with_files_its_user_may_not() -> anyhow::Result<()> {
    needs_a_lab!();
    let Some(granted) = Granted::new(DOCUMENTED)? else {
        eprintln!("{SKIPPED}");
        return Ok(());
    };
    let secret = tempfile::tempdir()?;
    fs::set_permissions(secret.path(), fs::Permissions::from_mode(0o700))?;
    let program = secret.path().join("program");
    process::copy_program("/bin/true", &program)?;
    let program = program.to_str().context("not a name")?;
    let ended = granted.run(["run", "--json", "--", program])?;
    ensure!(
        !ended.status.success() && ended.stdout.is_empty(),
        "{ended:#?}"
    );
    let recording = secret.path().join("recording");
    let recording = recording.to_str().context("not a name")?;
    let ended = granted.run(["run", "--record", recording, "--", "true"])?;
    ensure!(!ended.status.success(), "{ended:#?}");
    ensure!(!Path::new(recording).exists());
    let ended = granted.run(["replay", program])?;
    ensure!(ended.stderr.contains("Permission denied"), "{ended:#?}");
    Ok(())
}

/// A cgroup that belongs to the user, as systemd makes them for users.
#[test]
fn in_a_delegated_cgroup_a_command_needs_no_access_to_files() -> anyhow::Result<()> {
    needs_a_lab!();
    let capabilities: Vec<&str> = DOCUMENTED
        .iter()
        .copied()
        .filter(|c| !c.contains("DAC"))
        .collect();
    let Some(granted) = Granted::new(&capabilities)? else {
        eprintln!("{SKIPPED}");
        return Ok(());
    };
    let delegated = Delegated::new()?;
    let show = "grep -E '^(Cap|NoNewPrivs|Uid)' /proc/self/status; cat /proc/self/cgroup";
    let mut command = Command::new("sh");
    let script = "echo 0 > \"$0/cgroup.procs\" && exec \"$@\"";
    command.args(["-c", script]).arg(&delegated.0);
    let inner = granted.command(["run", "--json", "--", "sh", "-c", show]);
    command.arg(inner.get_program()).args(inner.get_args());
    let ended: Ended = command.output()?.try_into()?;
    ensure!(ended.status.success(), "{ended:#?}");
    let status = Privileges::read(&format!("Name: sh\n{}", ended.stderr))?;
    let own = Privileges::of(Path::new("/proc/self"))?;
    ensure!(
        status.effective == 0 && status.permitted == 0 && status.ambient == 0,
        "{status:x?}"
    );
    ensure!(
        status.bounding == own.bounding && !status.no_new_privs,
        "{status:x?}"
    );
    let name = delegated.0.file_name().and_then(OsStr::to_str);
    let inside = format!("/{}/tracer-run-", name.context("not a name")?);
    ensure!(ended.stderr.contains(&inside), "{ended:#?}");
    Ok(())
}

/// A cgroup of `nobody`'s beside this process's.
struct Delegated(PathBuf);

impl Delegated {
    fn new() -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let mount = mounts
            .lines()
            .filter(|line| line.contains(" - cgroup2 "))
            .find_map(|line| line.split(' ').nth(4))
            .context("no cgroup2")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let name = format!("tracer-granted-{}", std::process::id());
        let path = Path::new(mount).join(own.unwrap_or_default()).join(name);
        fs::create_dir(&path)?;
        let delegated = Self(path);
        for file in [
            "",
            "cgroup.procs",
            "cgroup.threads",
            "cgroup.subtree_control",
        ] {
            let path = if file.is_empty() {
                delegated.0.clone()
            } else {
                delegated.0.join(file)
            };
            chown(path, Some(NOBODY), Some(NOBODY))?;
        }
        Ok(delegated)
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        // Its last process may be ending.
        let removed = process::wait_until(|| {
            Ok(fs::remove_dir(&self.0).err().map(|error| error.to_string()))
        });
        if let Err(error) = removed {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}
