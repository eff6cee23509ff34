//! Medians and their confidence.

/// Sorted samples.
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn new(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        Self(samples)
    }

    /// The quantile at `q` from 0 to 1; 0 without samples.
    pub(crate) fn quantile(&self, q: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * q).round() as usize).copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The 95 % confidence interval of the median, from the order statistics (normal approximation of the binomial).
    pub(crate) fn median_interval(&self) -> (f64, f64) {
        let n = self.0.len() as f64;
        let half = 0.98 / n.max(1.0).sqrt();
        (self.quantile((0.5 - half).max(0.0)), self.quantile((0.5 + half).min(1.0)))
    }

    /// The median with its interval: `1.23 [1.20, 1.26]`.
    pub(crate) fn median_text(&self) -> String {
        let (low, high) = self.median_interval();
        format!("{:.2} [{low:.2}, {high:.2}]", self.median())
    }
}

#[cfg(test)]
mod tests {
    use super::Samples;

    #[test]
    fn the_median_lies_in_its_interval() {
        let samples = Samples::new((0..101).map(f64::from).rev().collect());
        let (low, high) = samples.median_interval();
        assert_eq!(samples.median(), 50.0);
        assert!(low < 50.0 && high > 50.0 && low > 35.0 && high < 65.0, "{low} {high}");
        assert_eq!(samples.median_text(), "50.00 [40.00, 60.00]");
    }
}
