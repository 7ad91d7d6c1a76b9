//! What a tracer that runs may still do, and that its command has what its caller has.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use rustix::process::{Signal, kill_process_group};
use tracer_tests::lab::{Config, Lab};
use tracer_tests::trace::privileges::{Privileges, bits};
use tracer_tests::trace::process::{self, Ended, Running, wait_until};
use tracer_tests::trace::remains;

/// What the thread that watches the node needs, the one that reads rules, and the one that makes
/// netfilter links.
const NODE: &[&str] = &["CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE", "CAP_SYS_ADMIN"];
const RULES: &[&str] = &[
    "CAP_DAC_READ_SEARCH",
    "CAP_SYS_PTRACE",
    "CAP_SYS_ADMIN",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
];
const NETFILTER: &[&str] = &[
    "CAP_DAC_READ_SEARCH",
    "CAP_SYS_PTRACE",
    "CAP_SYS_ADMIN",
    "CAP_NET_ADMIN",
];
/// The thread that looks for the processes at sockets.
const SOCKETS: &[&str] = &["CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"];
/// The thread that has the kernel measure the programs.
const COSTS: &[&str] = &["CAP_SYS_ADMIN"];
/// What the main thread of `tracer run` needs.
const RUN: &[&str] = &["CAP_DAC_OVERRIDE", "CAP_KILL"];
/// That of `tracer record`, and the guardian.
const RECORD: &[&str] = &["CAP_DAC_OVERRIDE"];
const GUARDIAN: &[&str] = &["CAP_DAC_OVERRIDE"];
/// From this version on, the main thread can use maps without any.
const FREE_MAPS: (u32, u32) = (6, 0);

/// What this process has of these.
fn of_own(names: &[&str]) -> anyhow::Result<u64> {
    Ok(bits(names)? & own()?.permitted)
}

fn own() -> anyhow::Result<Privileges> {
    Privileges::of(Path::new("/proc/thread-self"))
}

/// With what the main thread needs on this kernel.
fn of_main(names: &[&str]) -> anyhow::Result<u64> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || anyhow::Ok(numbers.next().context("no version")?.parse()?);
    let old = (number()?, number()?) < FREE_MAPS;
    of_own(names).map(|set| {
        set | if old {
            of_own(&["CAP_BPF"]).unwrap_or(0)
        } else {
            0
        }
    })
}

/// What is wrong with what a thread has, if it is more or less than that.
fn differs(found: &Privileges, expected: u64) -> anyhow::Result<Option<String>> {
    let own = own()?;
    // Only who has CAP_SETPCAP can take from the bounding set.
    let bounding = if own.effective & bits(&["CAP_SETPCAP"])? == 0 {
        own.bounding
    } else {
        own.bounding & expected
    };
    let wanted = Privileges {
        name: found.name.clone(),
        permitted: expected,
        effective: expected,
        inheritable: 0,
        bounding,
        ambient: 0,
        no_new_privs: true,
    };
    Ok((*found != wanted).then(|| format!("{found:x?} instead of {wanted:x?}")))
}

/// What is wrong with a tracer's threads.
fn threads_differ(running: &Running, main: &[&str]) -> anyhow::Result<Option<String>> {
    let threads = Privileges::of_threads(running.pid())?;
    let is_main = |thread: &&Privileges| thread.name == "tracer";
    ensure!(threads.iter().filter(is_main).count() == 1, "{threads:x?}");
    ensure!(threads.len() >= 2, "no thread for the node: {threads:x?}");
    for thread in &threads {
        let expected = match thread.name.as_str() {
            "tracer" => of_main(main)?,
            "node" => of_own(NODE)?,
            "rules" => of_own(RULES)?,
            "netfilter" => of_own(NETFILTER)?,
            "sockets" => of_own(SOCKETS)?,
            "costs" => of_own(COSTS)?,
            // Of either; made for a moment, to be in a namespace.
            "netns" if thread.effective == of_own(NODE)? => continue,
            "netns" => of_own(NETFILTER)?,
            name => return Ok(Some(format!("a thread {name}: {threads:x?}"))),
        };
        if let Some(difference) = differs(thread, expected)? {
            return Ok(Some(difference));
        }
    }
    Ok(None)
}

#[test]
fn a_tracer_that_watches_or_records_keeps_only_what_it_needs() -> anyhow::Result<()> {
    needs_a_lab!();
    // With rules in namespaces, so that links are made.
    let lab = Lab::up(&Config::default())?;
    let watch = Running::watch(["--json", "--max-overhead=50%", "host 192.0.2.1"])?;
    // It has said that it watches: so it is, without waiting.
    if let Some(difference) = threads_differ(&watch, &[])? {
        anyhow::bail!(difference);
    }
    watch.stop()?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("recording");
    let mut command = process::command(["record", "-o"])?;
    command.arg(&file).arg("host 192.0.2.1");
    let mut record = Running::start(command)?;
    record.wait_for("tracer: recording")?;
    if let Some(difference) = threads_differ(&record, RECORD)? {
        anyhow::bail!(difference);
    }
    let ended = record.interrupt()?;
    ensure!(ended.status.success(), "{ended:#?}");
    lab.down()
}

