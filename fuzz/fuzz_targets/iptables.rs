//! The parser of `iptables-save` on any text, and what is read of a rule set that it accepts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::node::rules::{
    evaluate::explain,
    iptables::{RuleSet, Tables},
    outcome::Observed,
    path::Source,
    subject::{Elsewhere, Family, Hook, Subject},
};

fuzz_target!(|text: &str| {
    match Tables::parse(text) {
        Ok(tables) => {
            let printed = tables.to_string();
            assert_eq!(Tables::parse(&printed).as_ref(), Ok(&tables), "{printed}");
            let rules = RuleSet::new(Family::V4, Source::IptablesNft, tables);
            for service in rules.services() {
                assert!(service.frontends.len() <= rules.tables().rules());
            }
            for hook in Hook::ALL {
                let address = [10, 96, 0, 80].into();
                let subject = Subject::new(hook, address, address, 6);
                let observed = Observed::Nothing;
                let explanation = explain(&[&rules], &subject, &Elsewhere, observed);
                for (_, path) in &explanation.paths {
                    assert!(!path.steps.is_empty());
                }
            }
        }
        Err(error) => assert!(error.line <= text.lines().count() + 1, "{error}"),
    }
});
