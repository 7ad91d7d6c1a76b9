//! What was lost is found, whatever the order, and nothing else is.

use proptest::prelude::*;

use super::*;

/// Numbers its records from here, to come past the end of 32 bits.
const NEAR_THE_END: u64 = u32::MAX as u64 - 50;

/// A record of one CPU: its number, its time.
type Numbered = (u64, u64);

fn account_from(start: u64) -> Account {
    Account {
        expected: start,
        received: start,
        ..Account::default()
    }
}

fn give(account: &mut Account, records: impl IntoIterator<Item = Numbered>) -> Vec<Loss> {
    let give = |(order, time): Numbered| {
        let order = u32::try_from(order & u64::from(u32::MAX)).unwrap();
        account.record(order, time)
    };
    records.into_iter().filter_map(give).collect()
}

#[test]
fn a_gap_is_reported_with_its_place_once_it_is_sure() {
    let mut account = account_from(0);
    let before: Vec<Numbered> = (0..5).map(|n| (n, n * 10)).collect();
    let after: Vec<Numbered> = (8..8 + u64::from(PATIENCE)).map(|n| (n, n * 10)).collect();
    assert_eq!(give(&mut account, before), []);
    let lost = Loss {
        cpu: 0,
        records: 3,
        after: 40,
        before: 80,
    };
    assert_eq!(give(&mut account, after), [lost]);
    assert_eq!(account.settle(), None);
}

#[test]
fn a_second_gap_close_behind_is_reported_with_its_own_place() {
    let mut account = account_from(0);
    let orders = (0..5).chain(6..9).chain(12..12 + 2 * u64::from(PATIENCE));
    let losses = give(&mut account, orders.map(|n| (n, n * 10)));
    let [first, second] = losses[..] else {
        panic!("{losses:?}")
    };
    assert_eq!((first.records, second.records), (1, 3));
    assert!(first.after <= 50 && first.before >= 50, "{first:?}");
    // Numbers 9 to 11.
    assert!(second.after <= 90 && second.before >= 110, "{second:?}");
    assert!(second.before <= 120, "{second:?}");
}

#[test]
fn an_interrupts_record_that_overtakes_is_no_loss() {
    let mut account = account_from(0);
    let mut orders: Vec<u64> = (0..100).collect();
    orders.swap(10, 11);
    orders.swap(20, 22);
    // Counted at the same moment by a process and by the interrupt in it.
    orders[30] = 31;
    let records = orders.into_iter().map(|n| (n, n));
    assert_eq!(give(&mut account, records), []);
    assert_eq!(account.settle(), None);
}

#[test]
fn what_was_lost_at_the_end_is_known_from_the_counters() {
    let mut meter = LossMeter::default();
    for order in 0..10 {
        assert_eq!(meter.record(1, order, 100), None);
    }
    let losses = meter.finish(&[0, 14, 2], 500);
    let loss = |cpu, records, after| Loss {
        cpu,
        records,
        after,
        before: 500,
    };
    assert_eq!(losses, [loss(1, 4, 100), loss(2, 2, 0)]);
    assert_eq!(meter.received(), 10);
}

#[test]
fn cpus_are_apart() {
    let mut meter = LossMeter::default();
    for order in 0..50 {
        assert_eq!(meter.record(0, order, 1), None);
        assert_eq!(meter.record(7, order, 1), None);
    }
    assert_eq!(meter.settle().count(), 0);
    assert_eq!(meter.finish(&[50, 0, 0, 0, 0, 0, 0, 50], 9), []);
}

/// Records of which some are lost, and neighbours have changed places.
fn traffic() -> impl Strategy<Value = (Vec<bool>, Vec<usize>)> {
    let lost = prop::collection::vec(prop::bool::weighted(0.1), 1..400);
    (lost, prop::collection::vec(0usize..400, 0..20))
}

proptest! {
    #[test]
    fn all_that_was_lost_is_reported(
        (lost, swaps) in traffic(),
        start in prop_oneof![Just(0), Just(NEAR_THE_END)],
    ) {
        let mut came: Vec<Numbered> = (start..)
            .zip(&lost)
            .filter(|(_, lost)| !**lost)
            .map(|(order, _)| (order, order))
            .collect();
        for swap in swaps {
            if swap + 1 < came.len() {
                came.swap(swap, swap + 1);
            }
        }
        let mut account = account_from(start);
        let times: Vec<u64> = came.iter().map(|(_, time)| *time).collect();
        let mut losses = give(&mut account, came);
        account.expected = start + u64::try_from(lost.len()).unwrap();
        account.look(u64::MAX);
        losses.extend(account.settle());
        losses.extend(account.settle());
        let reported: u64 = losses.iter().map(|loss| loss.records).sum();
        let expected = lost.iter().filter(|lost| **lost).count();
        prop_assert_eq!(reported, u64::try_from(expected).unwrap());
        // Whatever was lost went within a gap that was told. In order here, so that times are.
        if times.is_sorted() {
            for missing in (start..).zip(&lost).filter_map(|(order, lost)| lost.then_some(order)) {
                let within = |loss: &Loss| {
                    (loss.after < missing || loss.after == 0) && missing < loss.before
                };
                prop_assert!(losses.iter().any(within), "{} in {:?}", missing, losses);
            }
        }
    }

    #[test]
    fn nothing_lost_nothing_reported(swaps in prop::collection::vec(0usize..399, 0..50), start in prop_oneof![Just(0), Just(NEAR_THE_END)]) {
        let mut came: Vec<Numbered> = (start..start + 400).map(|n| (n, n)).collect();
        for swap in swaps {
            came.swap(swap, swap + 1);
        }
        // A record that moved far is late for long; what interrupts each other moves little.
        let near = (start..).zip(&came).all(|(at, (order, _))| at.abs_diff(*order) < u64::from(PATIENCE));
        prop_assume!(near);
        let mut account = account_from(start);
        prop_assert_eq!(give(&mut account, came), []);
        prop_assert_eq!(account.settle(), None);
    }

    #[test]
    fn any_numbers_are_taken(orders in prop::collection::vec(any::<(u16, u32, u64)>(), 0..200), ends in prop::collection::vec(any::<u64>(), 0..4)) {
        let mut meter = LossMeter::default();
        for (cpu, order, time) in orders {
            let _ = meter.record(cpu % 3, order, time);
        }
        let _ = meter.settle().count();
        let _ = meter.finish(&ends, 0);
    }
}
