//! Comparing what was computed with what was recorded.

use candle_core::{DType, Tensor};

use super::case::Case;
use crate::error::Result;
use crate::probe::Probe;

/// How far one tensor is from its recording.
#[derive(Debug, Clone)]
pub struct Deviation {
    /// The tensor's name in the case.
    pub tensor: String,
    /// Largest absolute difference.
    pub absolute: f64,
    /// Largest absolute difference over the recording's magnitude at that element.
    pub relative: f64,
    /// Why the tensor is out of tolerance; `None` when it is within.
    pub failure: Option<String>,
}

/// The comparisons of one case, in order of computation.
#[derive(Default)]
pub struct CaseCheck {
    deviations: Vec<Deviation>,
}

impl CaseCheck {
    /// The first tensor that went out of tolerance.
    pub fn first_failure(&self) -> Option<&Deviation> {
        self.deviations.iter().find(|deviation| deviation.failure.is_some())
    }

    /// Every comparison.
    pub fn deviations(&self) -> &[Deviation] {
        &self.deviations
    }

    /// Largest absolute deviation of all tensors.
    pub fn worst_absolute(&self) -> f64 {
        self.deviations.iter().map(|deviation| deviation.absolute).fold(0.0, f64::max)
    }

    /// Largest relative deviation of all tensors.
    pub fn worst_relative(&self) -> f64 {
        self.deviations.iter().map(|deviation| deviation.relative).fold(0.0, f64::max)
    }
}

/// Collects computed tensors and compares each with the case's recording as it comes.
///
/// It is a [`Probe`], so it can be handed to a forward pass; names that the case does not expect are ignored.
pub(super) struct Comparison<'a> {
    case: &'a Case,
    deviations: Vec<Deviation>,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(case: &'a Case) -> Self {
        Self { case, deviations: Vec::new() }
    }

    /// Compares `actual` with the recorded tensor `name`, if the case expects one.
    pub(super) fn check(&mut self, name: &str, actual: &Tensor) {
        if !self.case.expected.iter().any(|expected| expected == name) {
            return;
        }
        let deviation = self.deviation(name, actual).unwrap_or_else(|cause| Deviation {
            tensor: name.to_string(),
            absolute: f64::INFINITY,
            relative: f64::INFINITY,
            failure: Some(cause.to_string()),
        });
        self.deviations.push(deviation);
    }

    /// Records a comparison that is not about tensors (tables, token lists).
    pub(super) fn check_that(
        &mut self,
        name: &str,
        equal: bool,
        difference: impl FnOnce() -> String,
    ) {
        self.deviations.push(Deviation {
            tensor: name.to_string(),
            absolute: 0.0,
            relative: 0.0,
            failure: (!equal).then(difference),
        });
    }

    /// Tensors that the case expects and nobody computed count as failed.
    pub(super) fn demand_the_rest(&mut self) {
        for expected in &self.case.expected {
            if !self.deviations.iter().any(|deviation| &deviation.tensor == expected) {
                self.deviations.push(Deviation {
                    tensor: expected.clone(),
                    absolute: f64::INFINITY,
                    relative: f64::INFINITY,
                    failure: Some("it was never computed".into()),
                });
            }
        }
    }

    /// Whether nothing was compared.
    pub(super) fn is_empty(&self) -> bool {
        self.deviations.is_empty()
    }

    /// What was compared.
    pub(super) fn into_check(self) -> CaseCheck {
        CaseCheck { deviations: self.deviations }
    }

    fn deviation(&self, name: &str, actual: &Tensor) -> Result<Deviation> {
        let recorded = self.case.tensor(name, &candle_core::Device::Cpu)?;
        let mut deviation = Deviation {
            tensor: name.to_string(),
            absolute: f64::INFINITY,
            relative: f64::INFINITY,
            failure: None,
        };
        if recorded.shape() != actual.shape() {
            deviation.failure =
                Some(format!("shape {:?} instead of {:?}", actual.dims(), recorded.dims()));
            return Ok(deviation);
        }
        let values = |tensor: &Tensor| tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>();
        let (actual, exact) = (values(actual)?, recorded.dtype().is_int());
        let recorded = values(&recorded)?;
        let tolerance = self.case.tolerance;
        (deviation.absolute, deviation.relative) = (0.0, 0.0);
        let mut outside = 0usize;
        for (&a, &b) in actual.iter().zip(&recorded) {
            // Both NaN in the same place is agreement; one NaN alone is not, and `>` would let it through.
            let difference = if a.is_nan() && b.is_nan() { 0.0 } else { (a - b).abs() };
            let difference = if difference.is_nan() { f64::INFINITY } else { difference };
            let allowed = if exact { 0.0 } else { tolerance.atol + tolerance.rtol * b.abs() };
            outside += usize::from(difference > allowed);
            deviation.absolute = deviation.absolute.max(difference);
            deviation.relative = deviation.relative.max(difference / b.abs().max(1e-12));
        }
        let frames = name == "frames" && deviation.absolute <= f64::from(tolerance.frames_max_diff);
        let accepted = if frames { outside * 100 <= actual.len() } else { outside == 0 };
        if !accepted {
            deviation.failure =
                Some(format!("{outside} of {} values out of tolerance", actual.len()));
        }
        Ok(deviation)
    }
}

impl Probe for Comparison<'_> {
    fn tap(&mut self, name: &str, tensor: &Tensor) {
        self.check(name, tensor);
    }
}
