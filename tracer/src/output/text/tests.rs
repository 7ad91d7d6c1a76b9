//! What people see of the scenarios.

use super::{Detail, TextSink};
use crate::{
    output::{Sink, terminal::Terminal},
    report::{
        Counts, StatsReport,
        scenarios::{self, Scenario},
    },
};

const PLAIN: Terminal = Terminal {
    width: None,
    color: false,
    unicode: true,
};

fn lost(lost: u64) -> StatsReport {
    let total = Counts {
        seen: 90,
        matched: 60,
        emitted: 60 - lost,
        lost,
    };
    StatsReport {
        total,
        hooks: Vec::new(),
    }
}

fn shown(scenario: &Scenario, terminal: Terminal, detail: Detail) -> String {
    let mut out = Vec::new();
    let mut sink = TextSink::new(&mut out, terminal, detail);
    for packet in &scenario.packets {
        sink.packet(packet).unwrap();
    }
    sink.flow(&scenario.flow).unwrap();
    sink.finish(&lost(0)).unwrap();
    String::from_utf8(out).unwrap()
}

fn at(columns: usize, scenario: &Scenario) -> String {
    let width = Some(columns);
    shown(scenario, Terminal { width, ..PLAIN }, Detail::Paths)
}

#[test]
fn a_connection_through_a_cluster_ip() {
    let scenario = scenarios::cluster_ip();
    insta::assert_snapshot!("cluster_ip_80", at(80, &scenario));
    insta::assert_snapshot!("cluster_ip_120", at(120, &scenario));
    let ascii = Terminal {
        width: Some(80),
        ..Terminal::default()
    };
    insta::assert_snapshot!(
        "cluster_ip_80_ascii",
        shown(&scenario, ascii, Detail::Paths)
    );
}
