//! The tracer, end to end: real traffic of real clients through a lab's real rules, traced by the
//! built program, and every hop compared with what the kernel does.
//!
//! The program is the one that the environment variable `TRACER_BIN` names. Needs root. Several
//! labs have the same addresses and stand on one kernel, so tests tell their own flows by namespace
//! and by ports that no other test uses.

/// Ends the test with success, saying why, where no lab can be raised.
macro_rules! needs_a_lab {
    () => {
        if let Some(reason) = tracer_tests::lab::requirement::unavailable() {
            eprintln!("skipped: {reason}");
            return Ok(());
        }
    };
}

/// A test for each configuration of the lab, so that they run side by side and a failure names it.
macro_rules! by_configuration {
    ($run:ident: $($number:literal $name:ident: $plugin:ident, $fabric:ident, $proxy:ident;)+) => {
        $(#[test]
        fn $name() -> anyhow::Result<()> {
            $run($number, Config {
                plugin: Plugin::$plugin,
                fabric: Fabric::$fabric,
                proxy: Proxy::$proxy,
            })
        })+

        /// Those that are tested.
        const CONFIGURATIONS: &[Config] = &[$(Config {
            plugin: Plugin::$plugin,
            fabric: Fabric::$fabric,
            proxy: Proxy::$proxy,
        },)+];
    };
}

#[path = "journeys/appearing.rs"]
mod appearing;
#[path = "journeys/budget.rs"]
mod budget;
#[path = "journeys/company.rs"]
mod company;
#[path = "journeys/connection.rs"]
mod connection;
#[path = "journeys/evidence.rs"]
mod evidence;
#[path = "journeys/exports.rs"]
mod exports;
#[path = "journeys/faults.rs"]
mod faults;
#[path = "journeys/flood.rs"]
mod flood;
#[path = "journeys/granted.rs"]
mod granted;
#[path = "journeys/hundred.rs"]
mod hundred;
#[path = "journeys/killed.rs"]
mod killed;
#[path = "journeys/lacking.rs"]
mod lacking;
#[path = "journeys/live.rs"]
mod live;
#[path = "journeys/lookups.rs"]
mod lookups;
#[path = "journeys/nodes.rs"]
mod nodes;
#[path = "journeys/noise.rs"]
mod noise;
#[path = "journeys/outcome.rs"]
mod outcome;
#[path = "journeys/paths.rs"]
mod paths;
#[path = "journeys/pods.rs"]
mod pods;
#[path = "journeys/privileges.rs"]
mod privileges;
#[path = "journeys/processes.rs"]
mod processes;
#[path = "journeys/recordings.rs"]
mod recordings;
#[path = "journeys/refusals.rs"]
mod refusals;
#[path = "journeys/rules.rs"]
mod rules;
#[path = "journeys/selection.rs"]
mod selection;
#[path = "journeys/services.rs"]
mod services;
#[path = "journeys/signals.rs"]
mod signals;
#[path = "journeys/variants.rs"]
mod variants;
