//! What people see of the scenarios.

use proptest::prelude::*;
use unicode_width::UnicodeWidthStr;

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

const ASCII_80: Terminal = Terminal {
    width: Some(80),
    color: false,
    unicode: false,
};

fn stats(lost: u64) -> StatsReport {
    let total = Counts {
        seen: 90,
        matched: 60,
        emitted: 60 - lost,
        lost,
        ..Counts::default()
    };
    StatsReport {
        total,
        hooks: Vec::new(),
        ..StatsReport::default()
    }
}

/// What a sink writes.
fn written(terminal: Terminal, detail: Detail, show: impl FnOnce(&mut dyn Sink)) -> String {
    let mut out = Vec::new();
    show(&mut TextSink::new(&mut out, terminal, detail));
    String::from_utf8(out).unwrap()
}

fn shown(scenario: &Scenario, terminal: Terminal, detail: Detail) -> String {
    written(terminal, detail, |sink| {
        for packet in &scenario.packets {
            sink.packet(packet).unwrap();
        }
        sink.flow(&scenario.flow).unwrap();
        sink.finish(&stats(0)).unwrap();
    })
}

fn at(columns: usize, scenario: &Scenario) -> String {
    let width = Some(columns);
    shown(scenario, Terminal { width, ..PLAIN }, Detail::Paths)
}

#[test]
fn each_scenario_on_two_pages() {
    for (name, scenario) in scenarios::all() {
        insta::assert_snapshot!(format!("{name}_80"), at(80, &scenario));
        insta::assert_snapshot!(format!("{name}_120"), at(120, &scenario));
    }
}

#[test]
fn everything_can_be_said_in_ascii() {
    for (name, scenario) in [
        ("cluster_ip", scenarios::cluster_ip()),
        ("forward_drop", scenarios::forward_drop()),
        ("hole", scenarios::hole()),
        ("hostile", scenarios::hostile()),
    ] {
        let ascii = shown(&scenario, ASCII_80, Detail::Paths);
        assert!(ascii.is_ascii());
        insta::assert_snapshot!(format!("{name}_80_ascii"), ascii);
    }
}

#[test]
fn the_summary_is_one_line_a_flow() {
    let text = shown(&scenarios::cluster_ip(), PLAIN, Detail::Summary);
    insta::assert_snapshot!(text, @"flow 1: tcp 10.244.1.2:37500 (app/a1 curl[4711]) -> 10.96.0.81:80 (default/web:http) asked for as web.default.svc.cluster.local => 10.244.1.3:8080 (app/b1 nginx[1234])  closed  6/5 packets  0 drops 0 holes  1.20ms");
    let text = shown(&scenarios::masquerade(), PLAIN, Detail::Summary);
    insta::assert_snapshot!(text, @"flow 1: tcp 10.244.1.2:40300 (app/a1) as 192.168.77.11:61234 (masquerade) -> 203.0.113.9:443  syn-sent  1/0 packets  0 drops 0 holes  1.20ms");
}

#[test]
fn quiet_shows_ladders_of_problems_only() {
    let ladders = |scenario| {
        let text = shown(&scenario, PLAIN, Detail::Problems);
        text.lines().filter(|line| line.contains('→')).count()
    };
    assert_eq!(ladders(scenarios::cluster_ip()), 0);
    assert_eq!(ladders(scenarios::forward_drop()), 1);
    assert_eq!(ladders(scenarios::hole()), 1);
}

#[test]
fn a_path_is_shown_once_and_again_when_it_changes() {
    let mut scenario = scenarios::cluster_ip();
    let mut elsewhere = scenario.packets[2].clone();
    elsewhere.hops[9].tuple.destination.port = 9090;
    scenario.packets.push(elsewhere);
    let ladders = |detail| {
        let text = shown(&scenario, PLAIN, detail);
        text.lines()
            .filter(|line| line.contains(" delivered in "))
            .count()
    };
    assert_eq!(ladders(Detail::Paths), 3);
    assert_eq!(ladders(Detail::Packets), 5);
}

