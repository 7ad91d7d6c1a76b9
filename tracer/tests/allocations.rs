//! In the steady state an event costs no allocation: what a packet needs is that of a packet that is over.

#[expect(dead_code, reason = "a test needs more of it")]
#[path = "../benches/engine/counted.rs"]
mod counted;
#[expect(dead_code, reason = "benchmarks need more of it")]
#[path = "../benches/recording/traffic.rs"]
mod traffic;
#[expect(dead_code, reason = "benchmarks need more of it")]
#[path = "../benches/engine/work.rs"]
mod work;

use counted::allocations;
use traffic::Traffic;
use work::{Engine, RECORDS, Ring};

/// Far longer than packets are under way.
const BEFORE: usize = 12;
const MEASURED: usize = 4;

/// Allocations in [`MEASURED`] rings of events, and the packets that they were.
fn measured(traffic: Traffic) -> work::Result<(u64, u64)> {
    let mut ring = Ring::new(traffic);
    let mut engine = Engine::new();
    for _ in 0..BEFORE {
        engine.take(ring.fill())?;
    }
    engine.packets = 0;
    let mut asked = 0;
    for _ in 0..MEASURED {
        let records = ring.fill();
        let before = allocations();
        engine.take(records)?;
        asked += allocations() - before;
    }
    Ok((asked, engine.packets))
}

#[test]
fn events_of_known_connections_allocate_nothing() {
    let (asked, packets) = measured(Traffic::lasting()).unwrap();
    assert!(packets > 5_000, "{packets} packets");
    // Tables and queues may grow once more: that is no matter of events.
    assert!(asked < 64, "{asked} allocations");
}

#[test]
fn a_new_connection_allocates_a_few_times() {
    let (asked, packets) = measured(Traffic::new()).unwrap();
    let events = (MEASURED * RECORDS) as u64;
    assert!(packets > 5_000, "{packets} packets");
    assert!(
        asked * 20 < events,
        "{asked} allocations in {events} events"
    );
}
