use super::*;
use crate::node::testing::{Named, root, run};

/// As one that a program keeps which does not answer.
#[test]
fn a_look_that_takes_long_is_not_waited_for_at_the_end() {
    if !root() {
        return;
    }
    let named = Named::new("keeps");
    if !run(&format!(
        "ip netns exec {} iptables-nft -A FORWARD -j DROP",
        named.name
    )) {
        return println!("skipped: iptables-nft does not work here");
    }
    let (entered, has_entered) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let watch = RulesWatch::start(Traffic::default(), move |_| {
        entered.send(()).unwrap();
        // Until the test lets it go.
        let _ = released.recv();
    });
    let watch = watch.unwrap();
    let entry = Entry {
        inode: named.inode(),
        mounts: vec![format!("/run/netns/{}", named.name).into()],
        ..Entry::default()
    };
    watch.appeared(entry, 1);
    has_entered.recv().unwrap();
    // It would never return if it waited.
    drop(watch);
    drop(release);
    // Then it ends by itself, and what it owns with it.
    while has_entered.recv().is_ok() {}
}

#[test]
fn rules_that_last_are_looked_at_more_rarely_while_nothing_is_traced() {
    let now = Instant::now();
    let known = Known {
        entry: Entry::default(),
        life: 1,
        since: now,
        reading: Reading::default(),
        not_before: now,
        silent_until: now + Duration::from_secs(4),
        changed: now,
        seen: 1,
        looked: false,
    };
    let (_sender, messages) = mpsc::channel();
    let worker = Worker {
        known: BTreeMap::from([(7, known)]),
        messages,
        on_found: |_| {},
        settled: Arc::default(),
        traffic: Traffic::default(),
        last: 0,
    };
    let due = |after: u64| worker.due(now + Duration::from_secs(after)).0;
    assert_eq!(due(1), [7], "it is not silent yet");
    assert!(due(3).is_empty());
    assert_eq!(due(4), [7]);
    let pause = |after: u64| worker.pause(now + Duration::from_secs(after));
    // The namespace is new for ten seconds.
    assert_eq!((pause(3), pause(11)), (PERIOD, PERIOD * 4));
}
