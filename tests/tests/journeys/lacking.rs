//! Machines that lack something, as far as this one can be made to look like one: with the files in
//! which the kernel says what it is replaced, in a mount namespace of the tracer's own.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tracer_tests::lab::{Config, Lab};
use tracer_tests::trace::process::{self, Ended};

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The tracer with these arguments, where `script` was run before with `file` as `$0`.
fn after(script: &str, file: &Path, arguments: &[&str]) -> anyhow::Result<Ended> {
    let script = format!("{script} && exec \"$@\"");
    // A `watch` that is not refused would go on for ever.
    let mut command = Command::new("timeout");
    command.args([
        "--signal=INT",
        "120",
        "unshare",
        "--mount",
        "sh",
        "-c",
        &script,
    ]);
    command.arg(file);
    command.arg(process::executable()?).args(arguments);
    command
        .stdin(std::process::Stdio::null())
        .output()?
        .try_into()
}

/// What doctor says in JSON, and its exit status.
fn doctor(script: &str, file: &Path) -> anyhow::Result<(Value, Option<i32>)> {
    let ended = after(script, file, &["doctor", "--json"])?;
    let said = serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:#?}"))?;
    Ok((said, ended.status.code()))
}

/// The kernel's own description of itself, without a name.
fn altered(name: &str) -> anyhow::Result<Vec<u8>> {
    let mut btf = fs::read(VMLINUX)?;
    let name = [b"\0", name.as_bytes(), b"\0"].concat();
    let place = btf.windows(name.len()).position(|window| window == name);
    btf[place.context("the kernel has no such name")? + 1] = b'?';
    Ok(btf)
}

/// Tracing is refused, and doctor calls it impossible; both say why.
fn impossible(script: &str, file: &Path, words: &[&str]) -> anyhow::Result<()> {
    let all = |text: &str| words.iter().all(|word| text.contains(word));
    for arguments in [&["watch"][..], &["run", "--", "echo", "it ran"]] {
        let ended = after(script, file, arguments)?;
        ensure!(
            ended.status.code() == Some(1) && ended.stdout.is_empty() && all(&ended.stderr),
            "{words:?}: {ended:#?}"
        );
    }
    let (said, status) = doctor(script, file)?;
    ensure!(
        said["readiness"] == "impossible" && status == Some(2) && all(&said.to_string()),
        "{words:?}: {status:?} {said:#}"
    );
    Ok(())
}

#[test]
fn a_kernel_that_lacks_what_is_needed_is_refused() -> anyhow::Result<()> {
    needs_a_lab!();
    let replace = format!("mount --bind \"$0\" {VMLINUX}");
    let file = tempfile::NamedTempFile::new()?;
    for (name, words) in [
        (
            "network_header",
            ["struct sk_buff", "network_header", "newer one"],
        ),
        (
            "BPF_MAP_TYPE_RINGBUF",
            ["no BPF ring buffer", "Linux 5.8", "newer"],
        ),
        (
            "btf_trace_net_dev_queue",
            ["no tracepoint", "net_dev_queue", ""],
        ),
    ] {
        fs::write(file.path(), altered(name)?)?;
        impossible(&replace, file.path(), &words)?;
    }
    fs::write(file.path(), "not BTF")?;
    impossible(
        &replace,
        file.path(),
        &["cannot decode the BTF of vmlinux", "newer version"],
    )
}

