//! What else goes on beside traced packets: captures that copy every buffer, devices that merge and
//! cut buffers, a flood whose copies go everywhere, a connection of the very same tuple elsewhere. None of it
//! changes a journey, none makes one up.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use rustix::net::{AddressFamily, SocketType, sockopt};
use tracer_tests::lab::{Capture, Config, Fabric, HTTP_PORT, Lab, Plugin, Proxy};
use tracer_tests::trace::json::{Direction, Flow, Packet, State, Trace, Verdict};
use tracer_tests::trace::judge::ladder;
use tracer_tests::trace::process::{self, Running, wait_until, whole_lab};
use tracer_tests::trace::witness::{Captures, Device};

use super::connection::Planned;
use super::evidence::{Evidence, conntrack, judge};
use super::paths::{CONNECTIONS, Outcome};
use super::variants::{captured_devices, gather, judge_each};

/// The first client ports of each test.
const CAPTURED: u16 = 28000;
const OFFLOADED: u16 = 28100;
const FLOODED: u16 = 28200;
/// The bytes of a transfer: some hundreds of segments.
const TRANSFER: u64 = 1_000_000;
/// Where the flood goes to.
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const GROUP_PORT: u16 = 28299;
const TWIN: u16 = 28300;
/// Datagrams, and how many may be on their way: less than a socket's buffer takes.
const DATAGRAMS: usize = 1500;
const AT_ONCE: usize = 50;

/// Encapsulated, bridged and translated: what has most copies.
const CONFIG: Config = Config {
    plugin: Plugin::Bridge,
    fabric: Fabric::Vxlan,
    proxy: Proxy::IptablesNft,
};

/// All devices between the pods and the wire, by namespace.
fn devices(lab: &Lab) -> Vec<Device> {
    let mut devices = Vec::new();
    for pod in lab.pods() {
        devices.push((pod.name.clone(), "eth0".to_owned()));
        devices.push((pod.node.clone(), pod.veth.clone()));
    }
    for node in lab.nodes() {
        let own = ["cni0", "eth0", "flannel.1"];
        devices.extend(own.map(|device| (node.name.clone(), device.to_owned())));
    }
    devices.push(("outside".to_owned(), "eth0".to_owned()));
    devices
}

/// tcpdump on every device at once, promiscuously, and one more on all devices of a node.
#[test]
fn captures_change_no_journey() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&CONFIG)?;
    let planned: Vec<Planned<'_>> = (CAPTURED..)
        .zip(CONNECTIONS)
        .map(|(port, connection)| Planned::new(&lab, connection, port))
        .collect::<anyhow::Result<_>>()?;
    let asked = captured_devices(&lab);
    let others = devices(&lab).into_iter().filter(|d| !asked.contains(d));
    let mut beside: Vec<Capture> = others
        .map(|(netns, device)| lab.capture(&netns, &device, ""))
        .collect::<anyhow::Result<_>>()?;
    beside.push(lab.capture("node1", "any", "")?);
    let evidence = gather(&lab, &planned, asked, &["--json", &whole_lab(&lab)])?;
    judge_each(&planned, &evidence)?;
    for capture in beside {
        let place = format!("{capture:?}");
        let seen = capture.stop()?;
        // The second client has no part in it.
        ensure!(!seen.is_empty() || place.contains("a2"), "{place}");
    }
    lab.down()
}

/// Two pods, each calling itself by the same ports, are not told apart by tuples: what the traced command did not
/// do is not shown, neither then nor of the recording.
#[test]
fn a_connection_of_the_same_tuple_elsewhere_is_not_the_commands() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&CONFIG)?;
    let url = format!("http://127.0.0.1:{HTTP_PORT}/");
    let port = TWIN.to_string();
    let curl = ["--silent", "--show-error", "--local-port", &port, &url];
    let recording = lab.directory().join("twin.rec");
    let recording = recording.to_str().context("a path")?;
    // Until it is told to end the tuple is followed.
    let script = format!("curl {} && read -r end", curl.join(" "));
    let netns = lab.netns("b1");
    let mut command = process::command([
        "run", "--netns", &netns, "--json", "--record", recording, "--", "sh", "-c", &script,
    ])?;
    command.stdin(Stdio::piped());
    let mut running = Running::start(command)?;
    let tell = running.take_stdin();
    running.wait_for("server: b1")?;
    let answer = lab.run(lab.command("b2", "curl").args(curl))?;
    ensure!(answer.contains("server: b2"), "{answer}");
    drop(tell);
    let trace = running.wait()?.trace()?;
    let replayed = process::run(["replay", "--json", recording])?.trace()?;
    for trace in [trace, replayed] {
        let clients: Vec<_> = trace.flows.iter().map(|flow| &flow.client).collect();
        ensure!(
            clients.len() == 1 && clients[0].netns.as_ref() == Some(&netns),
            "{clients:#?}"
        );
        ensure!(
            trace
                .packets
                .iter()
                .all(|packet| packet.flow == trace.flows[0].id)
        );
    }
    lab.down()
}

