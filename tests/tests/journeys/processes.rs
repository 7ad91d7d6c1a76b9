//! The processes at both sockets of a flow: of sockets made while the tracer runs, however short
//! they live, of sockets that were there before, and of those that a server accepts.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Stdio};

use anyhow::{Context as _, ensure};
use tracer_tests::lab::{Config, DNS_PORT, HTTP_PORT, Lab};
use tracer_tests::trace::json::{Flow, Process, Trace};
use tracer_tests::trace::process::{self, Ended, Running, wait_until};

/// The client ports of what is looked for.
const PORTS: u16 = 27000;
/// How the servers of a lab are called.
const SERVER: &str = "lab-server";

fn client(flow: &Flow) -> anyhow::Result<&Process> {
    let process = flow.client.process.as_ref();
    process.with_context(|| format!("no process: {flow:#?}"))
}

fn backend(flow: &Flow) -> anyhow::Result<&Process> {
    let backend = flow.backend.as_ref();
    let process = backend.and_then(|backend| backend.process.as_ref());
    process.with_context(|| format!("no process: {flow:#?}"))
}

/// The server is the only process in its pod.
fn server_of(lab: &Lab, pod: &str) -> anyhow::Result<u32> {
    let pids =
        lab.run(std::process::Command::new("ip").args(["netns", "pids", &lab.netns(pod)]))?;
    let pids: Result<Vec<u32>, _> = pids.split_whitespace().map(str::parse).collect();
    match pids?[..] {
        [pid] => Ok(pid),
        ref pids => anyhow::bail!("{pids:?} in {pod}"),
    }
}

#[test]
fn the_command_and_the_server_are_named() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let url = format!("http://{}/", lab.service("web-node1").cluster_ip);
    // The shell writes its number down and becomes the client.
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("pid");
    let script = format!("echo $$ > {}; exec curl -sS {url}", file.display());
    let arguments = ["run", "--json", "--pod", "a1", "--", "sh", "-c", &script];
    let ended: Ended = process::command_in(&lab, arguments)?.output()?.try_into()?;
    ensure!(ended.status.success(), "{ended:#?}");
    let pid: u32 = std::fs::read_to_string(&file)?.trim().parse()?;
    let trace = ended.trace()?;
    let [flow] = &trace.flows[..] else {
        anyhow::bail!("{:#?}", trace.flows);
    };
    let expected = (pid, "curl");
    ensure!(
        (client(flow)?.pid, client(flow)?.comm.as_str()) == expected,
        "{flow:#?}"
    );
    let expected = (server_of(&lab, "b1")?, SERVER);
    ensure!(
        (backend(flow)?.pid, backend(flow)?.comm.as_str()) == expected,
        "{flow:#?}"
    );
    // People see them too.
    let arguments = ["run", "--pod", "a1", "--", "curl", "-sS", &url];
    let ended: Ended = process::command_in(&lab, arguments)?.output()?.try_into()?;
    let server = format!("(default/b1 {SERVER}[{}])", expected.0);
    for said in ["(default/a1 curl[", &server] {
        ensure!(ended.stdout.contains(said), "{said:?} in {}", ended.stdout);
    }
    lab.down()
}

#[test]
fn a_hundred_short_questions_have_the_process_that_asked() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let server = lab.pod("b1").ipv4;
    let watch = Running::watch_in(&lab, ["--json", &format!("udp port {DNS_PORT} and pod a1")])?;
    let mut asked = Vec::new();
    for port in (PORTS..).take(100) {
        let from = format!("{}#{port}", lab.pod("a1").ipv4);
        let mut dig = lab.command("a1", "dig");
        dig.args([
            "-b",
            &from,
            "-p",
            &DNS_PORT.to_string(),
            &format!("@{server}"),
        ]);
        let child = dig.arg("example.org").stdout(Stdio::null()).spawn()?;
        let pid = child.id();
        ensure!(child.wait_with_output()?.status.success());
        asked.push((SocketAddr::new(lab.pod("a1").ipv4.into(), port), pid));
    }
    let trace = watch.stop()?;
    for (from, pid) in asked {
        let flow = trace.flow("udp", from)?;
        // Threads of the program send; the process is the program.
        ensure!(
            (client(flow)?.pid, client(flow)?.comm.as_str()) == (pid, "dig"),
            "{flow:#?}"
        );
        ensure!(backend(flow)?.comm == SERVER, "{flow:#?}");
    }
    lab.down()
}

/// A shell with a connection that is open, which asks over it when it is told to. No other process has it ever, as one
/// would that the shell starts: a connection that two hold is looked for again later.
struct Open(Child);

