//! How far counts stray from the shares that they ought to have, in a verification and in what really came.
//! Pure numbers; backends are an index here.

use statrs::function::gamma::{checked_gamma_lr, checked_gamma_ur};

/// How improbable what was seen must be by chance alone, before it is held against a configuration.
pub const CERTAIN: f64 = 1e-6;

/// Counts beside the weights that they should be in proportion to. As long as each other; weights are
/// above zero.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// Weights.
    pub weights: &'a [f64],
    /// What was counted.
    pub counts: &'a [u64],
    /// How many independent draws a counted connection stands for: less than 1 where a client's
    /// connections go the same way.
    pub draws: f64,
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
const fn real(count: u64) -> f64 {
    count as f64
}

impl Sample<'_> {
    fn total(&self) -> f64 {
        real(self.counts.iter().sum())
    }

    /// The fair share of each, adding up to 1.
    pub fn expected(&self) -> Vec<f64> {
        let sum: f64 = self.weights.iter().sum();
        self.weights.iter().map(|weight| weight / sum).collect()
    }

    /// The share that each has; 0 where nothing was counted.
    pub fn shares(&self) -> Vec<f64> {
        let total = self.total().max(1.0);
        self.counts.iter().map(|count| real(*count) / total).collect()
    }

    /// Each share over the fair one.
    pub fn over_fair(&self) -> Vec<f64> {
        self.shares().iter().zip(self.expected()).map(|(share, fair)| share / fair).collect()
    }

    /// The largest share over its fair one; 1 of nothing.
    pub fn max_over_fair(&self) -> f64 {
        self.over_fair().into_iter().reduce(f64::max).unwrap_or(1.0)
    }

    /// The coefficient of variation of the shares over the fair ones: their standard deviation over their
    /// mean.
    pub fn variation(&self) -> f64 {
        let ratios = self.over_fair();
        let count = real(ratios.len() as u64).max(1.0);
        let mean = ratios.iter().sum::<f64>() / count;
        if mean == 0.0 {
            return 0.0;
        }
        let squares: f64 = ratios.iter().map(|ratio| (ratio - mean).powi(2)).sum();
        (squares / count).sqrt() / mean
    }

    /// Pearson's chi-square test: how probable it is that draws by the weights stray at least as far. 1
    /// where there is nothing to choose between.
    pub fn p(&self) -> f64 {
        let total = self.total();
        if self.counts.len() < 2 || total == 0.0 {
            return 1.0;
        }
        let distance =
            |(count, fair): (&u64, f64)| (real(*count) - fair * total).powi(2) / (fair * total);
        let chi_square: f64 = self.counts.iter().zip(self.expected()).map(distance).sum();
        // Rounding alone: the function knows no distance of zero.
        if chi_square < f64::EPSILON {
            return 1.0;
        }
        let freedom = real(self.counts.len() as u64 - 1);
        checked_gamma_ur(freedom / 2.0, chi_square * self.draws / 2.0).unwrap_or(0.0)
    }

    /// Whether the `index`-th has more than `most` of its fair share, and chance does not explain it: one
    /// that had exactly `most` would show as many or more connections less often than [`CERTAIN`].
    pub fn exceeds(&self, index: usize, most: f64) -> bool {
        let (Some(count), Some(fair)) =
            (self.counts.get(index), self.expected().get(index).copied())
        else {
            return false;
        };
        let allowed = fair * self.total() * most;
        if real(*count) <= allowed {
            return false;
        }
        at_least(real(*count) * self.draws, allowed * self.draws) < CERTAIN
    }

    /// Connections that are enough for a sample like this one to tell a share that is twice as far from
    /// the fair one as `most` allows from a fair one, in every case: five standard deviations.
    pub fn enough(&self, most: f64) -> f64 {
        let least = self.expected().into_iter().reduce(f64::min).unwrap_or(1.0);
        (5.0 / (most - 1.0).max(0.001)).powi(2) / (least * self.draws.max(f64::MIN_POSITIVE))
    }

    /// By how much the `index`-th share may be off by chance: three standard deviations.
    pub fn noise(&self, share: f64) -> f64 {
        3.0 * (share * (1.0 - share) / (self.total() * self.draws).max(1.0)).sqrt()
    }
}

