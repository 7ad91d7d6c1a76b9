//! What a node's rules cost the tracer: reading those of many Services, looking whether they changed,
//! reading them again, and explaining a packet by them.
//!
//! `cargo bench -p tracer --bench rules -- [SERVICES]`, as root: each form of rules is loaded into a network
//! namespace of its own, which ends with the benchmark, and read there by a process that does nothing else,
//! so that the memory is what reading takes: of that process, and of the program (`nft`, `iptables-save`)
//! that it asks, together at each moment ([`at_once`]). Times are processor time of both, so a busy machine does
//! not change them much; explaining is done by one thread and measured by the clock, the longest of many, so there it
//! does. The output is a table in Markdown; `cargo xtask bench rules` puts it into docs/performance.md.

#[path = "rules/at_once.rs"]
mod at_once;
#[path = "rules/made.rs"]
mod made;
#[expect(dead_code, reason = "other benchmarks need more of it")]
#[path = "recording/table.rs"]
mod table;

use std::{
    error::Error,
    fmt::Write as _,
    fs,
    net::IpAddr,
    process::Command,
    time::{Duration, Instant},
};

use rustix::thread::{UnshareFlags, unshare_unsafe};
use tracer::node::{
    ipvs::Table,
    rules::{
        evaluate::{RuleSet, explain},
        live::Reading,
        outcome::Observed,
        subject::{Elsewhere, Hook, States, Subject},
    },
};

use made::Form;
use table::milliseconds;

const FORMS: [Form; 4] = [
    Form::IptablesNft,
    Form::IptablesLegacy,
    Form::Nftables,
    Form::Ipvs,
];
const SERVICES: u32 = 5_000;
/// Packets that are explained.
const PACKETS: u32 = 200;
/// Looks that find nothing new.
const LOOKS: u32 = 10;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    // `cargo bench` adds `--bench`.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|it| it != "--bench")
        .collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["load", form, services] => load(self::form(form)?, services.parse()?),
        ["text", _, services] => text(services.parse()?),
        ["memory", form, _] => memory_of_reading(self::form(form)?),
        ["measure", form, services] => measure(self::form(form)?, services.parse()?),
        [] => all(SERVICES),
        [services] => all(services.parse()?),
        _ => Err("give a number of Services".into()),
    }
}

fn form(name: &str) -> Result<Form> {
    let form = FORMS.into_iter().find(|form| form.name() == name);
    form.ok_or_else(|| format!("no form {name}").into())
}

fn all(services: u32) -> Result<()> {
    table::begin();
    for form in FORMS {
        again("load", form, services)?;
    }
    Ok(())
}

/// Runs this program again, for a part of the work.
fn again(part: &str, form: Form, services: u32) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    let status = command
        .args([part, form.name(), &services.to_string()])
        .status()?;
    status
        .success()
        .then_some(())
        .ok_or_else(|| format!("{part} {}: {status}", form.name()).into())
}

/// Makes a namespace with the rules, and has them read there.
fn load(form: Form, services: u32) -> Result<()> {
    // SAFETY: the process has no other thread, and only its network namespace is another one then.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    if !form.load(services)? {
        if form == Form::Ipvs {
            return again("text", form, services);
        }
        row(form, "", "not possible on this kernel", "");
        return Ok(());
    }
    again("measure", form, services)
}

fn measure(form: Form, services: u32) -> Result<()> {
    let start = processor_time()?;
    let reading = Reading::default().again().ok_or("there are no rules")?;
    let first = processor_time()? - start;
    if !reading.rules.notes.is_empty() {
        return Err(reading.rules.notes.join(", ").into());
    }
    let found = reading.rules.services(|_| false).all().len();
    if found != usize::try_from(services)? {
        return Err(format!("{found} Services of {services}").into());
    }
    row(
        form,
        "rules, Services",
        &format!("{}, {found}", reading.rules.size()),
        "20000, 5000",
    );
    row(
        form,
        "read for the first time",
        &milliseconds(first),
        "less than 2000 ms",
    );
    again("memory", form, services)?;
    let start = processor_time()?;
    for _ in 0..LOOKS {
        if reading.again().is_some() {
            return Err("they changed by themselves".into());
        }
    }
    let look = (processor_time()? - start) / LOOKS;
    row(
        form,
        "a look that finds nothing new",
        &milliseconds(look),
        "",
    );
    if !form.change()? {
        return Err("the rules cannot be changed".into());
    }
    let start = processor_time()?;
    let changed = reading.again().ok_or("the change is not seen")?;
    let again = processor_time()? - start;
    row(
        form,
        "read again after one rule changed",
        &milliseconds(again),
        "less than 2000 ms",
    );
    drop(changed);
    explain_packets(form, &reading.rules.sets(), services)
}

