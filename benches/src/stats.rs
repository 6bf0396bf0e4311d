//! Medians, percentiles and confidence intervals of measured series; called by the benchmarks.
//!
//! Series that are compared are measured interleaved, one value of each per round, so a busy or slow moment of the
//! machine falls on all of them alike. Two series are therefore compared by their differences within the rounds, and
//! the interval of the median difference comes from order statistics: it assumes nothing about how times are distributed.

use anyhow::{Result, ensure};

/// The confidence the intervals of this module have at least.
pub(crate) const CONFIDENCE: f64 = 0.95;

/// A median and the interval that holds the true one with at least [`CONFIDENCE`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// The value at `share` (0 to 1) of the sorted series, interpolated between its two neighbours.
pub(crate) fn quantile(values: &[f64], share: f64) -> Result<f64> {
    ensure!(!values.is_empty(), "no values to take a quantile of");
    let sorted = sorted(values);
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Ok(below + (above - below) * place.fract())
}

/// The middle value.
pub(crate) fn median(values: &[f64]) -> Result<f64> {
    quantile(values, 0.5)
}

/// The arithmetic mean.
pub(crate) fn mean(values: &[f64]) -> Result<f64> {
    ensure!(!values.is_empty(), "no values to take a mean of");
    Ok(values.iter().sum::<f64>() / values.len() as f64)
}

/// How much larger `values` are than `base` within the rounds: the median difference and its interval.
pub(crate) fn difference(values: &[f64], base: &[f64]) -> Result<Estimate> {
    ensure!(
        values.len() == base.len(),
        "{} values against {}: not of the same rounds",
        values.len(),
        base.len()
    );
    let differences: Vec<f64> = values.iter().zip(base).map(|(value, base)| value - base).collect();
    median_with_interval(&differences)
}

/// The median and its interval from the sign test: the `rank`-th value from either end.
fn median_with_interval(values: &[f64]) -> Result<Estimate> {
    let rank = sign_test_rank(values.len());
    ensure!(rank > 0, "{} rounds are too few for a {CONFIDENCE} interval", values.len());
    let sorted = sorted(values);
    Ok(Estimate {
        median: median(values)?,
        low: sorted[rank - 1],
        high: sorted[sorted.len() - rank],
    })
}

/// The largest k for which fewer than k of n values lie below the true median with a probability of at most half
/// the allowed error. Each value lies below it like a coin's toss, so this is a quantile of Binomial(n, ½).
fn sign_test_rank(n: usize) -> usize {
    let allowed = (1.0 - CONFIDENCE) / 2.0;
    // In logarithms, as ½ⁿ underflows from n = 1075 on.
    let mut log_term = n as f64 * 0.5_f64.ln();
    let mut below = 0.0;
    for k in 0..n {
        below += log_term.exp();
        if below > allowed {
            return k;
        }
        log_term += ((n - k) as f64 / (k + 1) as f64).ln();
    }
    0
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up_to(n: i32) -> Vec<f64> {
        (1..=n).map(f64::from).collect()
    }

    #[test]
    fn median_of_an_odd_and_an_even_number_of_values() {
        assert_eq!(median(&[9.0, 1.0, 4.0]).unwrap(), 4.0);
        assert_eq!(median(&[9.0, 1.0, 4.0, 5.0]).unwrap(), 4.5);
        assert_eq!(median(&[7.0]).unwrap(), 7.0);
    }

    #[test]
    fn quantiles_interpolate_between_neighbours() {
        let values = up_to(11);
        assert_eq!(quantile(&values, 0.9).unwrap(), 10.0);
        assert_eq!(quantile(&values, 0.25).unwrap(), 3.5);
        assert_eq!(quantile(&values, 0.0).unwrap(), 1.0);
        assert_eq!(quantile(&values, 1.0).unwrap(), 11.0);
    }

    #[test]
    fn an_empty_series_is_an_error() {
        assert!(median(&[]).is_err());
        assert!(mean(&[]).is_err());
        assert!(difference(&[], &[]).is_err());
    }

    #[test]
    fn sign_test_ranks_are_those_of_the_published_tables() {
        // Conover, Practical Nonparametric Statistics: two-sided 95 %; the tables give k - 1 as the critical value.
        let known = [
            (5, 0),
            (6, 1),
            (8, 1),
            (9, 2),
            (10, 2),
            (15, 4),
            (20, 6),
            (25, 8),
            (50, 18),
            (100, 40),
        ];
        for (n, rank) in known {
            assert_eq!(sign_test_rank(n), rank, "n = {n}");
        }
    }

    #[test]
    fn sign_test_rank_survives_many_rounds() {
        // The normal approximation: n/2 - 1.96 √n / 2 = 4902.0
        assert!(sign_test_rank(10_000).abs_diff(4902) <= 1, "{}", sign_test_rank(10_000));
    }

    #[test]
    fn interval_of_twenty_values_runs_from_the_6th_to_the_15th() {
        let found = difference(&up_to(20), &[0.0; 20]).unwrap();
        assert_eq!(found, Estimate { median: 10.5, low: 6.0, high: 15.0 });
    }

    #[test]
    fn drift_common_to_both_series_cancels_out() {
        let base = up_to(50);
        let slower: Vec<f64> = base.iter().map(|value| value + 3.0).collect();
        assert_eq!(
            difference(&slower, &base).unwrap(),
            Estimate { median: 3.0, low: 3.0, high: 3.0 }
        );
    }

    #[test]
    fn too_few_rounds_or_unpaired_series_are_errors() {
        assert!(difference(&up_to(5), &up_to(5)).is_err());
        assert!(difference(&up_to(50), &up_to(49)).is_err());
    }

    #[test]
    fn interval_holds_the_true_median_as_often_as_it_says() {
        let mut random = fastrand::Rng::with_seed(7);
        let trials = 2000;
        let held = (0..trials).filter(|_| {
            // Skewed like waiting times: median of -ln(u) is ln 2.
            let values: Vec<f64> = (0..50).map(|_| -(1.0 - random.f64()).ln()).collect();
            let found = median_with_interval(&values).unwrap();
            (found.low..=found.high).contains(&2.0_f64.ln())
        });
        let share = held.count() as f64 / f64::from(trials);
        // The exact coverage for n = 50 is 0.967.
        assert!((0.95..0.985).contains(&share), "held in {share} of the trials");
    }
}