#[test]
fn a_running_tracer_and_its_guardian_keep_only_what_they_need() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let netns = lab.netns("a1");
    let script = "echo started >&2; exec sleep 1000";
    let mut command = process::command(["run", "--netns", &netns, "--", "sh", "-c", script])?;
    command.process_group(0);
    let mut running = Running::start(command)?;
    running.wait_for("started")?;
    // The command starts a moment before.
    wait_until(|| threads_differ(&running, RUN))?;
    let guardians = remains::children(running.pid(), "trace-guardian")?;
    let [guardian] = guardians[..] else {
        anyhow::bail!("{guardians:?}");
    };
    let directory = format!("/proc/{}", guardian.as_raw_nonzero());
    let found = Privileges::of(Path::new(&directory))?;
    if let Some(difference) = differs(&found, of_own(GUARDIAN)?)? {
        anyhow::bail!(difference);
    }
    // As a terminal does it.
    kill_process_group(running.pid(), Signal::INT)?;
    let ended = running.wait()?;
    ensure!(ended.stderr == "started\n", "{ended:#?}");
    lab.down()
}

/// What a process has of its caller: users, capabilities, signals, limits, descriptors.
///
/// Of ignored signals without those above 32: the C library uses them in processes with threads.
const SHOW: &str = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Cpus_allowed|SigBlk)' \
                    /proc/self/status; sed -n 's/^SigIgn:.*\\(........\\)$/\\1/p' /proc/self/status; cat /proc/self/limits /proc/self/oom_score_adj; \
                    ls /proc/self/fd | wc -l; id; env | grep -v '^_=' | sort; umask";

/// Runs `script` behind these words, by itself and traced.
fn both(before: &[&str], options: &[&str], script: &str) -> anyhow::Result<[Ended; 2]> {
    let executable = process::executable()?;
    let executable = executable.to_str().context("not a name")?;
    let command = ["sh", "-c", script];
    // So that what the command writes stands by itself, on stderr.
    let traced = [&[executable, "run", "--json"], options, &["--"], &command].concat();
    let run = |words: &[&str]| {
        let words = [before, words].concat();
        let mut command = Command::new(words.first().context("no words")?);
        command.args(&words[1..]).stdin(std::process::Stdio::null());
        command.output()?.try_into()
    };
    Ok([run(&command)?, run(&traced)?])
}

/// What the script says; it must say the same when it is traced.
fn the_same(before: &[&str], options: &[&str], script: &str) -> anyhow::Result<String> {
    let [alone, traced] = both(before, options, script)?;
    ensure!(
        alone.status.success() && !alone.stdout.is_empty() && alone.stderr.is_empty(),
        "{alone:#?}"
    );
    let lines = alone.stdout.lines().zip(traced.stderr.lines());
    let different: Vec<_> = lines.filter(|(alone, traced)| alone != traced).collect();
    ensure!(
        traced.status.success() && traced.stderr == alone.stdout,
        "{before:?} {options:?}: {different:#?} {traced:#?}"
    );
    Ok(alone.stdout)
}

#[test]
fn a_traced_command_has_its_callers_privileges() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let netns = lab.netns("a1");
    // Fewer descriptors than links are made: the tracer raises its limit.
    let limited = ["sh", "-c", "ulimit -S -n 100; exec \"$0\" \"$@\""];
    let inside = ["--netns", &netns];
    the_same(&["env"], &[], SHOW)?;
    for before in [
        &["env"][..],
        &limited,
        &["setpriv", "--bounding-set=-sys_time,-mknod"],
        &["setpriv", "--inh-caps=+net_raw", "--ambient-caps=+net_raw"],
        &["setpriv", "--no-new-privs"],
        &["setpriv", "--securebits=+no_setuid_fixup"],
        &[
            "env",
            "--ignore-signal=USR1,HUP,INT,TERM",
            "--block-signal=USR2",
        ],
    ] {
        let shown = the_same(before, &inside, SHOW)?;
        ensure!(shown.contains("CapBnd:"), "{shown}");
    }
    lab.down()
}

/// As `sudo` or `ping` do: a file that gives privileges to who executes it.
#[test]
fn inside_a_traced_command_programs_gain_privileges_as_ever() -> anyhow::Result<()> {
    needs_a_lab!();
    let directory = tempfile::tempdir()?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let [setuid, capable] = ["setuid", "capable"].map(|name| directory.path().join(name));
    let grep = Command::new("sh")
        .args(["-c", "command -v grep"])
        .output()?;
    let grep = String::from_utf8(grep.stdout)?;
    for copy in [&setuid, &capable] {
        process::copy_program(grep.trim(), copy)?;
    }
    fs::set_permissions(&setuid, fs::Permissions::from_mode(0o4755))?;
    let mut setcap = Command::new("setcap");
    let setcap = setcap.arg("cap_net_raw+ep").arg(&capable).output();
    if !setcap.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: files cannot be given capabilities in {directory:?}");
        return Ok(());
    }
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    let look = |path: &Path| {
        format!(
            "{nobody} {} -E '^(Uid|CapEff)' /proc/self/status",
            path.display()
        )
    };
    let shown = the_same(&["env"], &[], &look(&capable))?;
    ensure!(shown.contains("CapEff:\t0000000000002000"), "{shown}");
    let shown = the_same(&["env"], &[], &look(&setuid))?;
    ensure!(shown.contains("Uid:\t65534\t0\t0\t0"), "{shown}");
    Ok(())
}