/// Reads once more, in a process of its own.
fn memory_of_reading(form: Form) -> Result<()> {
    let idle = memory("VmHWM")?;
    let (reading, sum) = at_once::watch(|| Reading::default().again())?;
    reading.ok_or("there are no rules")?;
    let own = memory("VmHWM")? - idle;
    let program = u64::try_from(usage(libc::RUSAGE_CHILDREN)?.ru_maxrss)?;
    // What was there between two looks is no less than the most that either had, which the kernel keeps.
    let sum = sum.saturating_sub(idle).max(own).max(program);
    row(
        form,
        "memory for that at most, the tracer's and the program's at once",
        &format!("{} MB", sum >> 10),
        "less than 200 MB",
    );
    row(
        form,
        "the most of the tracer alone, of the program alone",
        &format!("{} MB, {} MB", own >> 10, program >> 10),
        "",
    );
    Ok(())
}

/// Where the kernel has no IPVS: what it would print, which is all that is read of it.
fn text(services: u32) -> Result<()> {
    let mut text = String::new();
    for number in 0..services {
        let [ip, to] = [made::cluster_ip(number), made::endpoint(number)].map(u32::from);
        writeln!(
            text,
            "TCP  {ip:08X}:0050 rr\n  -> {to:08X}:1F90      Masq    1      0          0"
        )?;
    }
    let idle = memory("VmHWM")?;
    let start = processor_time()?;
    let table = Table::parse(&text);
    let read = processor_time()? - start;
    let found = table.services(|_| false).len();
    let form = Form::Ipvs;
    let what = "(the text of its table: this kernel has none) Services";
    row(form, what, &found.to_string(), "5000");
    row(form, "read", &milliseconds(read), "less than 2000 ms");
    let own = format!("{} MB", (memory("VmHWM")? - idle) >> 10);
    row(form, "memory for that at most", &own, "less than 200 MB");
    explain_packets(form, &[&table], services)
}

/// The first packets of connections to Services, each with the endpoint that it got.
fn explain_packets(form: Form, sets: &[&dyn RuleSet], services: u32) -> Result<()> {
    let hook = if form == Form::Ipvs {
        Hook::Input
    } else {
        Hook::Prerouting
    };
    let mut times = Vec::new();
    for packet in 0..PACKETS {
        let number = packet * (services / PACKETS).max(1) % services;
        let client = IpAddr::from([10, 244, 255, 1]);
        let called = made::cluster_ip(number).into();
        let mut syn = Subject::new(hook, client, called, 6);
        syn.source_port = Some(40_000);
        syn.destination_port = Some(80);
        syn.connection.states = States::NEW;
        let observed = Observed::Destination((made::endpoint(number), 8080).into());
        let start = Instant::now();
        let explanation = explain(sets, &syn, &Elsewhere, observed);
        times.push(start.elapsed());
        if explanation.paths.len() != 1 {
            return Err(format!("Service {number}: {explanation:#?}").into());
        }
    }
    let first = times.remove(0);
    times.sort_unstable();
    let longest = times.last().copied().unwrap_or_default();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    row(form, "explain the first packet", &milliseconds(first), "");
    let both = format!("{}, {}", milliseconds(middle), milliseconds(longest));
    row(
        form,
        "explain another one: the median, the longest",
        &both,
        "less than 5 ms",
    );
    Ok(())
}

fn row(form: Form, what: &str, measured: &str, aim: &str) {
    let between = if what.is_empty() { "" } else { ": " };
    table::row(&format!("{}{between}{what}", form.name()), measured, aim);
}

/// A line of this process's accounts, in KiB.
fn memory(line: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    Ok(at_once::number(&status, line).ok_or("no such line")?)
}

/// What this process and the programs that it ran have used.
fn processor_time() -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for who in [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN] {
        let usage = usage(who)?;
        for time in [usage.ru_utime, usage.ru_stime] {
            let part = Duration::from_micros(u64::try_from(time.tv_usec)?);
            sum += Duration::from_secs(u64::try_from(time.tv_sec)?) + part;
        }
    }
    Ok(sum)
}

/// What is accounted to this process, or to those that it ran: of these the largest memory, in KiB.
fn usage(who: libc::c_int) -> Result<libc::rusage> {
    // SAFETY: all zeros are a value of this structure of numbers, which the call fills.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a structure of that type, for the time of the call.
    let failed = unsafe { libc::getrusage(who, &raw mut usage) } != 0;
    if failed {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(usage)
}
