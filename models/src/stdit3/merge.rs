//! TDTM, temporal dimension token merging: attention on half of the frames.
//!
//! Tokens of neighbouring frames are averaged before an attention and its result is duplicated after it, so each
//! attention of a block works on half of the tokens. It is done with the trained weights as they are.

use std::fmt;
use std::str::FromStr;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::{ModelError, Result};

/// What becomes of the last frame when the number of frames is odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OddFrame {
    /// It is left out of the attention and gets a copy of the last pair's result, as in the reference.
    #[default]
    DropLast,
    /// It goes through the attention by itself: more faithful video for at most one frame more of work.
    KeepLast,
}

impl FromStr for OddFrame {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "drop-last" => Ok(Self::DropLast),
            "keep-last" => Ok(Self::KeepLast),
            _ => Err(ModelError::bad_input(format!(
                "the rule `{text}` for an odd frame is not known: expected `drop-last` or `keep-last`"
            ))),
        }
    }
}

/// In which steps to merge, and how; written as the steps, or as the steps, a comma and the rule for an odd frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Merging {
    /// In which steps.
    pub steps: MergeSteps,
    /// The rule for odd numbers of frames.
    pub odd_frame: OddFrame,
}

impl FromStr for Merging {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self> {
        let (steps, odd_frame) = match text.split_once(',') {
            Some((steps, odd_frame)) => (steps, odd_frame.parse()?),
            None => (text, OddFrame::default()),
        };
        Ok(Self { steps: steps.parse()?, odd_frame })
    }
}

impl fmt::Display for Merging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.odd_frame {
            OddFrame::DropLast => self.steps.fmt(f),
            OddFrame::KeepLast => write!(f, "{},keep-last", self.steps),
        }
    }
}

/// The merging of frame pairs `(2j, 2j + 1)`.
///
/// # Source
/// Section "Temporal Dimension Token Merging" of arXiv 2502.04363. A single frame is not merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct TemporalTokenMerge {
    /// The rule for odd numbers of frames.
    pub odd_frame: OddFrame,
}

impl TemporalTokenMerge {
    /// How many frames `frames` become.
    pub fn merged_frames(self, frames: usize) -> usize {
        match self.odd_frame {
            OddFrame::DropLast => (frames / 2).max(frames.min(1)),
            OddFrame::KeepLast => frames.div_ceil(2),
        }
    }

    /// Averages pairs of frames.
    ///
    /// # Shapes
    /// `[B, T, S, C]` to `[B, merged_frames(T), S, C]`.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn merge(self, x: &Tensor) -> Result<Tensor> {
        let (batch, frames, spots, channels) = x.dims4()?;
        if frames < 2 {
            return Ok(x.clone());
        }
        let pairs = frames / 2;
        let paired = x.narrow(1, 0, 2 * pairs)?.reshape((batch, pairs, 2, spots * channels))?;
        let sum = (paired.narrow(2, 0, 1)? + paired.narrow(2, 1, 1)?)?;
        let merged = (sum * 0.5)?.reshape((batch, pairs, spots, channels))?;
        if self.merged_frames(frames) == pairs {
            return Ok(merged);
        }
        Ok(Tensor::cat(&[&merged, &x.narrow(1, frames - 1, 1)?], 1)?)
    }

    /// Gives each of `frames` frames a copy of the merged frame that it went into.
    ///
    /// # Shapes
    /// `[B, merged_frames(T), S, C]` to `[B, T, S, C]`.
    ///
    /// # Errors
    /// `merged` has another number of frames than `frames` merge to.
    pub fn unmerge(self, merged: &Tensor, frames: usize) -> Result<Tensor> {
        let (batch, merged_frames, spots, channels) = merged.dims4()?;
        if frames < 2 {
            return Ok(merged.clone());
        }
        let pairs = frames / 2;
        let copies = merged
            .narrow(1, 0, pairs)?
            .reshape((batch, pairs, 1, spots * channels))?
            .broadcast_as((batch, pairs, 2, spots * channels))?
            .reshape((batch, 2 * pairs, spots, channels))?;
        if frames == 2 * pairs {
            return Ok(copies);
        }
        Ok(Tensor::cat(&[&copies, &merged.narrow(1, merged_frames - 1, 1)?], 1)?)
    }
}

