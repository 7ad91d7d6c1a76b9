//! `cargo xtask bench vm`: what tracing takes in a virtual machine with a kernel of Debian's, where other
//! tracers of this kind were measured on the same paths.
//!
//! Limits: software emulation, in which helpers and probes cost other shares than on a processor: ratios
//! of a machine compare with others of such a machine only.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use super::page;
use super::statistics::{Compared, Pair};
use crate::process;
use crate::vm::{Measured, Order, Series, measure};

/// The subject, as the page's marks have it.
const SUBJECT: &str = "vm";

/// What the others had: kind, observer, retis, pwru.
const OTHERS: [(&str, &str, f64, f64); 4] = [
    ("ask", "nothing", 0.52, 0.44),
    ("ask", "everything", 0.65, 0.27),
    ("flood", "nothing", 0.54, 0.10),
    ("flood", "everything", 0.25, 0.07),
];

/// How it is measured.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The kernel's series
    #[arg(long, default_value = "6.12")]
    series: Series,
    /// How many pairs of each
    #[arg(long, default_value_t = 7)]
    pairs: u32,
    /// How long each measurement takes, in the machine's seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// The tracer to measure instead of one built from these sources
    #[arg(long, value_name = "PATH")]
    tracer: Option<PathBuf>,
    /// How long the machine may run, in seconds
    #[arg(long, default_value_t = 2400)]
    limit: u64,
    /// Print the figures and do not write them down
    #[arg(long)]
    dry: bool,
}

/// Measures, and writes the figures down.
///
/// # Errors
/// When there can be no machine, or it does not come to its end.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let tracer = process::tracer(arguments.tracer.as_deref())?;
    let order = Order {
        pairs: arguments.pairs,
        seconds: arguments.seconds,
        limit: Duration::from_secs(arguments.limit),
    };
    let (version, measured) = measure(&arguments.series, &tracer, order)?;
    let table = format!("Linux {version}, emulated:\n\n{}", table(&measured));
    print!("{table}");
    if arguments.dry {
        return Ok(());
    }
    page::write_down(SUBJECT, &table)
}

fn table(measured: &[Measured]) -> String {
    let mut text = "| traffic | what is traced | without it | with it | ratio | half of the ratios | retis, pwru | aim |\n\
                    |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for (kind, observer, retis, pwru) in OTHERS {
        let Some(it) = Compared::of(&pairs(measured, kind, observer)) else {
            let _ = writeln!(text, "| {kind} | {observer} | not measured | | | | | |");
            continue;
        };
        let name = match kind {
            "ask" => "request and response, a second",
            _ => "UDP flood, datagrams a second",
        };
        let (aim, [low, high]) = (aim(retis, pwru), it.quartiles);
        let _ = writeln!(
            text,
            "| {name} | {observer} | {:.0} | {:.0} | {:.3} | {low:.3} to {high:.3} | {retis}, {pwru} | at least {aim:.2} |",
            it.without, it.with, it.ratio
        );
    }
    text
}

/// Twice the better one's, as far as that is possible.
fn aim(retis: f64, pwru: f64) -> f64 {
    (2.0 * retis.max(pwru)).min(1.0)
}

/// Each with and the without of its pair, which stand in the order in which they were made.
fn pairs(measured: &[Measured], kind: &str, observer: &str) -> Vec<Pair> {
    let of = |with: bool| {
        let all = measured.iter();
        all.filter(move |it| it.kind == kind && it.observer == observer && it.with == with)
            .map(|it| it.done.rate())
    };
    let both = of(false).zip(of(true));
    both.map(|(without, with)| Pair { without, with }).collect()
}

#[cfg(test)]
mod tests {
    use tracer_tests::load::Done;

    use super::*;

    #[test]
    fn an_aim_is_never_more_than_possible() {
        assert_eq!(aim(0.65, 0.27), 1.0);
        assert_eq!(aim(0.25, 0.07), 0.5);
    }

    #[test]
    fn pairs_are_made_in_order() {
        let one = |with, count| Measured {
            kind: "ask".to_owned(),
            observer: "nothing".to_owned(),
            with,
            done: Done {
                count,
                seconds: 1.0,
                p50_ns: 0,
                p99_ns: 0,
            },
        };
        let measured = [one(false, 10), one(true, 9), one(true, 18), one(false, 20)];
        let pairs = pairs(&measured, "ask", "nothing");
        let ratios: Vec<f64> = pairs.iter().map(|pair| pair.with / pair.without).collect();
        assert_eq!(ratios, [0.9, 0.9]);
        assert!(
            table(&measured).contains("| 0.900 | 0.900 to 0.900 | 0.52, 0.44 | at least 1.00 |")
        );
        assert!(table(&[]).contains("not measured"));
    }
}