/// What devices may do with buffers.
const OFFLOADS: [&str; 3] = [
    // Cut as late and merged as early as possible.
    "tso on gso on gro on",
    // Cut by the sender, merged by every device on the way.
    "tso off gso off gro on",
    "tso off gso off gro off",
];

/// A long answer, to one of the own node and to one of the other, with every kind of offload.
#[test]
fn offloads_change_no_journey() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&CONFIG)?;
    let mut ports = OFFLOADED..;
    for offloads in OFFLOADS {
        for (netns, device) in devices(&lab) {
            let mut ethtool = lab.command(&netns, "ethtool");
            ethtool.args(["-K", &device]).args(offloads.split(' '));
            lab.run(&mut ethtool)
                .with_context(|| format!("{netns} {device}: {offloads}"))?;
        }
        // Tests run side by side. While other tracers come and go, it was seen that for some
        // milliseconds no tracepoint program ran at all: those gaps are shown as holes, rightly.
        let mut attempts = 1;
        while let Some(gap) = transfers(&lab, &mut ports).context(offloads)? {
            ensure!(attempts < ATTEMPTS, "{offloads}: holes each time: {gap}");
            eprintln!("{offloads}: once more: {gap}");
            attempts += 1;
        }
    }
    lab.down()
}

/// How often a transfer is made that has holes.
const ATTEMPTS: usize = 3;

/// Two transfers, which a tracer of their own watches from before their begin to behind their end.
/// Returns a packet's ladder if there are holes, else judges the transfers.
fn transfers(lab: &Lab, ports: &mut impl Iterator<Item = u16>) -> anyhow::Result<Option<String>> {
    let device = ("a1".to_owned(), "eth0".to_owned());
    let captures = Captures::start(lab, vec![device])?;
    let watch = Running::watch(["--json", "--ring-size", "64M", &whole_lab(lab)])?;
    let mut made = Vec::new();
    for service in ["web-node1", "web-node2"] {
        made.push(transfer(lab, service, ports.next().context("no port")?)?);
    }
    // curl ends before its connection does.
    captures.stop(|_| made.len())?;
    let trace = watch.stop()?;
    let totals = trace.totals()?;
    ensure!(totals.lost == 0, "{totals:?}");
    // What a namespace tells its neighbours may end where nobody wants it.
    let of_transfers = || trace.packets.iter().filter(|packet| packet.proto == "tcp");
    if let Some(packet) = of_transfers().find(|packet| packet.holes > 0) {
        return Ok(Some(ladder(packet)));
    }
    for packet in of_transfers() {
        let ends_well = packet.drop.is_none() && packet.verdict != Verdict::Unknown;
        ensure!(
            ends_well || is_repetition(packet),
            "{}{:?} {:?}",
            ladder(packet),
            packet.verdict,
            packet.drop
        );
    }
    for (client, bytes) in made {
        whole(&trace, trace.flow("tcp", client)?, bytes)?;
    }
    Ok(None)
}

/// Has a1 fetch a long answer. Returns its address and how many bytes came, headers included, which
/// is curl's word.
fn transfer(lab: &Lab, service: &str, port: u16) -> anyhow::Result<(SocketAddr, u64)> {
    let url = format!(
        "http://{}/bytes/{TRANSFER}",
        lab.service(service).cluster_ip
    );
    let format = "%{size_header} %{size_download}";
    let mut curl = lab.command("a1", "curl");
    curl.args([
        "--silent",
        "--show-error",
        "--max-time",
        "60",
        "-o",
        "/dev/null",
    ])
    .args(["--local-port", &port.to_string(), "-w", format, &url]);
    let sizes = lab.run(&mut curl)?;
    let sizes: Vec<u64> = sizes
        .split_ascii_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    ensure!(sizes.get(1) == Some(&TRANSFER), "{sizes:?}");
    Ok(((lab.pod("a1").ipv4, port).into(), sizes.iter().sum()))
}

/// Why a receiver drops what it has already: on a busy machine senders repeat what only was late, and
/// packets overtake others.
const OLD: [&str; 5] = [
    "TCP_OLD_DATA",
    "TCP_OLD_ACK",
    "TCP_OLD_SEQUENCE",
    "TCP_RFC7323_PAWS",
    "TCP_RFC7323_PAWS_ACK",
];

fn is_repetition(packet: &Packet) -> bool {
    let drop = packet.drop.as_ref();
    let reason = drop.and_then(|drop| drop.reason.as_deref());
    reason.is_some_and(|reason| OLD.contains(&reason))
}

