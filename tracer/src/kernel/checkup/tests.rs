//! What can be said of any machine, and of this one.

use super::*;
use crate::node::testing::root;

#[test]
fn nothing_matches_nothing() {
    assert!(!nothing().matches(&filter::Subject::default()));
}

#[test]
fn long_lists_are_cut() {
    let names: Vec<String> = (0..20).map(|n| format!("n{n}")).collect();
    assert_eq!(listed(&names[..2]), " (n0, n1)");
    assert_eq!(listed(&names), " (n0, n1, n2, n3, n4, n5, n6, n7, ...)");
    assert_eq!(listed(&[]), "");
}

#[test]
fn this_machine_is_looked_at() {
    let found = checkup();
    println!("{found:#?}");
    let attach = found.findings.last().unwrap();
    assert_eq!(attach.subject, Subject::Attach);
    if !root() {
        assert_eq!(found.readiness, Readiness::Impossible);
        assert!(found.timing.is_none());
        return;
    }
    assert_ne!(found.readiness, Readiness::Impossible);
    assert!(found.timing.unwrap().attach_us > 0);
    assert_eq!(attach.readiness, Readiness::Ready);
}
