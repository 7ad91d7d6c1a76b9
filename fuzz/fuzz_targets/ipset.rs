//! The parser of `ipset save` on any text, and packets in the sets that it accepts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::node::rules::{
    ipset::Sets,
    subject::{Hook, Subject},
};

fuzz_target!(|text: &str| {
    match Sets::parse(text) {
        Ok(sets) => {
            let printed = sets.to_string();
            assert_eq!(Sets::parse(&printed).as_ref(), Ok(&sets), "{printed}");
            assert!(sets.elements() + sets.all().len() <= text.lines().count());
            let v4 = [10, 244, 0, 2].into();
            let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1].into();
            for address in [v4, v6] {
                let subject = Subject {
                    source_port: Some(1),
                    destination_port: Some(80),
                    ..Subject::new(Hook::Forward, address, address, 6)
                };
                for name in sets.names().chain(["none"]) {
                    for ends in [&["src"][..], &["dst", "dst"], &["src", "dst", "src"], &[]] {
                        let _ = sets.has(name, ends, &subject);
                    }
                }
            }
        }
        Err(error) => assert!(error.line <= text.lines().count() + 1, "{error}"),
    }
});
