//! Pages of the scenarios.

use super::*;
use crate::{
    journey::model::FlowId,
    report::scenarios::{self, Scenario},
};

fn page_of(scenarios: &[Scenario], origin: Origin) -> String {
    let mut out = Vec::new();
    let mut sink = HtmlSink::new(&mut out, origin);
    for (number, scenario) in (1..).zip(scenarios) {
        let id = FlowId(number);
        for packet in &scenario.packets {
            let mut packet = packet.clone();
            packet.flow = id;
            sink.packet(&packet).unwrap();
        }
        let mut flow = scenario.flow.clone();
        flow.id = id;
        sink.flow(&flow).unwrap();
    }
    sink.finish(&StatsReport::default()).unwrap();
    String::from_utf8(out).unwrap()
}

/// A text that is not ours, wherever one can stand.
fn everywhere(name: &str) -> Scenario {
    let mut scenario = scenarios::forward_drop();
    let text = || Some(name.to_owned());
    let flow = &mut scenario.flow;
    (flow.client.netns, flow.client.pod) = (text(), None);
    for packet in &mut scenario.packets {
        for hop in &mut packet.hops {
            (hop.netns, hop.pod) = (text(), None);
            if let Some(device) = &mut hop.device {
                device.name = name.to_owned();
            }
            let rules = hop.translations.iter_mut().filter_map(|t| t.rule.as_mut());
            for step in rules.flat_map(|rule| &mut rule.path) {
                step.chain = name.to_owned();
            }
        }
        if let Some(drop) = &mut packet.drop {
            (drop.netns, drop.pod, drop.reason, drop.function) = (text(), None, text(), text());
            for step in drop.rule.iter_mut().flat_map(|rule| &mut rule.path) {
                step.text = name.to_owned();
            }
        }
    }
    scenario
}

/// The tags of a page, by their names.
fn tags(page: &str) -> Vec<&str> {
    let after = page.split('<').skip(1);
    after
        .map(|tag| {
            let end = tag.find(|c: char| !(c.is_ascii_alphanumeric() || "/!".contains(c)));
            &tag[..end.unwrap_or(tag.len())]
        })
        .collect()
}

/// The tags but those of lines in pictures, which depend on what is to be folded.
fn but_texts(page: &str) -> Vec<&str> {
    let mut tags = tags(page);
    tags.retain(|tag| tag.trim_start_matches('/') != "text");
    tags
}

#[test]
fn a_call_and_a_drop_are_a_page() {
    let page = page_of(
        &[scenarios::cluster_ip(), scenarios::forward_drop()],
        Origin::of_scenarios(),
    );
    let page = page.replace(include_str!("style.css"), "..");
    insta::assert_snapshot!(page.replace('>', ">\n"));
}

#[test]
fn every_scenario_is_closed_where_it_is_opened() {
    let scenarios = scenarios::all().map(|(_, scenario)| scenario);
    let page = page_of(&scenarios, Origin::of_scenarios());
    let mut open = Vec::new();
    for tag in tags(&page) {
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name)),
            None if ["!DOCTYPE", "meta", "br"].contains(&tag) => {}
            None => open.push(tag),
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert!(!page.contains(|c: char| c.is_control() && c != '\n'));
    assert!(
        !tags(&page)
            .iter()
            .any(|tag| tag.eq_ignore_ascii_case("script"))
    );
    assert!(
        !page.contains("http://") && !page.contains("src="),
        "something from elsewhere"
    );
}

#[test]
fn no_name_becomes_markup() {
    let harmless = page_of(&[everywhere("x")], Origin::of_scenarios());
    for name in [
        "</text><script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onload='alert(1)",
        "]]><svg/onload=alert(1)>",
        "&lt;script&gt;",
        "\u{202e}<b>",
    ] {
        let origin = Origin {
            host: name.to_owned(),
            kernel: name.to_owned(),
            filter: name.to_owned(),
            ..Origin::of_scenarios()
        };
        let page = page_of(&[everywhere(name)], origin);
        assert_eq!(but_texts(&page), but_texts(&harmless), "{name}");
        assert!(!page.contains('\u{202e}'));
    }
}

#[test]
fn nothing_recorded_is_said() {
    assert!(page_of(&[], Origin::of_scenarios()).contains("No flow was recorded"));
}
