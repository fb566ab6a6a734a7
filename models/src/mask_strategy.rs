//! Mask strategies: which frames of a video are copied from references, and how freely they may change.
//!
//! Written as in Open-Sora: entries joined by `;`, each of up to six values joined by `,`: loop, reference, its first
//! frame, first frame of the target, length, edit ratio. Missing values are `0,0,0,0,1,0`. Frames are latent frames.

use candle_core::Tensor;

use crate::error::{ModelError, Result};

/// One entry: copy frames of a reference into the latent.
///
/// # Source
/// `parse_mask_strategy` and `apply_mask_strategy` of Open-Sora's `utils/inference_utils.py`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaskStrategy {
    /// The loop (the how-manieth clip of a long video) that the entry is for.
    pub loop_index: usize,
    /// Which of the references.
    pub reference: usize,
    /// The first frame to copy; negative ones count from the reference's end.
    pub reference_start: i64,
    /// Where it goes; negative ones count from the latent's end.
    pub target_start: i64,
    /// How many frames, at most.
    pub length: usize,
    /// How much of the copied frames is generated anew: 0 nothing, 1 all.
    pub edit_ratio: f32,
}

impl MaskStrategy {
    /// Reads entries joined by `;`; an empty text has none.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] naming the entry and what would be accepted.
    pub fn parse_list(text: &str) -> Result<Vec<Self>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let parse = |entry| {
            Self::parse(entry).ok_or_else(|| {
                ModelError::bad_input(format!(
                    "mask strategy `{entry}` is not known: expected up to six values, \
                     `loop,reference,reference start,target start,length,edit ratio`, the ratio between 0 and 1"
                ))
            })
        };
        text.split(';').map(parse).collect()
    }

    fn parse(entry: &str) -> Option<Self> {
        let mut values = entry.split(',').map(str::trim);
        let mut value = |default: &'static str| values.next().unwrap_or(default);
        let strategy = Self {
            loop_index: value("0").parse().ok()?,
            reference: value("0").parse().ok()?,
            reference_start: value("0").parse().ok()?,
            target_start: value("0").parse().ok()?,
            length: value("1").parse().ok()?,
            edit_ratio: value("0").parse().ok()?,
        };
        let fits = values.next().is_none() && (0.0..=1.0).contains(&strategy.edit_ratio);
        fits.then_some(strategy)
    }
}

/// A latent with reference frames in it.
#[derive(Debug, Clone)]
pub struct MaskedLatent {
    /// `[1, C, T, H, W]`.
    pub latent: Tensor,
    /// For each frame how much of it is to be generated: 1 where nothing was copied, the edit ratio elsewhere.
    pub frame_mask: Vec<f32>,
}

/// Copies reference frames into the latent of one video, entry by entry.
///
/// With `align`, starts move to multiples of it: a VAE chunk can only be given as a whole.
///
/// # Shapes
/// `latent` `[1, C, T, H, W]`, references `[C, T_reference, H, W]`.
///
/// # Errors
/// [`ModelError::BadInput`] when an entry asks for a reference or a frame that is not there, or sizes differ.
pub fn apply(
    latent: &Tensor,
    references: &[Tensor],
    strategies: &[MaskStrategy],
    loop_index: usize,
    align: Option<usize>,
) -> Result<MaskedLatent> {
    let (_, _, frames, _, _) = latent.dims5()?;
    let mut masked = MaskedLatent { latent: latent.clone(), frame_mask: vec![1.0; frames] };
    for strategy in strategies.iter().filter(|strategy| strategy.loop_index == loop_index) {
        let reference = references.get(strategy.reference).ok_or_else(|| {
            let (asked, given) = (strategy.reference, references.len());
            ModelError::bad_input(format!("mask strategy asks for reference {asked} of {given}"))
        })?;
        masked.copy(reference, strategy, align)?;
    }
    Ok(masked)
}

