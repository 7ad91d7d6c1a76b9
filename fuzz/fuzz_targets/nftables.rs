//! The parser of `nft -j list ruleset` on any text, and what is made of a rule set that it accepts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::node::rules::{
    evaluate::explain,
    nftables::{RuleSet, read::read},
    outcome::Observed,
    subject::{Elsewhere, Hook, Subject},
};

fuzz_target!(|text: &str| {
    let listing = match read(text) {
        Ok(listing) => listing,
        Err(error) => {
            assert!(error.to_string().contains(" line "), "{error}");
            return;
        }
    };
    let printed = listing.to_json();
    let again = read(&printed.to_string()).unwrap();
    assert_eq!(again, listing, "{printed}");
    let rules = RuleSet::from(listing);
    for service in rules.services() {
        assert!(service.name.is_some());
    }
    for hook in Hook::ALL {
        let address = [10, 96, 0, 80].into();
        let mut subject = Subject::new(hook, address, address, 6);
        subject.destination_port = Some(80);
        let explanation = explain(&[&rules], &subject, &Elsewhere, Observed::Nothing);
        for (_, path) in &explanation.paths {
            assert!(!path.steps.is_empty());
        }
    }
});
