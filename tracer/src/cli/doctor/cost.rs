//! `tracer doctor --cost`: what tracing takes on this node, with the traffic that it has now.

use std::time::Duration;

use serde::Serialize;

use super::{DoctorArgs, SCHEMA};
use crate::{
    cli::{arguments, resolution},
    kernel::{
        checkup,
        coverage::Node,
        expense::{self, Expense, Spent},
        live,
        load::Sizes,
    },
    node::pods::HostRoot,
    output::sanitize,
};

/// How long is measured.
const PERIOD: Duration = Duration::from_secs(3);

/// Measures, and returns what is to be printed.
///
/// # Errors
/// A wrong filter, why tracing cannot start, or that the kernel does not measure.
pub(super) fn run(args: &DoctorArgs) -> anyhow::Result<String> {
    let filter = arguments::filter(&args.filter)?;
    live::check(Sizes::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let expense = runtime.block_on(async {
        let node = Node::watch(HostRoot::default())?;
        let program = if args.filter.is_empty() {
            checkup::nothing()
        } else {
            let filter = resolution::resolve_live(&filter, node.watched())?;
            filter.compile().program
        };
        expense::measure(node, &program, PERIOD)
            .await
            .map_err(|error| anyhow::anyhow!(error))
    })?;
    let filter = args.filter.join(" ");
    if args.json {
        Ok(json(&expense, &filter)?)
    } else {
        Ok(text(&expense, &filter))
    }
}

#[derive(Serialize)]
struct Line<'a> {
    r#type: &'static str,
    schema: u32,
    /// `null`: one that no packet matches.
    filter: Option<&'a str>,
    #[serde(flatten)]
    expense: &'a Expense,
    runs: u64,
    programs_ns: u64,
    node_percent: f64,
}

fn json(expense: &Expense, filter: &str) -> serde_json::Result<String> {
    let line = Line {
        r#type: "cost",
        schema: SCHEMA,
        filter: (!filter.is_empty()).then_some(filter),
        expense,
        runs: expense.runs(),
        programs_ns: expense.programs_ns(),
        node_percent: expense.of_the_node(),
    };
    let json = serde_json::to_string(&line)?;
    Ok(format!("{}\n", sanitize::json(&json)))
}

fn row(expense: &Expense, name: &str, runs: u64, time_ns: u64) -> String {
    let seconds = Duration::from_nanos(expense.measured_ns).as_secs_f64();
    let each = time_ns.checked_div(runs);
    format!(
        "{name:<18}{:>12.0}{:>10}{:>18.3}",
        runs as f64 / seconds.max(1e-9),
        each.map_or_else(|| "-".to_owned(), |each| each.to_string()),
        expense.of_a_processor(time_ns)
    )
}

fn text(expense: &Expense, filter: &str) -> String {
    let seconds = Duration::from_nanos(expense.measured_ns).as_secs_f64();
    let what = if filter.is_empty() {
        "with a filter that no packet matches".to_owned()
    } else {
        format!("tracing {filter}")
    };
    let mut lines = vec![
        format!("measured for {seconds:.1} s on this node's own traffic, {what}"),
        String::new(),
        format!(
            "{:<18}{:>12}{:>10}{:>18}",
            "PROGRAM", "RUNS/S", "NS/RUN", "% OF A PROCESSOR"
        ),
    ];
    let each = |spent: &Spent| row(expense, &spent.program, spent.runs, spent.time_ns);
    lines.extend(expense.programs.iter().map(each));
    lines.push(row(expense, "all", expense.runs(), expense.programs_ns()));
    lines.push(format!(
        "{:<18}{:>12}{:>10}{:>18.3}",
        "the tracer itself",
        "",
        "",
        expense.of_a_processor(expense.tracer_ns)
    ));
    lines.push(String::new());
    if expense.runs() == 0 {
        lines.push("no packet came by meanwhile: what a run costs is not known".to_owned());
    }
    lines.push(format!(
        "all together {:.3} % of this node's processor time ({} processors)",
        expense.of_the_node(),
        expense.processors
    ));
    lines.push(
        "measuring costs as well: the kernel looked at the clock twice for each run of any BPF program \
         meanwhile, and about one of the two is in these figures"
            .to_owned(),
    );
    let lines = lines
        .iter()
        .map(|line| sanitize::plain(line).trim_end().to_owned() + "\n");
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(program: &str, runs: u64, time_ns: u64) -> Spent {
        Spent {
            program: program.to_owned(),
            runs,
            time_ns,
            run_ns: time_ns.checked_div(runs),
        }
    }

    fn expense(programs: Vec<Spent>) -> Expense {
        Expense {
            measured_ns: 2_000_000_000,
            processors: 4,
            programs,
            tracer_ns: 4_000_000,
        }
    }

    #[test]
    fn people_see_a_table() {
        let programs = vec![
            spent("device_queue", 40_000, 3_000_000),
            spent("drop_with_reason", 0, 0),
        ];
        insta::assert_snapshot!(text(&expense(programs), ""), @r"
        measured for 2.0 s on this node's own traffic, with a filter that no packet matches

        PROGRAM                 RUNS/S    NS/RUN  % OF A PROCESSOR
        device_queue             20000        75             0.150
        drop_with_reason             0         -             0.000
        all                      20000        75             0.150
        the tracer itself                                    0.200

        all together 0.087 % of this node's processor time (4 processors)
        measuring costs as well: the kernel looked at the clock twice for each run of any BPF program meanwhile, and about one of the two is in these figures
        ");
    }

    #[test]
    fn without_traffic_nothing_is_made_up() {
        let idle = expense(vec![spent("device_queue", 0, 0)]);
        let text = text(&idle, "port 80");
        assert!(text.contains("no packet came by"), "{text}");
        assert!(text.contains("tracing port 80"), "{text}");
        let json: serde_json::Value =
            serde_json::from_str(&json(&idle, "port 80").unwrap()).unwrap();
        assert_eq!(json["type"], "cost");
        assert_eq!(json["runs"], 0);
        assert_eq!(json["filter"], "port 80");
        assert!(json["programs"][0]["run_ns"].is_null(), "{json}");
    }
}
