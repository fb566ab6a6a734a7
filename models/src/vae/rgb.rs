//! From decoded values to the bytes of a picture.

use candle_core::{DType, Tensor};

use crate::error::{ModelError, Result};

/// Eight bits a channel, frame by frame, as video encoders take them.
///
/// # Shapes
/// `[3, F, H, W]`, nominally in [-1, 1] and clamped to it, to `u8` `[F, H, W, 3]`.
///
/// # Errors
/// [`ModelError::NotFinite`] when a value is NaN or infinite.
///
/// # Source
/// `save_sample` of `opensora/datasets/utils.py`: `(x + 1) / 2 * 255 + 0.5`, truncated.
pub fn to_rgb8(video: &Tensor) -> Result<Tensor> {
    let video = video.to_dtype(DType::F32)?;
    // Zero times a value is zero, unless the value is not finite.
    if (&video * 0.0)?.sum_all()?.to_scalar::<f32>()? != 0.0 {
        return Err(ModelError::NotFinite { what: "the decoded video".into() });
    }
    let levels = video.clamp(-1f32, 1f32)?.affine(0.5, 0.5)?.affine(255.0, 0.5)?;
    let levels = levels.clamp(0f32, 255f32)?.to_dtype(DType::U8)?;
    Ok(levels.permute((1, 2, 3, 0))?.contiguous()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::Device;

    use super::*;

    #[test]
    fn values_are_clamped_rounded_and_interleaved() {
        let values = [[[[-7f32, -1.0]]], [[[0.0, 0.5]]], [[[1.0, 3.0]]]];
        let frames = to_rgb8(&Tensor::new(&values, &Device::Cpu).unwrap()).unwrap();
        assert_eq!(frames.dims(), [1, 1, 2, 3]);
        let bytes = frames.flatten_all().unwrap().to_vec1::<u8>().unwrap();
        assert_eq!(bytes, [0, 128, 255, 0, 191, 255]);
    }

    #[test]
    fn values_that_are_not_finite_are_refused() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let video = Tensor::new(&[[[[0f32, bad]]], [[[0.; 2]]], [[[0.; 2]]]], &Device::Cpu);
            let error = to_rgb8(&video.unwrap()).unwrap_err();
            assert!(matches!(error, ModelError::NotFinite { .. }), "{bad}: {error}");
        }
    }
}
