//! The words for causes, each with the layers that it may be found in.
//!
//! They are part of the JSON contract (docs/json.md) and of the table in docs/diagnosis.md, which
//! tests hold against this one.

use super::Layer;

/// All of them.
pub(super) const CAUSES: &[(&str, &[Layer])] = &[
    ("no-endpoints", &[Layer::Service]),
    ("no-local-endpoints", &[Layer::Service]),
    ("hairpin-not-masqueraded", &[Layer::Service]),
    ("answer-not-translated", &[Layer::Service]),
    ("dropped-by-rule", &[Layer::Filter]),
    ("rejected-by-rule", &[Layer::Filter]),
    ("dropped-by-hook", &[Layer::Filter]),
    ("dropped-by-program", &[Layer::Filter]),
    ("prohibited", &[Layer::Filter]),
    ("no-route", &[Layer::Routing]),
    ("not-forwarded", &[Layer::Routing]),
    ("rp-filter", &[Layer::Routing]),
    ("martian", &[Layer::Routing]),
    ("default-route-only", &[Layer::Routing]),
    ("unreachable", &[Layer::Routing]),
    ("no-neighbour", &[Layer::PodNetwork]),
    ("device-drops", &[Layer::PodNetwork]),
    ("dropped", &[Layer::PodNetwork, Layer::Server]),
    ("packet-too-big", &[Layer::Mtu]),
    ("large-packets-lost", &[Layer::Mtu]),
    ("conntrack-full", &[Layer::Conntrack]),
    ("conntrack-clash", &[Layer::Conntrack]),
    ("nothing-listens", &[Layer::Server, Layer::Loopback]),
    ("listens-elsewhere", &[Layer::Server, Layer::Loopback]),
    ("port-unreachable", &[Layer::Server]),
    ("reset", &[Layer::Server]),
    ("overloaded", &[Layer::Server]),
    ("server-silent", &[Layer::Server, Layer::Dns]),
    ("name-not-found", &[Layer::Dns]),
    ("name-without-address", &[Layer::Dns]),
    ("name-server-failed", &[Layer::Dns]),
    ("slow-answer", &[Layer::Dns]),
    ("question-unanswered", &[Layer::Dns]),
    ("no-answer-from-network", &[Layer::Network]),
    ("answer-left", &[Layer::Network]),
    ("slow-to-open", &[Layer::Network]),
    ("stalled", &[Layer::Network, Layer::PodNetwork]),
    ("lost-on-the-way", &[Layer::PodNetwork, Layer::Routing]),
    ("answer-lost", &[Layer::PodNetwork]),
    ("events-lost", &[Layer::Tracing]),
    ("packets-let-go", &[Layer::Tracing]),
];

/// Whether the cause is one of them, and may be found in that layer.
pub(super) fn is_known(cause: &str, layer: Layer) -> bool {
    let mut causes = CAUSES.iter();
    causes.any(|(known, layers)| *known == cause && layers.contains(&layer))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const TABLE: &str = include_str!("../../../../docs/diagnosis.md");
    const CONTRACT: &str = include_str!("../../../../docs/json.md");
    /// The end-to-end tests that make faults.
    const FAULTS: [&str; 9] = [
        include_str!("../../../../tests/tests/journeys/faults/conntrack.rs"),
        include_str!("../../../../tests/tests/journeys/faults/dns.rs"),
        include_str!("../../../../tests/tests/journeys/faults/filter.rs"),
        include_str!("../../../../tests/tests/journeys/faults/healthy.rs"),
        include_str!("../../../../tests/tests/journeys/faults/routing.rs"),
        include_str!("../../../../tests/tests/journeys/faults/server.rs"),
        include_str!("../../../../tests/tests/journeys/faults/service.rs"),
        include_str!("../../../../tests/tests/journeys/faults/silence.rs"),
        include_str!("tests.rs"),
    ];

    /// The rows of the documentation's table of causes: cause, layers, tests.
    fn rows() -> Vec<(String, BTreeSet<String>, Vec<String>)> {
        let quoted = |cell: &str| -> Vec<String> {
            let parts = cell.split('`').skip(1).step_by(2);
            parts.map(str::to_owned).collect()
        };
        let causes = TABLE.split("\n## ").find(|part| part.starts_with("Causes"));
        let lines = causes
            .unwrap()
            .lines()
            .filter(|line| line.starts_with("| `"));
        lines
            .map(|line| {
                let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
                let [cause, layers, .., tests] = &cells[..] else {
                    panic!("{line}");
                };
                let cause = quoted(cause).remove(0);
                (cause, quoted(layers).into_iter().collect(), quoted(tests))
            })
            .collect()
    }

    #[test]
    fn the_documentation_has_each_cause_with_its_layers() {
        let documented: Vec<_> = rows().into_iter().map(|row| (row.0, row.1)).collect();
        let known = CAUSES.iter().map(|(cause, layers)| {
            let layers = layers.iter().map(|layer| layer.as_str().to_owned());
            ((*cause).to_owned(), layers.collect())
        });
        assert_eq!(documented, known.collect::<Vec<_>>());
        for (cause, _) in CAUSES {
            assert!(
                CONTRACT.contains(&format!("`{cause}`")),
                "docs/json.md: {cause}"
            );
        }
    }

    #[test]
    fn the_tests_that_it_names_are_there_and_ask_for_the_cause() {
        for (cause, _, tests) in rows() {
            assert!(!tests.is_empty(), "{cause} has no test");
            for test in tests {
                let name = format!("fn {test}(");
                let file = FAULTS.iter().find(|file| file.contains(&name));
                let file = file.unwrap_or_else(|| panic!("no test {test}"));
                assert!(file.contains(&format!("\"{cause}\"")), "{test}: {cause}");
            }
        }
    }
}