/// In which denoising steps tokens are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MergeSteps {
    /// In none.
    #[default]
    Off,
    /// In all.
    All,
    /// In the first so many.
    First(usize),
}

impl MergeSteps {
    /// Whether tokens are merged in the step of this index.
    pub fn includes(self, step: usize) -> bool {
        match self {
            Self::Off => false,
            Self::All => true,
            Self::First(steps) => step < steps,
        }
    }
}

impl FromStr for MergeSteps {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "off" => Ok(Self::Off),
            "all" => Ok(Self::All),
            _ => text.parse().map(Self::First).map_err(|_| {
                ModelError::bad_input(format!(
                    "token merging `{text}` is not known: expected `off`, `all` or a number of steps"
                ))
            }),
        }
    }
}

impl fmt::Display for MergeSteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::All => f.write_str("all"),
            Self::First(steps) => write!(f, "{steps}"),
        }
    }
}

serde_as_written!(MergeSteps);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::Device;

    use super::*;

    fn frames(values: &[f32]) -> Tensor {
        Tensor::from_slice(values, (1, values.len(), 1, 1), &Device::Cpu).unwrap()
    }

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn merging_is_read_and_written_alike() {
        for text in ["off", "all", "10", "all,keep-last", "10,keep-last"] {
            assert_eq!(text.parse::<Merging>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn merging_then_unmerging_restores_the_shape() {
        for odd_frame in [OddFrame::DropLast, OddFrame::KeepLast] {
            let merge = TemporalTokenMerge { odd_frame };
            for count in 1..=31 {
                let x =
                    Tensor::ones((2, count, 3, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
                let merged = merge.merge(&x).unwrap();
                assert_eq!(merged.dims(), [2, merge.merged_frames(count), 3, 4], "{count} frames");
                let restored = merge.unmerge(&merged, count).unwrap();
                assert_eq!(restored.dims(), x.dims(), "{count} frames");
                assert_eq!(values(&restored), values(&x), "a mean of ones is one");
            }
        }
    }

    #[test]
    fn the_reference_drops_the_last_odd_frame() {
        let merge = TemporalTokenMerge::default();
        let merged = merge.merge(&frames(&[1., 3., 5., 9., 100.])).unwrap();
        assert_eq!(values(&merged), [2., 7.]);
        assert_eq!(values(&merge.unmerge(&merged, 5).unwrap()), [2., 2., 7., 7., 7.]);
    }

    #[test]
    fn the_last_odd_frame_can_be_kept() {
        let merge = TemporalTokenMerge { odd_frame: OddFrame::KeepLast };
        let merged = merge.merge(&frames(&[1., 3., 5., 9., 100.])).unwrap();
        assert_eq!(values(&merged), [2., 7., 100.]);
        assert_eq!(values(&merge.unmerge(&merged, 5).unwrap()), [2., 2., 7., 7., 100.]);
    }

    #[test]
    fn one_frame_is_left_alone() {
        let x = frames(&[4.]);
        assert_eq!(values(&TemporalTokenMerge::default().merge(&x).unwrap()), [4.]);
    }

    #[test]
    fn steps_are_read_and_written_alike() {
        for (text, included) in [("off", 0), ("all", 5), ("3", 3), ("0", 0)] {
            let steps: MergeSteps = text.parse().unwrap();
            assert_eq!(steps.to_string(), text);
            assert_eq!((0..5).filter(|&step| steps.includes(step)).count(), included);
        }
        assert!("-1".parse::<MergeSteps>().is_err());
    }
}
