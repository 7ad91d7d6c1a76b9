//! The steps come to rest under a constant load, are never taken hastily, and always come back.

use proptest::prelude::*;

use super::*;

const TICK: u64 = 500_000_000;
const SECOND: u64 = 1_000_000_000;

/// A machine on which tracing costs something anyway, something for each packet at the hooks, and
/// something more for each that is seen.
#[derive(Clone, Copy, Debug)]
struct Machine {
    fixed: f64,
    each: f64,
    seen: f64,
}

impl Machine {
    fn used(self, shedding: Shedding, demand: f64) -> f64 {
        let part = match shedding.one_in() {
            0 => 0.0,
            one_in => 1.0 / f64::from(one_in),
        };
        self.fixed + demand * (self.each + self.seen * part)
    }
}

/// Runs for some seconds; the changes, with their times.
fn run(
    controller: &mut Controller,
    machine: Machine,
    from: u64,
    seconds: u64,
    demand: impl Fn(u64) -> f64,
) -> Vec<(u64, Shedding)> {
    let times = (1..=seconds * 2).map(|tick| from + tick * TICK);
    let look = |time| {
        let demand = demand(time);
        let used = machine.used(controller.shedding(), demand);
        Some((time, controller.look(Load { time, used, demand })?))
    };
    times.filter_map(look).collect()
}

fn machine() -> impl Strategy<Value = Machine> {
    (0.0..0.01, 1e-9..1e-7, 1e-8..1e-5).prop_map(|(fixed, each, seen)| Machine {
        fixed,
        each,
        seen,
    })
}

#[test]
fn budgets_are_shares_or_rates() {
    assert_eq!("2%".parse(), Ok(Budget::Share(0.02)));
    assert_eq!("0.5 %".parse(), Ok(Budget::Share(0.005)));
    assert_eq!("50000/s".parse(), Ok(Budget::Events(50_000.0)));
    for wrong in [
        "", "2", "%", "0%", "-1%", "101%", "nan%", "inf/s", "5/m", "/s",
    ] {
        assert!(wrong.parse::<Budget>().is_err(), "{wrong}");
    }
}

#[test]
fn words_say_what_the_steps_are() {
    let steps: Vec<u32> = (0..=LAST + 1).map(|step| at_step(step).one_in()).collect();
    assert_eq!(steps, [1, 4, 16, 64, 256, 1024, 4096, 0, 0]);
    assert_eq!(Shedding::None.word(), 0);
    assert_eq!(Shedding::Halved(2).word(), 3 << 30);
    assert_eq!(Shedding::Rest.word(), u32::MAX);
    let text = Shedding::Halved(4).to_string();
    assert!(text.contains("1 packet in 16"), "{text}");
}

#[test]
fn a_flood_is_shed_at_once_and_seen_again_after_it() {
    let machine = Machine {
        fixed: 0.0005,
        each: 1e-8,
        seen: 1e-6,
    };
    let mut controller = Controller::new(Budget::Share(0.02));
    let flood = run(&mut controller, machine, 0, 60, |_| 200_000.0);
    assert!(flood[0].0 <= SECOND, "{flood:?}");
    let settled = controller.shedding();
    assert_eq!(settled, Shedding::Halved(4), "{flood:?}");
    let after = run(&mut controller, machine, 60 * SECOND, 60, |_| 0.0);
    assert_eq!(controller.shedding(), Shedding::None, "{after:?}");
    assert!(after.last().unwrap().0 < 80 * SECOND, "{after:?}");
}

#[test]
fn where_nothing_helps_only_drops_are_seen_and_it_stays_so() {
    let machine = Machine {
        fixed: 1.0,
        each: 0.0,
        seen: 0.0,
    };
    let mut controller = Controller::new(Budget::Share(0.02));
    let changes = run(&mut controller, machine, 0, 600, |_| 1000.0);
    assert_eq!(controller.shedding(), Shedding::Rest);
    assert!(changes.len() <= LAST, "{changes:?}");
}

#[test]
fn other_traffic_that_costs_less_is_found_out() {
    let dear = Machine {
        fixed: 0.0,
        each: 1e-8,
        seen: 1e-6,
    };
    let cheap = Machine { seen: 1e-8, ..dear };
    let mut controller = Controller::new(Budget::Share(0.02));
    run(&mut controller, dear, 0, 60, |_| 200_000.0);
    assert_ne!(controller.shedding(), Shedding::None);
    run(&mut controller, cheap, 60 * SECOND, 400, |_| 200_000.0);
    assert_eq!(controller.shedding(), Shedding::None);
}

proptest! {
    #[test]
    fn it_is_never_hasty(machine in machine(), demands in prop::collection::vec(0.0..1e6, 1..40)) {
        let mut controller = Controller::new(Budget::Share(0.02));
        let demand = |time: u64| demands[usize::try_from(time / (2 * SECOND)).unwrap() % demands.len()];
        let changes = run(&mut controller, machine, 0, 200, demand);
        for pair in changes.windows(2) {
            let ((before, from), (time, to)) = (pair[0], pair[1]);
            prop_assert!(time - before >= SETTLE);
            if to < from {
                prop_assert!(time - before >= DWELL, "{:?}", changes);
            }
        }
    }

    #[test]
    fn it_always_comes_back(machine in machine(), demand in 0.0..1e7, seconds in 0..300_u64) {
        let mut controller = Controller::new(Budget::Share(0.02));
        run(&mut controller, machine, 0, seconds, |_| demand);
        let quiet = u64::try_from(LAST).unwrap() * 4;
        run(&mut controller, machine, seconds * SECOND, quiet, |_| 0.0);
        prop_assert_eq!(controller.shedding(), Shedding::None);
    }

    #[test]
    fn a_constant_load_brings_it_to_rest(machine in machine(), demand in 0.0..1e7) {
        let mut controller = Controller::new(Budget::Share(0.02));
        run(&mut controller, machine, 0, 1200, |_| demand);
        let late = run(&mut controller, machine, 1200 * SECOND, 640, |_| demand);
        // What is believed is tried again, ever more rarely: there and back.
        prop_assert!(late.len() <= 6, "{:?}", late);
    }

    #[test]
    fn the_budget_is_kept_most_of_the_time(machine in machine(), demand in 0.0..1e7) {
        let limit = 0.02;
        let mut controller = Controller::new(Budget::Share(limit));
        let mut over = 0;
        for tick in 1..=1200_u64 {
            let used = machine.used(controller.shedding(), demand);
            over += u64::from(used > limit && controller.shedding() != Shedding::Rest);
            controller.look(Load { time: tick * TICK, used, demand });
        }
        prop_assert!(over <= 60, "{} of 1200", over);
    }

    #[test]
    fn any_numbers_are_taken(loads in prop::collection::vec(any::<(u64, f64, f64)>(), 0..100)) {
        let mut controller = Controller::new(Budget::Events(1.0));
        for (time, used, demand) in loads {
            let _ = controller.look(Load { time, used, demand });
        }
    }
}
