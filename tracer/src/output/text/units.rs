//! Durations that can be read at a glance.

use super::glyphs::Glyphs;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// Three or four digits and the unit: `0.4µs`, `131.0µs`, `1.25ms`, `12.3ms`, `312ms`, `4.01s`.
pub(super) fn duration(nanoseconds: u64, glyphs: &Glyphs) -> String {
    let tenths = nanoseconds.saturating_add(50) / 100;
    if tenths < 10_000 {
        format!("{}.{}{}", tenths / 10, tenths % 10, glyphs.micro)
    } else if nanoseconds < SECOND - MILLISECOND / 2 {
        three_digits(nanoseconds, MILLISECOND, "ms")
    } else {
        three_digits(nanoseconds, SECOND, "s")
    }
}

/// Rounded to three digits, or to all before the point.
fn three_digits(nanoseconds: u64, unit: u64, name: &str) -> String {
    let in_parts = |parts: u64| nanoseconds.saturating_add(unit / parts / 2) / (unit / parts);
    let (hundredths, tenths) = (in_parts(100), in_parts(10));
    if hundredths < 1_000 {
        format!("{}.{:02}{name}", hundredths / 100, hundredths % 100)
    } else if tenths < 1_000 {
        format!("{}.{}{name}", tenths / 10, tenths % 10)
    } else {
        format!("{}{name}", in_parts(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{terminal::Terminal, text::glyphs::Page};

    #[test]
    fn durations_keep_their_digits_and_change_their_unit() {
        let glyphs = Page::new(Terminal::default()).glyphs;
        let shown = |nanoseconds| duration(nanoseconds, &glyphs);
        let cases = [
            (0, "0.0us"),
            (449, "0.4us"),
            (999_949, "999.9us"),
            (999_950, "1.00ms"),
            (1_254_000, "1.25ms"),
            (9_994_999, "9.99ms"),
            (9_995_000, "10.0ms"),
            (99_949_999, "99.9ms"),
            (312_400_000, "312ms"),
            (999_499_999, "999ms"),
            (999_500_000, "1.00s"),
            (61_000_000_000, "61.0s"),
            (3_600_000_000_000, "3600s"),
        ];
        for (nanoseconds, text) in cases {
            assert_eq!(shown(nanoseconds), text, "{nanoseconds}");
        }
        assert_eq!(shown(u64::MAX), "18446744073s");
    }
}