#[test]
fn a_queue_that_holds_a_packet_has_a_line_of_its_own() {
    let text = shown(&scenarios::masquerade(), PLAIN, Detail::Paths);
    let last: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("node1   device."))
        .collect();
    assert!(
        last.iter()
            .any(|line| line.contains("device.queue     eth0")),
        "{text}"
    );
    assert!(
        last.iter()
            .any(|line| line.contains("+1.50ms  node1   device.transmit  eth0")),
        "{text}"
    );
}

#[test]
fn losses_are_told_once() {
    let text = written(PLAIN, Detail::Paths, |sink| {
        sink.flow(&scenarios::udp().flow).unwrap();
        sink.stats(&stats(0)).unwrap();
        sink.stats(&stats(1)).unwrap();
        sink.stats(&stats(1)).unwrap();
        sink.finish(&stats(17)).unwrap();
    });
    insta::assert_snapshot!(text, @"
    flow 1?: udp 10.244.1.2:43210 (app/a1) -> 10.96.0.10:53 (kube-system/kube-dns:dns) => 10.244.1.3:5353 (app/b1)  replied  1/1 packets  0 drops 0 holes  1.20ms

    1 event lost: flows marked ? may be incomplete
    17 events lost: flows marked ? may be incomplete
    ");
}

#[test]
fn nothing_seen_is_said() {
    let text = written(PLAIN, Detail::Paths, |sink| sink.finish(&stats(0)).unwrap());
    insta::assert_snapshot!(text, @"no packet matched; the hooks saw 90");
}

/// The text without the escape sequences that set colours.
fn unpainted(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (codes, rest) = part.split_once('m').unwrap();
        assert!(codes.chars().all(|c| c.is_ascii_digit() || c == ';'));
        text + rest
    })
}

#[test]
fn colours_add_nothing_but_colour() {
    for (_, scenario) in scenarios::all() {
        let colored = Terminal {
            color: true,
            ..PLAIN
        };
        let plain = shown(&scenario, PLAIN, Detail::Paths);
        let painted = shown(&scenario, colored, Detail::Paths);
        assert_ne!(painted, plain);
        assert_eq!(unpainted(&painted), plain);
    }
    let drop = Terminal {
        color: true,
        ..PLAIN
    };
    let drop = shown(&scenarios::forward_drop(), drop, Detail::Paths);
    assert!(drop.contains("\x1b[1;31m✗ DROPPED at forward in node1: NETFILTER_DROP\x1b[0m"));
}

fn fits(text: &str, width: usize) -> Result<(), TestCaseError> {
    for line in text.lines() {
        prop_assert!(line.width() <= width, "{} > {width}: {line}", line.width());
        prop_assert!(!line.contains(char::is_control), "{line:?}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_line_is_wider_than_the_page(width in 0..200usize, unicode: bool) {
        for (_, scenario) in scenarios::all() {
            let terminal = Terminal { width: Some(width), color: false, unicode };
            fits(&shown(&scenario, terminal, Detail::Packets), width)?;
        }
    }

    #[test]
    fn any_name_fits_and_none_acts(
        netns: String,
        device: String,
        function: String,
        width in 20..150usize,
        unicode: bool,
    ) {
        let mut scenario = scenarios::forward_drop();
        scenario.flow.client.netns = Some(netns.clone());
        let packet = &mut scenario.packets[0];
        if let Some(drop) = &mut packet.drop {
            drop.function = Some(function);
        }
        for hop in &mut packet.hops {
            hop.netns = Some(netns.clone());
            if let Some(shown) = &mut hop.device {
                shown.name.clone_from(&device);
            }
        }
        let terminal = Terminal { width: Some(width), color: false, unicode };
        let text = shown(&scenario, terminal, Detail::Paths);
        fits(&text, width)?;
        prop_assert!(unicode || text.is_ascii());
    }
}

#[test]
fn the_documentations_examples_are_what_is_written() {
    let text = include_str!("../../../../docs/output.md");
    let pages: Vec<String> = scenarios::all()
        .iter()
        .flat_map(|(_, scenario)| [at(80, scenario), at(120, scenario)])
        .collect();
    let mut examples = 0;
    for block in text.split("```text\n").skip(1) {
        let example = block.split("```").next().unwrap();
        assert!(pages.iter().any(|page| page.contains(example)), "{example}");
        examples += 1;
    }
    assert!(examples > 4);
}
