//! Labs stand side by side, leave nothing behind, whatever ends them, and never touch the
//! machine's own network. Needs root.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::net::{AddressFamily, RecvFlags, SocketType, netlink};
use tracer_tests::lab::{Config, HTTP_PORT, Lab, Plugin, SERVER_VARIABLE, requirement, state};

/// Makes [`raise_and_wait`] do it.
const ROLE_VARIABLE: &str = "TRACER_LAB_TEST_ROLE";
/// No test waits this long unless something is broken.
const LIMIT: Duration = Duration::from_secs(60);

/// Ends the test with success, saying why, where no lab can be raised.
macro_rules! needs_a_lab {
    () => {
        if let Some(reason) = requirement::unavailable() {
            eprintln!("skipped: {reason}");
            return Ok(());
        }
    };
}

/// What there is of the lab `id`: namespaces and its directory.
fn remains(id: &str) -> Vec<String> {
    let mut remains = Vec::new();
    if let Ok(entries) = fs::read_dir("/run/netns") {
        let names = entries.flatten().map(|entry| entry.file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        remains.extend(names.filter(|name| name.starts_with(id)));
    }
    let directory = Path::new(state::ROOT).join(id);
    if directory.exists() {
        remains.push(directory.display().to_string());
    }
    remains
}

/// The processes started for the lab `id`. Not by their namespaces' inode numbers, which the
/// kernel gives to the next namespace as soon as one is gone.
fn processes_of(id: &str) -> Vec<String> {
    let mark = format!("TRACER_LAB={id}").into_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment
            .split(|&byte| byte == 0)
            .any(|variable| variable == mark)
        {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

#[test]
fn two_labs_stand_side_by_side() -> anyhow::Result<()> {
    needs_a_lab!();
    let first = Lab::up(&Config::default())?;
    let second = Lab::up(&Config {
        plugin: Plugin::Ptp,
        ..Config::default()
    })?;
    ensure!(first.id() != second.id());
    for lab in [&first, &second] {
        let url = format!("http://{}:{HTTP_PORT}/", lab.pod("b2").ipv4);
        let mut curl = lab.command("a1", "curl");
        let answer = lab.run(curl.args(["--silent", "--show-error", "--max-time", "30", &url]))?;
        ensure!(answer.starts_with("server: b2\n"), "{answer}");
    }
    first.down()?;
    let url = format!("http://{}/", second.service("web-node2").cluster_ip);
    let mut curl = second.command("a1", "curl");
    let answer = second.run(curl.args(["--silent", "--show-error", "--max-time", "30", &url]))?;
    ensure!(answer.starts_with("server: b2\n"), "{answer}");
    Ok(())
}

#[test]
fn nothing_is_left_after_down() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let id = lab.id().to_owned();
    // Two nodes, four pods, a switch and an outside; the directory.
    ensure!(remains(&id).len() == 8 + 1, "{:?}", remains(&id));
    // Three servers.
    ensure!(processes_of(&id).len() == 3, "{:?}", processes_of(&id));
    // Someone's forgotten process must not keep a namespace alive.
    let mut forgotten = lab.command("a1", "sleep").arg("1000").spawn()?;
    lab.down()?;
    ensure!(remains(&id).is_empty(), "{:?}", remains(&id));
    ensure!(processes_of(&id).is_empty(), "{:?}", processes_of(&id));
    ensure!(!forgotten.wait()?.success());
    Ok(())
}

#[test]
fn dropping_takes_down() -> anyhow::Result<()> {
    needs_a_lab!();
    let id = Lab::up(&Config::default())?.id().to_owned();
    ensure!(remains(&id).is_empty(), "{:?}", remains(&id));
    Ok(())
}

#[test]
fn a_persons_lab_outlives_the_command_and_is_found_by_its_id() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up_detached(&Config::default())?;
    let (id, veth) = (lab.id().to_owned(), lab.pod("a1").veth.clone());
    drop(lab);
    let found = Lab::open(&id)?;
    ensure!(found.pod("a1").veth == veth);
    drop(found);
    let entries = state::list()?;
    let entry = entries.iter().find(|entry| entry.id == id);
    ensure!(entry.is_some_and(|entry| entry.owner.is_none() && entry.config.is_some()));
    state::down(&id)?;
    ensure!(remains(&id).is_empty(), "{:?}", remains(&id));
    ensure!(Lab::open(&id).is_err());
    Ok(())
}

/// Not a test of its own: what [`owner`] runs in another process.
#[test]
fn raise_and_wait() -> anyhow::Result<()> {
    if std::env::var_os(ROLE_VARIABLE).is_none() {
        return Ok(());
    }
    let lab = Lab::up(&Config::default())?;
    println!("raised {}", lab.id());
    // Until killed, or until the test that waits for this process has ended.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Starts a process that raises a lab and keeps it.
fn owner(variables: &[(&str, &str)]) -> anyhow::Result<Child> {
    let child = Command::new(std::env::current_exe()?)
        .args(["--exact", "raise_and_wait", "--nocapture"])
        .env(ROLE_VARIABLE, "owner")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    Ok(child)
}

/// The id of the lab that the process is raising or has raised, once there is one.
fn lab_of(child: &Child) -> anyhow::Result<String> {
    let limit = Instant::now() + LIMIT;
    while Instant::now() < limit {
        let owned = state::list()?
            .into_iter()
            .find(|entry| entry.owner.is_some_and(|owner| owner.pid == child.id()));
        if let Some(entry) = owned {
            return Ok(entry.id);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    anyhow::bail!("the process raises no lab")
}

#[test]
fn a_killed_owners_lab_goes_when_the_next_is_raised() -> anyhow::Result<()> {
    needs_a_lab!();
    let mut child = owner(&[])?;
    let stdout = child.stdout.take().context("no stdout")?;
    let raised = BufReader::new(stdout).lines().map_while(Result::ok);
    let id = raised
        .filter_map(|line| Some(line.split_once("raised ")?.1.to_owned()))
        .next()
        .context("the process raised no lab")?;
    child.kill()?;
    child.wait()?;
    let next = Lab::up(&Config::default())?;
    ensure!(remains(&id).is_empty(), "{:?}", remains(&id));
    ensure!(processes_of(&id).is_empty(), "{:?}", processes_of(&id));
    next.down()
}

/// Killed at whatever point of raising it has come to.
#[test]
fn a_half_raised_lab_goes_when_the_next_is_raised() -> anyhow::Result<()> {
    needs_a_lab!();
    for namespaces in 0..=8 {
        let mut child = owner(&[])?;
        let id = lab_of(&child)?;
        let limit = Instant::now() + LIMIT;
        while remains(&id).len() < namespaces + 1 {
            ensure!(Instant::now() < limit, "{:?}", remains(&id));
        }
        child.kill()?;
        child.wait()?;
        // A command that the killed process was about to run can make one more namespace when the
        // lab has been taken down: that is for the raise after the next.
        Lab::up(&Config::default())?.down()?;
        while !remains(&id).is_empty() {
            Lab::up(&Config::default())?.down()?;
            ensure!(Instant::now() < limit, "{:?}", remains(&id));
        }
    }
    Ok(())
}

#[test]
fn a_failure_takes_down_what_was_raised_and_names_the_command() -> anyhow::Result<()> {
    needs_a_lab!();
    let mut child = owner(&[(SERVER_VARIABLE, "/bin/false")])?;
    let id = lab_of(&child)?;
    drop(child.stdin.take());
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success());
    ensure!(
        said.contains("cannot raise a lab (bridge/vxlan/iptables-nft)"),
        "{said}"
    );
    ensure!(said.contains("the server of b1 did not start"), "{said}");
    ensure!(remains(&id).is_empty(), "{:?}", remains(&id));
    Ok(())
}

/// The kernel tells every listener in a namespace of each device that comes or goes there.
#[test]
fn no_device_ever_stands_in_the_machines_own_namespace() -> anyhow::Result<()> {
    /// `RTMGRP_LINK`.
    const LINKS: u32 = 1;
    needs_a_lab!();
    // Protocol 0 is `NETLINK_ROUTE`.
    let listener = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    rustix::net::bind(&listener, &netlink::SocketAddrNetlink::new(0, LINKS))?;
    let lab = Lab::up(&Config::default())?;
    let mut names: Vec<String> = lab.pods().iter().map(|pod| pod.veth.clone()).collect();
    names.extend(["sw0", "cni0", "flannel.1", "flannel-v6.1"].map(str::to_owned));
    lab.down()?;
    let mut buffer = vec![0; 64 * 1024];
    while let Ok((length, _)) = rustix::net::recv(&listener, &mut *buffer, RecvFlags::DONTWAIT) {
        for name in &names {
            let attribute = format!("{name}\0").into_bytes();
            let seen = buffer[..length]
                .windows(attribute.len())
                .any(|bytes| bytes == attribute);
            ensure!(
                !seen,
                "the device {name} was in the machine's own namespace"
            );
        }
    }
    Ok(())
}
