//! The range of an axis, its ticks, and how they are written.

use std::ops::Range;

use plotters::coord::ranged1d::{
    KeyPointHint, KeyPointWeight, NoDefaultFormatting, Ranged, ValueFormatter,
};

/// Empty space at each end, as a share of the values' span. Our choice: marks at the ends are not cut.
const MARGIN: f64 = 0.06;

/// Spans below this share of the values' size count as none: ticks would need more digits than an `f64` has.
const LEAST_RELATIVE_SPAN: f64 = 1e-9;

/// Spans below this count as none, so that no tick's step vanishes.
const LEAST_SPAN: f64 = 1e-100;

/// Values of this size and above are written as `1e6`, as are steps below [`LEAST_PLAIN_STEP`]. Our choice: up to
/// here the plain number is shorter or as easy to read.
const PLAIN_LIMIT: f64 = 1e6;

/// See [`PLAIN_LIMIT`].
const LEAST_PLAIN_STEP: f64 = 1e-4;

/// Keeps the logarithm of a power of ten from being rounded to the whole number below.
const ROUNDING: f64 = 1e-9;

/// What an axis shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    /// The value at the left or lower end.
    start: f64,
    /// The value at the right or upper end.
    end: f64,
    /// Between two ticks.
    step: f64,
}

impl Axis {
    /// An axis with all of `values`, and about `max_ticks` ticks at most. Without values it goes from 0 to 1.
    pub(super) fn of(values: &[f64], max_ticks: usize) -> Self {
        let (start, end) = range_of(values);
        let rough = (end - start) / max_ticks.max(1) as f64;
        let power = 10f64.powi((rough.log10() + ROUNDING).floor() as i32);
        let nice = [1.0, 2.0, 5.0].into_iter().map(|factor| factor * power);
        let step = nice.into_iter().find(|step| *step >= rough).unwrap_or(10.0 * power);
        // Steps or counts have no halves.
        let whole = !values.is_empty() && values.iter().all(|value| value.fract() == 0.0);
        Self { start, end, step: if whole { step.max(1.0) } else { step } }
    }

    /// The values that get a tick.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let (first, last) = ((self.start / self.step).ceil(), (self.end / self.step).floor());
        (first as i64..=last as i64).map(|index| index as f64 * self.step).collect()
    }

    /// A tick in as few digits as tell it from its neighbours.
    pub(super) fn label(&self, tick: f64) -> String {
        let digits_from = |value: f64| (value.abs().log10() + ROUNDING).floor() as i32;
        let step_digit = digits_from(self.step);
        let largest = self.start.abs().max(self.end.abs());
        if largest < PLAIN_LIMIT && self.step >= LEAST_PLAIN_STEP {
            let decimals = step_digit.min(0).unsigned_abs() as usize;
            return format!("{tick:.decimals$}");
        }
        if tick == 0.0 {
            return "0".to_owned();
        }
        let decimals = (digits_from(tick) - step_digit).max(0) as usize;
        format!("{tick:.decimals$e}")
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first_px, last_px): (i32, i32)) -> i32 {
        let share = (value - self.start) / (self.end - self.start);
        first_px + (share * f64::from(last_px - first_px)).round() as i32
    }

    /// Grid lines between the ticks' would say nothing.
    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        match hint.weight() {
            KeyPointWeight::Bold => self.ticks(),
            KeyPointWeight::Any => Vec::new(),
        }
    }

    fn range(&self) -> Range<f64> {
        self.start..self.end
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, tick: &f64) -> String {
        self.label(*tick)
    }
}

fn range_of(values: &[f64]) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 1.0);
    }
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let size = low.abs().max(high.abs());
    let span = high - low;
    let margin = if span < (size * LEAST_RELATIVE_SPAN).max(LEAST_SPAN) {
        // Equal values lie in the middle of a range of their size.
        (size * MARGIN).max(0.5)
    } else {
        span * MARGIN
    };
    (low - margin, high + margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64]) -> Vec<String> {
        let axis = Axis::of(values, 8);
        axis.ticks().into_iter().map(|tick| axis.label(tick)).collect()
    }

    #[test]
    fn ticks_are_round_numbers_in_few_digits() {
        assert_eq!(labels(&[0.0, 29.0]), ["0", "5", "10", "15", "20", "25", "30"]);
        assert_eq!(labels(&[0.9, 0.999]), ["0.90", "0.92", "0.94", "0.96", "0.98", "1.00"]);
        assert_eq!(labels(&[-0.31, 0.5]), ["-0.2", "0.0", "0.2", "0.4"]);
        assert_eq!(labels(&[0.0, 2.5e6]), ["0", "5e5", "1.0e6", "1.5e6", "2.0e6", "2.5e6"]);
        assert_eq!(
            labels(&[0.0, 3e-6]),
            ["0", "5e-7", "1.0e-6", "1.5e-6", "2.0e-6", "2.5e-6", "3.0e-6"]
        );
    }

    #[test]
    fn whole_numbers_have_whole_ticks() {
        assert_eq!(labels(&[1.0, 2.0, 3.0]), ["1", "2", "3"]);
        assert_eq!(labels(&[4.0]), ["4"]);
    }

    #[test]
    fn every_value_is_inside_and_ticks_are_few() {
        let extremes = [0.0, 1.0, -1.0, 5e-324, 1e-99, 1e100, -1e100, 1e9, 1e9 + 1e-6, 0.1 + 0.2];
        for a in extremes {
            for b in extremes {
                let axis = Axis::of(&[a, b], 8);
                assert!(axis.start < a.min(b) && axis.end > a.max(b), "{a} {b}: {axis:?}");
                let ticks = axis.ticks();
                assert!((1..=9).contains(&ticks.len()), "{a} {b}: {ticks:?}");
                for tick in ticks {
                    assert!(axis.label(tick).len() < 16, "{a} {b}: {}", axis.label(tick));
                }
            }
        }
    }

    #[test]
    fn no_values_still_make_an_axis() {
        assert_eq!(labels(&[]), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
    }
}
