//! Rotary position embedding in its interleaved-pair form.

use candle_core::{DType, Device, Tensor};

use crate::error::Result;

/// The base of the rotary frequencies.
///
/// # Source
/// `RotaryEmbedding(theta=10000)` of the `rotary-embedding-torch` package, whose default `stdit3.py` keeps.
const ROTARY_BASE: f64 = 10_000.0;

/// The angles' cosines and sines for positions 0, 1, 2, ...
#[derive(Clone)]
pub struct RotaryTable {
    cos: Tensor,
    sin: Tensor,
}

impl RotaryTable {
    /// The frequencies of a head: `base^(-2i / head_size)` for each pair of channels.
    pub fn frequencies(head_size: usize) -> Vec<f32> {
        let exponent = |pair: usize| -2.0 * pair as f64 / head_size as f64;
        (0..head_size / 2).map(|pair| ROTARY_BASE.powf(exponent(pair)) as f32).collect()
    }

    /// The table of `positions` positions, one column a frequency.
    ///
    /// The angles are computed in f64 and only then cast, so that a narrow compute dtype costs no position accuracy.
    ///
    /// # Errors
    /// The tensors cannot be created on the device.
    pub fn new(
        frequencies: &[f32],
        positions: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let table = |function: fn(f64) -> f64| -> Result<Tensor> {
            let angles = (0..positions).flat_map(|position| {
                frequencies.iter().map(move |&f| position as f64 * f64::from(f))
            });
            let values: Vec<f32> = angles.map(|angle| function(angle) as f32).collect();
            Ok(Tensor::from_vec(values, (positions, frequencies.len()), device)?.to_dtype(dtype)?)
        };
        Ok(Self { cos: table(f64::cos)?, sin: table(f64::sin)? })
    }

    /// Rotates channel pairs `(2i, 2i + 1)` of the token at each position by that position's angles.
    ///
    /// # Shapes
    /// `[N, heads, L, head_size]` to the same, with `L` no larger than the table.
    ///
    /// # Errors
    /// The shape does not fit the table.
    pub fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let positions = x.dim(2)?;
        let (cos, sin) = (self.cos.narrow(0, 0, positions)?, self.sin.narrow(0, 0, positions)?);
        Ok(candle_nn::rotary_emb::rope_i(&x.contiguous()?, &cos, &sin)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn neighbouring_channels_turn_together() {
        let table = RotaryTable::new(&[0.5, 0.0], 3, DType::F32, &Device::Cpu).unwrap();
        let x = Tensor::new(
            &[[[[1f32, 0., 3., 4.], [1., 0., 3., 4.], [1., 0., 3., 4.]]]],
            &Device::Cpu,
        );
        let turned = table.rotate(&x.unwrap()).unwrap().flatten_all().unwrap();
        let turned = turned.to_vec1::<f32>().unwrap();
        let expected =
            [1., 0., 3., 4., 0.5f32.cos(), 0.5f32.sin(), 3., 4., 1f32.cos(), 1f32.sin(), 3., 4.];
        for (a, b) in turned.iter().zip(expected) {
            assert!((a - b).abs() < 1e-6, "{turned:?} is not {expected:?}");
        }
    }

    #[test]
    fn frequencies_fall_from_one() {
        let frequencies = RotaryTable::frequencies(4);
        assert_eq!(frequencies.len(), 2);
        assert!((frequencies[0] - 1.0).abs() < 1e-7 && (frequencies[1] - 0.01).abs() < 1e-7);
    }
}