impl Open {
    fn new(lab: &Lab, from: &str, to: IpAddr) -> anyhow::Result<Self> {
        let script = format!(
            "exec 3<>/dev/tcp/{to}/{HTTP_PORT}; echo open; read line; \
             printf 'GET / HTTP/1.1\\r\\nHost: lab\\r\\n\\r\\n' >&3; read answer <&3; read line"
        );
        let mut child = lab
            .command(from, "bash")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.as_mut().context("no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line == "open\n", "{line:?}");
        Ok(Self(child))
    }

    fn ask(&mut self) -> anyhow::Result<()> {
        let stdin = self.0.stdin.as_mut().context("no stdin")?;
        Ok(stdin.write_all(b"\n")?)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn sockets_that_were_there_before_have_their_processes_too() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let server = lab.pod("b1").ipv4;
    let mut open = Open::new(&lab, "a1", server.into())?;
    let watch = Running::watch_in(&lab, ["--json", "pod a1"])?;
    open.ask()?;
    // While it is open: it is looked for among the sockets that there are.
    wait_until(|| {
        let trace = Trace::read(watch.output().lines())?;
        let answered = trace.packets.iter().any(|packet| packet.payload > 100);
        Ok((!answered).then(|| "no answer was seen".to_owned()))
    })?;
    let trace = watch.stop()?;
    let of_shell = |flow: &&Flow| {
        let server = SocketAddr::new(server.into(), HTTP_PORT);
        flow.proto == "tcp" && flow.destination.addr == server
    };
    let flow = trace.flows.iter().find(of_shell).context("no flow")?;
    let expected = (open.0.id(), "bash");
    ensure!(
        (client(flow)?.pid, client(flow)?.comm.as_str()) == expected,
        "{flow:#?}"
    );
    ensure!(backend(flow)?.pid == server_of(&lab, "b1")?, "{flow:#?}");
    drop(open);
    lab.down()
}

/// A server that listens, as many do, together with the workers that it starts: at any address and, at the port
/// above, on loopback only.
struct Forked {
    child: Child,
    workers: Vec<u32>,
}

impl Forked {
    const SCRIPT: &str = r#"
        use IO::Socket::INET;
        my ($port) = @ARGV;
        my @at = (Listen => 16, ReuseAddr => 1);
        my $all = IO::Socket::INET->new(@at, LocalAddr => "0.0.0.0", LocalPort => $port) or die;
        my $own = IO::Socket::INET->new(@at, LocalAddr => "127.0.0.1", LocalPort => $port + 1) or die;
        my @workers = map {
            my $pid = fork // die;
            until ($pid) {
                my $client = $all->accept or next;
                sysread $client, my $request, 4096;
                syswrite $client, "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nhi\n";
                close $client;
            }
            $pid;
        } 1 .. 3;
        $| = 1;
        print "@workers\n";
        <STDIN>;
        kill KILL => @workers;
    "#;

    fn new(lab: &Lab, pod: &str, port: u16) -> anyhow::Result<Self> {
        let mut child = lab
            .command(pod, "perl")
            .args(["-e", Self::SCRIPT, &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.as_mut().context("no stdout")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let workers: Result<Vec<u32>, _> = line.split_whitespace().map(str::parse).collect();
        let workers = workers.with_context(|| line.clone())?;
        ensure!(workers.len() == 3, "{line:?}");
        Ok(Self { child, workers })
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        // At the end of its input it ends its workers.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_with_workers_is_named() -> anyhow::Result<()> {
    const PORT: u16 = 9998;
    needs_a_lab!();
    let lab = Lab::up(&Config::default())?;
    let pod = lab.pod("b2").ipv4;
    let server = Forked::new(&lab, "b2", PORT)?;
    // A worker's while it has the connection; then the port's, at which all listen, and one of them started the others.
    let netns = lab.netns("a1");
    let ask = format!("for n in 1 2 3 4 5; do curl -sS http://{pod}:{PORT}/; done");
    let ended = process::run(["run", "--netns", &netns, "--json", "--", "sh", "-c", &ask])?;
    ensure!(ended.status.success(), "{ended:#?}");
    let trace = ended.trace()?;
    ensure!(trace.flows.len() == 5, "{:#?}", trace.flows);
    for flow in &trace.flows {
        let Process { pid, comm } = backend(flow)?;
        let own = *pid == server.child.id() || server.workers.contains(pid);
        ensure!(own && comm == "perl", "{flow:#?}");
    }
    // Who has a port that is called elsewhere is looked for where nobody has the connection.
    let url = format!("http://{pod}:{}/", PORT + 1);
    let ended = process::run([
        "run", "--netns", &netns, "--json", "--", "curl", "-sS", &url,
    ])?;
    let trace = ended.trace()?;
    let [flow] = &trace.flows[..] else {
        anyhow::bail!("{:#?}", trace.flows);
    };
    let (pid, elsewhere) = (server.child.id(), PORT + 1);
    let said = format!("perl (pid {pid}) listens at 127.0.0.1:{elsewhere} only");
    let diagnosis = flow.diagnosis.as_deref().context("no diagnosis")?;
    ensure!(diagnosis.contains(&said), "{said:?} in {diagnosis}");
    drop(server);
    lab.down()
}
