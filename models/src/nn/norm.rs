//! Normalisations of rows: layer norm without affine parameters, RMS norm.

use candle_core::{D, DType, Tensor};

use super::rows::{is_plain, map_rows, sum_of, with_values};
use crate::error::Result;
use crate::weights::Weights;

/// Layer norm over the last axis without learned scale and shift, computed in f32.
///
/// # Shapes
/// `[..., C]` to the same.
///
/// # Errors
/// A tensor operation fails.
///
/// # Source
/// `LayerNorm(hidden, elementwise_affine=False, eps=1e-6)` of `stdit3.py`.
pub fn layer_norm(x: &Tensor, eps: f64) -> Result<Tensor> {
    if is_plain(x) {
        return map_rows(x, |_, row, result| {
            let (mean, scale) = mean_and_scale(row, eps);
            result.iter_mut().zip(row).for_each(|(y, &x)| *y = (x - mean) * scale);
        });
    }
    let dtype = x.dtype();
    let x = x.to_dtype(DType::F32)?;
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    Ok(centred.broadcast_div(&(variance + eps)?.sqrt()?)?.to_dtype(dtype)?)
}

/// What [`layer_norm`] subtracts from a row's values, and then multiplies them by.
#[inline(always)]
pub(crate) fn mean_and_scale(row: &[f32], eps: f64) -> (f32, f32) {
    let count = row.len() as f64;
    let mean = (sum_of(row, |x| x) / count) as f32;
    let variance = sum_of(row, |x| (x - mean) * (x - mean)) / count;
    (mean, (1.0 / (variance + eps).sqrt()) as f32)
}

/// RMS norm over the last axis with a learned scale and no shift, computed in f32.
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// Reads `weight` `[size]`.
    ///
    /// # Errors
    /// The tensor is missing or has another shape.
    pub fn load(weights: &Weights, size: usize, eps: f64) -> Result<Self> {
        Ok(Self { weight: weights.tensor("weight", size)?, eps })
    }

    /// The learned scale, and epsilon.
    pub(crate) fn parts(&self) -> (&Tensor, f64) {
        (&self.weight, self.eps)
    }

    /// # Shapes
    /// `[..., size]` to the same.
    ///
    /// # Errors
    /// The last axis is not `size` long.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if is_plain(x) && is_plain(&self.weight) && x.dims().last() == self.weight.dims().last() {
            return with_values(&self.weight, |weight| {
                map_rows(x, |_, row, result| rms_norm_row(row, weight, self.eps, result))
            })?;
        }
        let dtype = x.dtype();
        let x = x.to_dtype(DType::F32)?;
        let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = x.broadcast_div(&(mean_square + self.eps)?.sqrt()?)?.to_dtype(dtype)?;
        Ok(normed.broadcast_mul(&self.weight)?)
    }
}

/// RMS norm of one row.
#[inline(always)]
pub(super) fn rms_norm_row(row: &[f32], weight: &[f32], eps: f64, to: &mut [f32]) {
    let mean_square = sum_of(row, |x| x * x) / row.len() as f64;
    let scale = (1.0 / (mean_square + eps).sqrt()) as f32;
    let weighted = row.iter().zip(weight).map(|(x, weight)| x * scale * weight);
    to.iter_mut().zip(weighted).for_each(|(to, value)| *to = value);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::Device;

    use super::*;

    /// The same values twice: as they lie in memory, and turned twice, which the one-pass way does not take.
    fn both_ways() -> (Tensor, Tensor) {
        let values = (0..240).map(|i| ((i * 37) % 101) as f32 * 0.3 - 9.0).collect();
        let x = Tensor::from_vec(values, (6, 40), &Device::Cpu).unwrap();
        let turned = x.t().unwrap().contiguous().unwrap().t().unwrap();
        assert!(is_plain(&x) && !is_plain(&turned));
        (x, turned)
    }

    fn assert_alike(one: &Tensor, other: &Tensor) {
        let off = (one - other).unwrap().abs().unwrap().max_all().unwrap();
        assert!(off.to_scalar::<f32>().unwrap() < 1e-5, "{one} is not {other}");
    }

    #[test]
    fn one_pass_gives_what_the_general_operations_give() {
        let (x, turned) = both_ways();
        assert_alike(&layer_norm(&x, 1e-6).unwrap(), &layer_norm(&turned, 1e-6).unwrap());
        let weight = Tensor::arange(0f32, 40.0, &Device::Cpu).unwrap();
        let norm = RmsNorm { weight: (weight * 0.1).unwrap(), eps: 1e-6 };
        assert_alike(&norm.forward(&x).unwrap(), &norm.forward(&turned).unwrap());
    }

    #[test]
    fn a_normed_row_has_mean_0_and_variance_1() {
        let normed = layer_norm(&both_ways().0, 0.0).unwrap().to_vec2::<f32>().unwrap();
        for row in normed {
            let mean = row.iter().sum::<f32>() / 40.0;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 40.0;
            assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-5, "{mean}, {variance}");
        }
    }
}
