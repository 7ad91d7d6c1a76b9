//! The rules of 5,000 Services, in each form, are read, followed and evaluated in time; what it really takes
//! is in docs/performance.md. Bounds are far above that, for slow machines and builds without optimization.
//!
//! Needs root, and skips what the kernel or the machine lacks.

#[path = "../benches/rules/made.rs"]
mod made;

use std::{
    io,
    net::IpAddr,
    panic, thread,
    time::{Duration, Instant},
};

use made::Form;
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tracer::node::rules::{
    evaluate::explain,
    live::Reading,
    outcome::Observed,
    subject::{Elsewhere, Hook, States, Subject},
};

const SERVICES: u32 = 5_000;
const READING: Duration = Duration::from_secs(40);
const LOOK: Duration = Duration::from_secs(5);
const EVALUATION: Duration = Duration::from_millis(200);

fn many(form: Form) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root for network namespaces");
        return Ok(());
    }
    let inside = move || {
        // SAFETY: only the network namespace of this thread is unshared; descriptors stay shared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
        read(form)
    };
    let ended = thread::spawn(inside).join();
    ended.unwrap_or_else(|panic| panic::resume_unwind(panic))
}

fn read(form: Form) -> io::Result<()> {
    if !form.load(SERVICES)? {
        println!("skipped: {} does not work here", form.name());
        return Ok(());
    }
    let start = Instant::now();
    let reading = Reading::default().again().expect("rules");
    assert!(start.elapsed() < READING, "{:?}", start.elapsed());
    assert!(reading.rules.notes.is_empty(), "{:?}", reading.rules.notes);
    let services = reading.rules.services(|_| false);
    assert_eq!(services.all().len(), 5_000);
    let start = Instant::now();
    assert!(reading.again().is_none(), "nothing has changed");
    assert!(start.elapsed() < LOOK, "{:?}", start.elapsed());
    let sets = reading.rules.sets();
    let (client, hook) = match form {
        Form::Ipvs => (IpAddr::from([10, 244, 255, 1]), Hook::Input),
        _ => (IpAddr::from([10, 244, 255, 1]), Hook::Prerouting),
    };
    let mut times = Vec::new();
    for number in (0..SERVICES).step_by(499) {
        let mut syn = Subject::new(hook, client, made::cluster_ip(number).into(), 6);
        (syn.source_port, syn.destination_port) = (Some(40_000), Some(80));
        syn.connection.states = States::NEW;
        let seen = Observed::Destination((made::endpoint(number), 8080).into());
        let start = Instant::now();
        let explanation = explain(&sets, &syn, &Elsewhere, seen);
        times.push(start.elapsed());
        assert_eq!(explanation.paths.len(), 1, "{number}: {explanation:#?}");
    }
    // The first one makes indexes.
    times.remove(0);
    times.sort_unstable();
    assert!(times[times.len() / 2] < EVALUATION, "{times:?}");
    assert!(form.change()?);
    let changed = reading.again().expect("the change");
    assert_eq!(changed.rules.size(), reading.rules.size() + 1);
    Ok(())
}

#[test]
fn iptables_nft() -> io::Result<()> {
    many(Form::IptablesNft)
}

#[test]
fn iptables_legacy() -> io::Result<()> {
    many(Form::IptablesLegacy)
}

#[test]
fn nftables() -> io::Result<()> {
    many(Form::Nftables)
}

#[test]
fn ipvs() -> io::Result<()> {
    many(Form::Ipvs)
}
