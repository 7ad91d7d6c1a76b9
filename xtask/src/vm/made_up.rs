//! What a tracer might have written, for tests: objects with all members that the strict reader asks
//! for. Tests change what they are about.

use serde_json::{Value, json};

/// A hop without anything special.
pub(super) fn hop(stage: &str, (netns, dev): (&str, &str), translations: &[Value]) -> Value {
    json!({"t": 1, "dt": 0, "stage": stage, "netns": netns, "dev": dev, "dev_kind": null,
        "src": "10.0.0.1:1", "dst": "10.0.0.2:2", "spent_ns": null, "translations": translations,
        "encapsulation": null, "hole": null, "pod": null})
}

/// A translation without a rule.
pub(super) fn translation(kind: &str, from: &str, to: &str) -> Value {
    json!({"kind": kind, "from": from, "to": to, "kind_inferred": false, "rule": null,
        "rule_info": null})
}

/// A UDP packet that was delivered.
pub(super) fn packet(direction: &str, hops: &[Value]) -> Value {
    json!({"type": "packet", "schema": 1, "flow": 1, "direction": direction, "tcp": null,
        "len": 60, "verdict": "delivered", "hops": hops, "drop": null, "id": 1, "proto": "udp",
        "protocol": 17, "icmp": null, "payload": 30, "verdict_observed": true, "holes": 0,
        "hops_cut": 0})
}
