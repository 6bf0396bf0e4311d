//! An axis that begins at 0 and ends at a round number; used by `bars` and `lines`.

/// Steps on an axis, at most.
const STEPS: f64 = 6.0;

/// From 0 to `end` in equal steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    pub(super) end: f64,
    pub(super) step: f64,
}

impl Axis {
    /// Holds all values. Without one above 0 it ends at 1, so that nothing is divided by 0.
    pub(super) fn holding(values: impl IntoIterator<Item = f64>) -> Self {
        let most = values.into_iter().filter(|value| value.is_finite()).fold(0.0, f64::max);
        if most <= 0.0 {
            return Self { end: 1.0, step: 0.5 };
        }
        let power = 10_f64.powf((most / STEPS).log10().floor());
        let fits = |factor: &f64| most / (factor * power) <= STEPS;
        let step = power * [1.0, 2.0, 5.0, 10.0].into_iter().find(fits).unwrap_or(10.0);
        Self { end: (most / step).ceil() * step, step }
    }

    /// Where a value lies, from 0 to 1.
    pub(super) fn place(&self, value: f64) -> f64 {
        value / self.end
    }

    /// The values with a number beside them.
    pub(super) fn ticks(&self) -> impl Iterator<Item = f64> {
        let Self { end, step } = *self;
        (0..=(end / step).round() as usize).map(move |tick| tick as f64 * step)
    }
}

/// A number as short as its size allows.
pub(super) fn shown(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 || size == value.abs().floor() => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axis_ends_at_a_round_number_that_holds_all() {
        for (most, end, step) in [
            (97.0, 100.0, 20.0),
            (100.0, 100.0, 20.0),
            (101.0, 120.0, 20.0),
            (0.7, 0.8, 0.2),
            (14_773.0, 15_000.0, 5_000.0),
            (6.0, 6.0, 1.0),
        ] {
            let axis = Axis::holding([1e-9, most]);
            assert!((axis.end - end).abs() < 1e-9 && (axis.step - step).abs() < 1e-9, "{axis:?}");
            assert!(axis.place(most) <= 1.0 && axis.place(most) > 0.5, "{axis:?}");
            assert!(axis.ticks().count() <= 8, "{axis:?}");
            assert!((axis.ticks().last().unwrap() - end).abs() < 1e-9);
        }
    }

    #[test]
    fn axis_without_values_still_has_a_length() {
        for values in [&[][..], &[0.0], &[-1.0], &[f64::NAN, f64::INFINITY]] {
            let axis = Axis::holding(values.iter().copied());
            assert_eq!((axis.end, axis.place(0.0), axis.ticks().count()), (1.0, 0.0, 3));
        }
    }

    #[test]
    fn numbers_are_short() {
        let all = [0.0, 0.25, 7.0, 12.34, 150.4, 15_000.0].map(shown);
        assert_eq!(all, ["0", "0.25", "7", "12.3", "150", "15000"]);
    }
}