/// How probable `count` or more are where `mean` are expected (Poisson).
pub fn at_least(count: f64, mean: f64) -> f64 {
    checked_gamma_lr(count, mean).unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample<'a>(weights: &'a [f64], counts: &'a [u64]) -> Sample<'a> {
        Sample { weights, counts, draws: 1.0 }
    }

    #[track_caller]
    fn near(found: f64, known: f64) {
        assert!((found - known).abs() < 1e-5, "{found} is not {known}");
    }

    /// Against R: `chisq.test(c(…), p = c(…))` and `ppois(…, lower.tail = FALSE)`.
    #[test]
    fn known_values() {
        // A die: 5, 8, 9, 8, 10, 20 of 60; chi-square 13.4.
        near(sample(&[1.0; 6], &[5, 8, 9, 8, 10, 20]).p(), 0.019_905);
        // Mendel's peas: chi-square 0.470024.
        near(sample(&[9.0, 3.0, 3.0, 1.0], &[315, 108, 101, 32]).p(), 0.925_426);
        near(sample(&[1.0, 1.0], &[60, 40]).p(), 0.045_500);
        near(at_least(10.0, 5.0), 0.031_828);
        near(at_least(1.0, 2.0), 0.864_665);
        near(sample(&[1.0, 1.0], &[60, 40]).variation(), 0.2);
        near(sample(&[1.0, 3.0], &[30, 70]).max_over_fair(), 1.2);
    }

    #[test]
    fn nothing_is_fair() {
        for sample in [sample(&[], &[]), sample(&[1.0], &[0]), sample(&[2.0], &[7])] {
            near(sample.p(), 1.0);
            near(sample.variation(), 0.0);
            assert!(!sample.exceeds(0, 1.1));
        }
    }

    #[test]
    fn what_chance_explains_is_not_held_against_anybody() {
        // 1.2 of the fair share, of ten and of ten thousand.
        assert!(!sample(&[1.0, 1.0], &[6, 4]).exceeds(0, 1.1));
        assert!(sample(&[1.0, 1.0], &[6_000, 4_000]).exceeds(0, 1.1));
        assert!(!sample(&[1.0, 1.0], &[6_000, 4_000]).exceeds(1, 1.1));
        assert!(!sample(&[1.0, 1.0], &[6_000, 4_000]).exceeds(0, 1.2));
        // The same by a hundred clients.
        let few = Sample { draws: 0.01, ..sample(&[1.0, 1.0], &[6_000, 4_000]) };
        assert!(!few.exceeds(0, 1.1));
        assert!(few.p() > sample(&[1.0, 1.0], &[6_000, 4_000]).p());
    }

    proptest! {
        #[test]
        fn exact_shares_are_perfect(weights in prop::collection::vec(1_u16..500, 1..40)) {
            let counts: Vec<u64> = weights.iter().map(|weight| u64::from(*weight) * 100).collect();
            let weights: Vec<f64> = weights.iter().map(|weight| f64::from(*weight)).collect();
            let sample = sample(&weights, &counts);
            prop_assert!((sample.max_over_fair() - 1.0).abs() < 1e-9);
            prop_assert!(sample.variation() < 1e-9 && sample.p() > 0.999_999);
            prop_assert!((0..counts.len()).all(|index| !sample.exceeds(index, 1.0)));
        }

        #[test]
        fn measures_are_in_range_and_do_not_depend_on_the_order(
            pairs in prop::collection::vec((1_u16..500, 0_u64..5_000), 1..40),
        ) {
            let split = |pairs: &[(u16, u64)]| -> (Vec<f64>, Vec<u64>) {
                pairs.iter().map(|(weight, count)| (f64::from(*weight), *count)).unzip()
            };
            let (weights, counts) = split(&pairs);
            let one = sample(&weights, &counts);
            prop_assert!((0.0..=1.0).contains(&one.p()));
            prop_assert!(one.variation() >= 0.0);
            prop_assert!(one.total() == 0.0 || one.max_over_fair() >= 1.0 - 1e-9);
            let turned: Vec<_> = pairs.iter().rev().copied().collect();
            let (weights, counts) = split(&turned);
            let other = sample(&weights, &counts);
            prop_assert!((one.p() - other.p()).abs() < 1e-6);
            prop_assert!((one.variation() - other.variation()).abs() < 1e-9);
        }

        #[test]
        fn fair_draws_pass(seed: u64, backends in 1_usize..60) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut counts = vec![0; backends];
            for _ in 0..2_000 {
                counts[random.usize(0..backends)] += 1;
            }
            let weights = vec![1.0; backends];
            let sample = sample(&weights, &counts);
            prop_assert!((0..backends).all(|index| !sample.exceeds(index, 1.1)));
        }
    }
}
