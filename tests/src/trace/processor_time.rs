//! The processor time that processes and threads have had.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// What such a `stat` of a process or a thread says (`/proc/PID/stat`, `/proc/PID/task/TID/stat`), in seconds: in user
/// space and in the kernel. To a clock tick, which is ten milliseconds.
///
/// # Errors
/// When it is gone.
pub fn seconds_of(stat: &Path) -> anyhow::Result<f64> {
    let name = || stat.display().to_string();
    let text = fs::read_to_string(stat).with_context(name)?;
    let ticks = ticks(&text).with_context(name)?;
    Ok(ticks / f64::from(u32::try_from(rustix::param::clock_ticks_per_second())?))
}

fn ticks(stat: &str) -> Option<f64> {
    // The name may contain anything, so what follows its end counts.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::ticks;

    #[test]
    fn processor_time_is_of_user_and_kernel() {
        let stat = "12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 3 0 100";
        assert_eq!(ticks(stat), Some(300.0));
        assert_eq!(ticks("12 (a) S 1"), None);
    }
}