impl MaskedLatent {
    fn copy(&mut self, from: &Tensor, strategy: &MaskStrategy, align: Option<usize>) -> Result<()> {
        let (target, source) = (self.latent.dims5()?, from.dims4()?);
        if (target.1, target.3, target.4) != (source.0, source.2, source.3) {
            return Err(ModelError::bad_input(format!(
                "a reference latent {:?} does not fit the video's {:?}: encode it at the video's size",
                from.dims(),
                self.latent.dims()
            )));
        }
        let (frames, available) = (target.2, source.1);
        let start = |frame: i64, count: usize| -> Result<usize> {
            let absolute = if frame < 0 { frame + count as i64 } else { frame };
            let absolute = usize::try_from(absolute).ok().filter(|absolute| *absolute < count);
            let absolute = absolute.ok_or_else(|| {
                ModelError::bad_input(format!("mask strategy starts at frame {frame} of {count}"))
            })?;
            Ok(align.map_or(absolute, |point| nearest_multiple(absolute, point, count)))
        };
        let source_start = start(strategy.reference_start, available)?;
        let target_start = start(strategy.target_start, frames)?;
        let length = strategy.length.min(frames - target_start).min(available - source_start);
        if length == 0 {
            return Ok(());
        }
        let copied = from.narrow(1, source_start, length)?.unsqueeze(0)?;
        let end = target_start + length;
        let before = self.latent.narrow(2, 0, target_start)?;
        let after = self.latent.narrow(2, end, frames - end)?;
        let parts = [before, copied.to_dtype(self.latent.dtype())?, after];
        let parts: Vec<_> = parts.into_iter().filter(|part| part.dims()[2] > 0).collect();
        self.latent = Tensor::cat(&parts, 2)?;
        self.frame_mask[target_start..end].fill(strategy.edit_ratio);
        Ok(())
    }
}

/// The multiple of `point` nearest to `value`, among those that leave a whole `point` below `limit`; halves go down.
///
/// # Source
/// `find_nearest_point` of Open-Sora's `utils/inference_utils.py`.
pub fn nearest_multiple(value: usize, point: usize, limit: usize) -> usize {
    let point = point.max(1);
    let (below, rest) = (value / point, value % point);
    let up = 2 * rest > point && below + 1 < limit / point;
    (below + usize::from(up)) * point
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::{DType, Device};

    use super::*;

    fn strategies(text: &str) -> Vec<MaskStrategy> {
        MaskStrategy::parse_list(text).unwrap()
    }

    #[test]
    fn missing_values_have_defaults() {
        let list = strategies("0;1,2,-5,3,4,0.5");
        assert_eq!((list[0].reference_start, list[0].length, list[0].edit_ratio), (0, 1, 0.0));
        assert_eq!((list[1].loop_index, list[1].reference, list[1].reference_start), (1, 2, -5));
        assert!(strategies("").is_empty());
        for bad in [";", "a", "0,0,0,0,1,0,0", "0,0,0,0,1,1.5", "0,0,0,0,-1", "-1"] {
            assert!(MaskStrategy::parse_list(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn frames_are_copied_where_the_strategy_says() {
        let latent = Tensor::zeros((1, 1, 6, 1, 1), DType::F32, &Device::Cpu).unwrap();
        let reference = Tensor::new(&[1f32, 2., 3.], &Device::Cpu).unwrap();
        let reference = reference.reshape((1, 3, 1, 1)).unwrap();
        let masked = |text: &str| {
            apply(&latent, std::slice::from_ref(&reference), &strategies(text), 0, None)
        };
        let result = masked("0,0,-2,-1,2,0.25;0,0,0,1,2;1,0,0,3,3").unwrap();
        let frames = result.latent.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(frames, [0., 1., 2., 0., 0., 2.]);
        assert_eq!(result.frame_mask, [1., 0., 0., 1., 1., 0.25]);
        for bad in ["0,1", "0,0,3", "0,0,-4", "0,0,0,6", "0,0,0,-7"] {
            assert!(masked(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn a_reference_of_another_size_is_refused() {
        let latent = Tensor::zeros((1, 1, 6, 2, 2), DType::F32, &Device::Cpu).unwrap();
        let reference = Tensor::zeros((1, 3, 1, 2), DType::F32, &Device::Cpu).unwrap();
        assert!(apply(&latent, &[reference], &strategies("0"), 0, None).is_err());
    }
}
