//! Packets led through rules of nobody: any answer, but an answer.

use proptest::prelude::*;

use super::{super::RuleSet, PROXY_1_36, reading::objects};
use crate::node::rules::{
    evaluate::explain,
    outcome::Observed,
    subject::{Elsewhere, Hook, Subject},
};

proptest! {
    // Each case evaluates forty packets.
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_rules_end_and_their_services_are_read(
        objects in prop::collection::vec(objects(), 1..6),
        at in 0..PROXY_1_36.len(),
    ) {
        let listing = super::super::json::Json::Array(objects);
        let made = format!(r#"{{"nftables":{listing}}}"#);
        // A digit of the recorded rules changed: addresses, ports, numbers of elements.
        let mut bytes = PROXY_1_36.as_bytes().to_vec();
        let digit = bytes[at..].iter().position(u8::is_ascii_digit);
        if let Some(digit) = digit {
            bytes[at + digit] = b'0' + (bytes[at + digit] + 1) % 10;
        }
        for text in [made, String::from_utf8(bytes).unwrap()] {
            let Ok(rules) = RuleSet::parse(&text) else { continue };
            let _ = rules.services();
            for hook in Hook::ALL {
                for (source, destination) in [("10.244.1.2", "10.96.0.80"), ("::1", "::2")] {
                    let ends = [source, destination].map(|ip| ip.parse().unwrap());
                    let mut subject = Subject::new(hook, ends[0], ends[1], 6);
                    subject.destination_port = Some(80);
                    for observed in [Observed::Nothing, Observed::Dropped] {
                        let _ = explain(&[&rules], &subject, &Elsewhere, observed);
                    }
                }
            }
        }
    }
}
