//! Group norm, alone or with the activation that follows it.

use candle_core::{DType, Tensor};

use super::activation::{silu, silu_value};
use super::norm::layer_norm;
use super::rows::{is_plain, map_rows, sum_of};
use crate::error::Result;
use crate::weights::Weights;

/// Group norm over channels and everything behind them, computed in f32.
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// Reads `weight` and `bias`, `[channels]` each.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(weights: &Weights, groups: usize, channels: usize, eps: f64) -> Result<Self> {
        let (weight, bias) =
            (weights.tensor("weight", channels)?, weights.tensor("bias", channels)?);
        Ok(Self { weight, bias, groups, eps })
    }

    /// # Shapes
    /// `[B, C, ...]` to the same, with any number of axes behind the channels.
    ///
    /// # Errors
    /// The channels cannot be split into the groups.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if is_plain(x) { self.in_one_pass(x, |x| x) } else { self.by_operations(x) }
    }

    /// [`GroupNorm::forward`], then SiLU.
    ///
    /// # Shapes
    /// `[B, C, ...]` to the same, with any number of axes behind the channels.
    ///
    /// # Errors
    /// The channels cannot be split into the groups.
    pub fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        if is_plain(x) { self.in_one_pass(x, silu_value) } else { silu(&self.by_operations(x)?) }
    }

    fn in_one_pass(
        &self,
        x: &Tensor,
        activation: impl Fn(f32) -> f32 + Send + Sync,
    ) -> Result<Tensor> {
        let (batch, groups) = (x.dim(0)?, self.groups);
        let channels = self.weight.elem_count() / groups;
        let grouped = x.reshape((batch, groups * channels, ()))?.reshape((batch, groups, ()))?;
        let values = grouped.dim(2)?;
        let weight = self.weight.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        let bias = self.bias.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        let normed = map_rows(&grouped, |index, row, result| {
            let count = values as f64;
            let mean = (sum_of(row, |x| x) / count) as f32;
            let variance = sum_of(row, |x| (x - mean) * (x - mean)) / count;
            let scale = 1.0 / (variance + self.eps).sqrt();
            let first = index % groups * channels;
            let parts = row.chunks_exact(values / channels);
            let results = result.chunks_exact_mut(values / channels);
            for (channel, (row, result)) in (first..).zip(parts.zip(results)) {
                let scale = (scale * f64::from(weight[channel])) as f32;
                let bias = bias[channel];
                for (y, &x) in result.iter_mut().zip(row) {
                    *y = activation((x - mean) * scale + bias);
                }
            }
        })?;
        Ok(normed.reshape(x.shape())?)
    }

    fn by_operations(&self, x: &Tensor) -> Result<Tensor> {
        let (shape, dtype) = (x.shape().clone(), x.dtype());
        let (batch, channels) = (shape.dims()[0], shape.dims()[1]);
        let grouped = x.to_dtype(DType::F32)?.reshape((batch, self.groups, ()))?;
        let normed =
            layer_norm(&grouped, self.eps)?.to_dtype(dtype)?.reshape((batch, channels, ()))?;
        let (weight, bias) =
            (self.weight.reshape((channels, 1))?, self.bias.reshape((channels, 1))?);
        Ok(normed.broadcast_mul(&weight)?.broadcast_add(&bias)?.reshape(shape)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::Device;

    use super::*;

    #[test]
    fn one_pass_gives_what_the_general_operations_give() {
        let values = (0..2 * 6 * 35).map(|i| ((i * 37) % 101) as f32 * 0.3 - 9.0).collect();
        let x = Tensor::from_vec(values, (2, 6, 5, 7), &Device::Cpu).unwrap();
        let norm = GroupNorm {
            weight: Tensor::new(&[1f32, -2., 0.5, 3., 0., 1.5], &Device::Cpu).unwrap(),
            bias: Tensor::new(&[0f32, 1., -1., 0.25, 2., -3.], &Device::Cpu).unwrap(),
            groups: 3,
            eps: 1e-6,
        };
        let general = norm.by_operations(&x).unwrap();
        let pairs = [
            (norm.forward(&x).unwrap(), general.clone()),
            (norm.forward_silu(&x).unwrap(), general.silu().unwrap()),
        ];
        for (found, expected) in pairs {
            let off = (found - expected).unwrap().abs().unwrap().max_all().unwrap();
            assert!(off.to_scalar::<f32>().unwrap() < 1e-5, "{off}");
        }
    }

    #[test]
    fn channels_that_do_not_divide_are_an_error() {
        let ones = Tensor::ones(4, DType::F32, &Device::Cpu).unwrap();
        let norm = GroupNorm { weight: ones.clone(), bias: ones, groups: 2, eps: 1e-6 };
        for channels in [3, 6] {
            let x = Tensor::zeros((1, channels, 5), DType::F32, &Device::Cpu).unwrap();
            assert!(norm.forward(&x).is_err(), "{channels} channels went through");
        }
    }
}