/// The tracer does not need it: it traces, and says what is missing.
#[test]
fn a_kernel_that_lacks_what_is_useful_is_traced() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let url = format!("http://{}/", lab.service("web-node1").cluster_ip);
    let netns = lab.netns("a1");
    let replace = format!("mount --bind \"$0\" {VMLINUX}");
    let file = tempfile::NamedTempFile::new()?;
    for name in ["rtnl_link_ops", "btf_trace_consume_skb"] {
        fs::write(file.path(), altered(name)?)?;
        let words = [
            "run", "--netns", &netns, "--json", "--", "curl", "-sS", &url,
        ];
        let ended = after(&replace, file.path(), &words)?;
        ensure!(ended.status.success(), "{name}: {ended:#?}");
        ensure!(ended.trace()?.flows.len() == 1, "{name}: {ended:#?}");
        let (said, status) = doctor(&replace, file.path())?;
        let what = name.trim_start_matches("btf_trace_");
        ensure!(
            said["readiness"] == "degraded" && status == Some(1) && said.to_string().contains(what),
            "{name}: {status:?} {said:#}"
        );
    }
    lab.down()
}

#[test]
fn a_kernel_that_keeps_its_memory_is_refused() -> anyhow::Result<()> {
    needs_a_lab!();
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("lockdown");
    let hide = "mount --bind \"$0\" /sys/kernel/security";
    if !Path::new("/sys/kernel/security").is_dir() {
        eprintln!("skipped: this kernel has no place for securityfs");
        return Ok(());
    }
    fs::write(&file, "none integrity [confidentiality]\n")?;
    let words = ["confidentiality", "lockdown=integrity"];
    impossible(hide, directory.path(), &words)?;
    fs::write(&file, "none [integrity] confidentiality\n")?;
    let (said, status) = doctor(hide, directory.path())?;
    ensure!(
        said["readiness"] != "impossible" && status != Some(2),
        "{said:#}"
    );
    Ok(())
}

/// Inside `ip netns exec`, where a fresh `/sys` hides the cgroups.
#[test]
fn in_another_network_namespace_doctor_finds_the_cgroups() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &lab.netns("a1")]);
    command
        .arg(process::executable()?)
        .args(["doctor", "--json"]);
    let ended: Ended = command.output()?.try_into()?;
    let said: Value = serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:#?}"))?;
    let families = said["plan"]["families"].as_array().context("no families")?;
    let socket = families.iter().find(|family| family["kind"] == "socket");
    ensure!(
        socket.is_some_and(|family| family["choice"].is_string()),
        "{socket:#?}"
    );
    lab.down()
}

/// What attaching and detaching took is said; how much that is, is the machine's.
#[test]
fn doctor_says_what_attaching_takes() -> anyhow::Result<()> {
    needs_a_lab!();
    let ended = process::run(["doctor"])?;
    let words = ["attached in ", " of processor time), detached in ", " ms"];
    ensure!(
        ended
            .stdout
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word))),
        "{ended:#?}"
    );
    let ended = process::run(["doctor", "--json"])?;
    let said: Value = serde_json::from_str(&ended.stdout)?;
    for member in ["attach_us", "detach_us", "attach_cpu_us", "detach_cpu_us"] {
        let time = said["timing"][member].as_u64();
        ensure!(time.is_some_and(|time| time > 0), "{member}: {said:#}");
    }
    Ok(())
}

/// Without privilege: what can be known without, and which privilege is missing.
#[test]
fn doctor_and_names_help_an_ordinary_user() -> anyhow::Result<()> {
    needs_a_lab!();
    let by_nobody = |arguments: &[&str]| -> anyhow::Result<Ended> {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(process::executable()?).args(arguments);
        command.output()?.try_into()
    };
    let ended = by_nobody(&["doctor"])?;
    ensure!(ended.status.code() == Some(2), "{ended:#?}");
    for said in [
        "BTF           ok",
        "missing: CAP_BPF (",
        "CAP_PERFMON (",
        "docs/privileges.md",
        "CAP_SYS_PTRACE",
        "device_queue at tracepoint net_dev_queue: not tried",
        "impossible: ",
    ] {
        ensure!(ended.stdout.contains(said), "{said:?} is not in {ended:#?}");
    }
    let ended = by_nobody(&["names"])?;
    ensure!(
        ended.status.success() && ended.stdout.contains("host ") && ended.stdout.contains("note: "),
        "{ended:#?}"
    );
    Ok(())
}