/// Every byte came, in packets that all went from one end to the other.
fn whole(trace: &Trace, flow: &Flow, bytes: u64) -> anyhow::Result<()> {
    let packets = trace.packets_of(flow);
    ensure!(flow.state == State::Closed, "{flow:#?}");
    ensure!(
        flow.packets.original + flow.packets.reply == packets.len() as u64,
        "{} packets of {flow:#?}",
        packets.len()
    );
    let taken = packets.into_iter().filter(|packet| !is_repetition(packet));
    let replies: Vec<&Packet> = taken
        .filter(|packet| packet.direction == Direction::Reply)
        .collect();
    let number = |packet: &Packet| packet.tcp.as_ref().map(|tcp| tcp.seq).context("no TCP");
    let syn = replies.iter().find(|packet| packet.has_flag('S'));
    // Relative to the first byte, as numbers may wrap.
    let first = number(syn.context("no SYN-ACK")?)?.wrapping_add(1);
    let mut pieces = Vec::new();
    for packet in replies.iter().filter(|packet| packet.payload > 0) {
        ensure!(packet.verdict == Verdict::Delivered, "{}", ladder(packet));
        same_ends(flow, packet)?;
        let begin = u64::from(number(packet)?.wrapping_sub(first));
        pieces.push((begin, begin + u64::from(packet.payload)));
    }
    pieces.sort_unstable();
    let mut end = 0;
    for &(begin, piece_end) in &pieces {
        ensure!(begin <= end, "nothing came from {end} to {begin}");
        end = end.max(piece_end);
    }
    ensure!(end == bytes, "{end} of {bytes} bytes");
    Ok(())
}

/// The packet came from the backend and was shown to the client as from the Service.
fn same_ends(flow: &Flow, packet: &Packet) -> anyhow::Result<()> {
    let backend = flow.backend.as_ref().context("no backend")?;
    let (first, last) = (packet.hops.first(), packet.hops.last());
    let (first, last) = (first.context("no hops")?, last.context("no hops")?);
    ensure!(
        first.src == backend.addr && first.dst == flow.client.addr,
        "{packet:#?}"
    );
    ensure!(
        last.src == flow.destination.addr && last.dst == flow.client.addr,
        "{packet:#?}"
    );
    Ok(())
}

/// A group's datagrams: each is copied to every port of the bridge, and to two sockets of a pod.
#[test]
fn a_flood_changes_no_journey() -> anyhow::Result<()> {
    needs_a_lab!();
    let lab = Lab::up(&CONFIG)?;
    let planned: Vec<Planned<'_>> = (FLOODED..)
        .zip(
            CONNECTIONS
                .iter()
                .filter(|path| path.from == "a1" && path.outcome == Outcome::Answered),
        )
        .map(|(port, connection)| Planned::new(&lab, connection, port))
        .collect::<anyhow::Result<_>>()?;
    let members = [member(&lab, "b1")?, member(&lab, "b1")?];
    let address = lab.pod("a1").ipv4;
    let sender = lab.within("a1", || Ok(UdpSocket::bind((address, GROUP_PORT))?))?;
    let watch = Running::watch(["--json", &whole_lab(&lab)])?;
    let mut received = [0; 2];
    for sent in (AT_ONCE..=DATAGRAMS).step_by(AT_ONCE) {
        for number in sent - AT_ONCE..sent {
            // Packets that differ are told apart.
            sender.send_to(format!("{number:08}").as_bytes(), (GROUP, GROUP_PORT))?;
        }
        wait_until(|| {
            for (member, count) in members.iter().zip(&mut received) {
                *count += drain(member)?;
            }
            let all = received.iter().all(|&count| count == sent);
            Ok((!all).then(|| format!("{received:?} of {sent} datagrams")))
        })?;
        if let Some(planned) = planned.get(sent / AT_ONCE - 1) {
            planned.make()?;
        }
    }
    let evidence = Evidence {
        trace: watch.stop()?,
        conntrack: conntrack(&lab)?,
        captured: None,
    };
    for planned in &planned {
        judge(planned, &evidence).with_context(|| planned.connection.name)?;
    }
    let trace = &evidence.trace;
    let flow = trace.flow("udp", (address, GROUP_PORT).into())?;
    ensure!(
        flow.packets.original == DATAGRAMS as u64
            && flow.packets.reply == 0
            && flow.drops == 0
            && flow.holes == 0,
        "{flow:#?}"
    );
    let packets = trace.packets_of(flow);
    ensure!(packets.len() == DATAGRAMS, "{} packets", packets.len());
    for packet in packets {
        let end = packet.hops.last().and_then(|hop| hop.netns.clone());
        ensure!(
            packet.verdict == Verdict::Delivered && end == Some(lab.netns("b1")),
            "{packet:#?}"
        );
    }
    lab.down()
}

/// A socket of the pod's that is in the group, and does not wait.
fn member(lab: &Lab, pod: &str) -> anyhow::Result<UdpSocket> {
    let address = lab.pod(pod).ipv4;
    lab.within(pod, || {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, GROUP_PORT));
        rustix::net::bind(&socket, &any)?;
        let socket = UdpSocket::from(socket);
        socket.join_multicast_v4(&GROUP, &address)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })
}

/// Takes what has come.
fn drain(socket: &UdpSocket) -> anyhow::Result<usize> {
    let mut buffer = [0; 64];
    let mut count = 0;
    loop {
        match socket.recv(&mut buffer) {
            Ok(_) => count += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(count),
            Err(error) => return Err(error.into()),
        }
    }
}
