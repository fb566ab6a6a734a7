//! Shares and means of small samples, with what chance leaves open.

use serde::Serialize;

/// The standard normal quantile that leaves 2.5 % above it, for two-sided 95 % intervals.
const NORMAL_QUANTILE: f64 = 1.959964;

/// Quantiles of Student's t distribution that leave 2.5 % above them, for 1 to 30 degrees of
/// freedom.
///
/// # Source
/// NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.6.7.2.
const STUDENT_QUANTILES: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

/// Where the true value lies in 95 % of samples such as this one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// How many answers are right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Proportion {
    /// The right answers, at most as many as were asked for.
    pub right: usize,
    /// All answers.
    pub asked: usize,
}

impl Proportion {
    /// Counts one answer.
    pub fn add(&mut self, right: bool) {
        self.right += usize::from(right);
        self.asked += 1;
    }

    /// The right answers as a part of all, 0 to 1; `None` before the first answer.
    pub fn share(&self) -> Option<f64> {
        (self.asked > 0).then(|| self.right as f64 / self.asked as f64)
    }

    /// The 95 % confidence interval of the share, within 0 to 1; `None` before the first answer.
    ///
    /// # Source
    /// Wilson: "Probable inference, the law of succession, and statistical inference", 1927. Unlike
    /// the usual normal interval it is sound for few answers and for shares near 0 and 1.
    pub fn interval(&self) -> Option<Interval> {
        let (share, asked) = (self.share()?, self.asked as f64);
        let square = NORMAL_QUANTILE * NORMAL_QUANTILE;
        let middle = share + square / (2.0 * asked);
        let spread = share * (1.0 - share) / asked + square / (4.0 * asked * asked);
        let half_width = NORMAL_QUANTILE * spread.sqrt();
        let scale = 1.0 + square / asked;
        Some(Interval {
            low: ((middle - half_width) / scale).max(0.0),
            high: ((middle + half_width) / scale).min(1.0),
        })
    }
}

/// The mean of samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mean {
    /// The mean, in the samples' unit.
    pub mean: f64,
    /// The 95 % confidence interval of the mean, after Student; `None` for a single sample, which
    /// says nothing of the spread.
    pub interval: Option<Interval>,
    /// How many samples there are.
    pub count: usize,
}

impl Mean {
    /// The mean of `samples`; `None` if there are none, or if one of them is not finite.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let count = samples.len();
        if count == 0 || !samples.iter().all(|sample| sample.is_finite()) {
            return None;
        }
        let mean = samples.iter().sum::<f64>() / count as f64;
        let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
        let interval = student_quantile(count - 1).map(|quantile| {
            let variance = squares / (count - 1) as f64;
            let half_width = quantile * (variance / count as f64).sqrt();
            Interval { low: mean - half_width, high: mean + half_width }
        });
        Some(Self { mean, interval, count })
    }
}

/// The quantile of Student's t distribution that leaves 2.5 % above it; `None` without a degree of
/// freedom.
fn student_quantile(degrees_of_freedom: usize) -> Option<f64> {
    let index = degrees_of_freedom.checked_sub(1)?;
    let tabled = STUDENT_QUANTILES.get(index).copied();
    // Beyond the table the first term of an expansion around the normal quantile is right to 0.004
    // (Abramowitz, Stegun: "Handbook of Mathematical Functions", 26.7.5).
    Some(tabled.unwrap_or_else(|| {
        let correction = (NORMAL_QUANTILE.powi(3) + NORMAL_QUANTILE) / 4.0;
        NORMAL_QUANTILE + correction / degrees_of_freedom as f64
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_interval(interval: Option<Interval>, low: f64, high: f64) {
        let interval = interval.unwrap();
        assert!((interval.low - low).abs() < 5e-4, "{interval:?}, not {low} to {high}");
        assert!((interval.high - high).abs() < 5e-4, "{interval:?}, not {low} to {high}");
    }

    #[test]
    fn shares_have_wilson_intervals() {
        for (right, asked, low, high) in [
            (0, 10, 0.0, 0.2775),
            (10, 10, 0.7225, 1.0),
            (81, 263, 0.2553, 0.3662),
            (1, 2, 0.0945, 0.9055),
        ] {
            let proportion = Proportion { right, asked };
            assert_eq!(proportion.share(), Some(right as f64 / asked as f64));
            assert_interval(proportion.interval(), low, high);
        }
    }

    #[test]
    fn answers_are_counted() {
        let mut proportion = Proportion::default();
        for right in [true, false, true, true] {
            proportion.add(right);
        }
        assert_eq!(proportion, Proportion { right: 3, asked: 4 });
        assert_eq!(serde_json::to_string(&proportion).unwrap(), r#"{"right":3,"asked":4}"#);
    }

    #[test]
    fn no_answers_give_no_nonsense() {
        let none = Proportion::default();
        assert_eq!((none.share(), none.interval()), (None, None));
    }

    #[test]
    fn means_have_student_intervals() {
        let mean = Mean::of(&[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!((mean.mean, mean.count), (2.5, 4));
        assert_interval(mean.interval, 0.4457, 4.5543);
        let same = Mean::of(&[7.0; 50]).unwrap();
        assert_eq!(same.interval, Some(Interval { low: 7.0, high: 7.0 }));
    }

    #[test]
    fn few_or_infinite_samples_give_no_nonsense() {
        assert_eq!(Mean::of(&[]), None);
        assert_eq!(Mean::of(&[1.0, f64::NAN]), None);
        assert_eq!(Mean::of(&[1.0, f64::INFINITY]), None);
        assert_eq!(Mean::of(&[3.0]), Some(Mean { mean: 3.0, interval: None, count: 1 }));
    }

    #[test]
    fn the_quantile_goes_on_beyond_its_table() {
        assert_eq!(student_quantile(0), None);
        for (degrees, expected) in [(1, 12.706), (30, 2.042), (31, 2.0395), (120, 1.9799)] {
            let quantile = student_quantile(degrees).unwrap();
            assert!((quantile - expected).abs() < 0.0035, "{degrees}: {quantile}");
        }
        assert!(STUDENT_QUANTILES.is_sorted_by(|a, b| a > b));
    }
}
