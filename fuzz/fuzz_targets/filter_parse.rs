//! The filter parser on any text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::filter::Filter;

fuzz_target!(|text: &str| {
    match Filter::parse(text) {
        Ok(filter) => {
            let written = filter.to_string();
            assert_eq!(Filter::parse(&written), Ok(filter), "written as {written}");
        }
        Err(error) => {
            assert!(text.get(error.span()).is_some());
            let rendered = error.to_string();
            assert!(!rendered.chars().any(|c| c.is_control() && c != '\n'));
        }
    }
});
