//! What a number of measurements says: medians, and ratios of pairs.

/// The same measured twice, one after the other: without and with an observer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pair {
    /// Without.
    pub(crate) without: f64,
    /// With.
    pub(crate) with: f64,
}

/// What pairs say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Compared {
    /// The median without.
    pub(crate) without: f64,
    /// The median with.
    pub(crate) with: f64,
    /// The median of the pairs' ratios, with to without. A machine that gets slower or faster during
    /// the run changes both of a pair alike.
    pub(crate) ratio: f64,
    /// Between these a quarter of the ratios is below and a quarter above.
    pub(crate) quartiles: [f64; 2],
}

impl Compared {
    /// `None` of no pairs.
    pub(crate) fn of(pairs: &[Pair]) -> Option<Self> {
        let ratios = || pairs.iter().map(|pair| pair.with / pair.without);
        Some(Self {
            without: quantile(pairs.iter().map(|pair| pair.without), 0.5)?,
            with: quantile(pairs.iter().map(|pair| pair.with), 0.5)?,
            ratio: quantile(ratios(), 0.5)?,
            quartiles: [quantile(ratios(), 0.25)?, quantile(ratios(), 0.75)?],
        })
    }
}

/// The middle one, or between the middle two; `None` of none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    quantile(values, 0.5)
}

/// Between the two nearest where it falls between; `None` of none.
fn quantile(values: impl IntoIterator<Item = f64>, part: f64) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let last = u32::try_from(values.len().checked_sub(1)?).ok()?;
    let place = f64::from(last) * part;
    let (below, above) = (place.floor(), place.ceil());
    let at = |place: f64| {
        let (_, value) = (0_u32..)
            .zip(&values)
            .find(|(at, _)| f64::from(*at) >= place)?;
        Some(*value)
    };
    let (low, high) = (at(below)?, at(above)?);
    Some(low + (high - low) * (place - below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_stands_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([7.0]), Some(7.0));
        assert_eq!(median([]), None);
    }

    #[test]
    fn quartiles_fall_between() {
        assert_eq!(quantile([1.0, 2.0, 3.0, 4.0, 5.0], 0.25), Some(2.0));
        assert_eq!(quantile([1.0, 2.0], 0.25), Some(1.25));
        assert_eq!(quantile([1.0, 2.0], 1.0), Some(2.0));
    }

    #[test]
    fn ratios_are_those_of_pairs() {
        // A machine that becomes twice as fast: the ratio stays.
        let pair = |without, with| Pair { without, with };
        let pairs = [pair(100.0, 90.0), pair(200.0, 180.0), pair(400.0, 360.0)];
        let compared = Compared::of(&pairs).unwrap();
        assert_eq!(compared.ratio, 0.9);
        assert_eq!(compared.quartiles, [0.9, 0.9]);
        assert_eq!([compared.without, compared.with], [200.0, 180.0]);
        assert_eq!(Compared::of(&[]), None);
    }
}
