//! Rotary position embedding in its interleaved-pair form.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::rows::{ON_ONE_THREAD, is_plain, map_rows};
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
    /// Cosine and sine of each position's angles, one position after the other.
    turns: Arc<Vec<(f32, f32)>>,
    pairs: usize,
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
        let angles = (0..positions)
            .flat_map(|position| frequencies.iter().map(move |&f| position as f64 * f64::from(f)));
        let turns: Vec<_> = angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).collect();
        let (cos, sin): (Vec<_>, Vec<_>) = turns.iter().copied().unzip();
        let pairs = frequencies.len();
        let table = |values: Vec<f32>| -> Result<Tensor> {
            Ok(Tensor::from_vec(values, (positions, pairs), device)?.to_dtype(dtype)?)
        };
        Ok(Self { cos: table(cos)?, sin: table(sin)?, turns: Arc::new(turns), pairs })
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
        let x = x.contiguous()?;
        if is_plain(&x) && self.fits(&x)? && x.elem_count() <= ON_ONE_THREAD {
            return map_rows(&x, |index, row, result| {
                result.copy_from_slice(row);
                self.rotate_row(index % positions, result);
            });
        }
        let (cos, sin) = (self.cos.narrow(0, 0, positions)?, self.sin.narrow(0, 0, positions)?);
        Ok(candle_nn::rotary_emb::rope_i(&x, &cos, &sin)?)
    }

    /// [`RotaryTable::rotate`] for the vector of one head at one position of the table.
    #[inline(always)]
    pub(crate) fn rotate_row(&self, position: usize, row: &mut [f32]) {
        let turns = &self.turns[position * self.pairs..][..self.pairs];
        for (pair, (cos, sin)) in row.as_chunks_mut::<2>().0.iter_mut().zip(turns) {
            let [a, b] = *pair;
            *pair = [a * cos - b * sin, a * sin + b * cos];
        }
    }

    /// Whether `x` has heads of the table's size and no more positions than it.
    fn fits(&self, x: &Tensor) -> Result<bool> {
        Ok(x.dim(3)? == 2 * self.pairs && x.dim(2)? * self.pairs <= self.turns.len())
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
    fn one_pass_gives_what_the_general_operation_gives() {
        let table =
            RotaryTable::new(&RotaryTable::frequencies(8), 9, DType::F32, &Device::Cpu).unwrap();
        let x = Tensor::randn(0f32, 1.0, (2, 3, 7, 8), &Device::Cpu).unwrap();
        let (cos, sin) = (table.cos.narrow(0, 0, 7).unwrap(), table.sin.narrow(0, 0, 7).unwrap());
        let general = candle_nn::rotary_emb::rope_i(&x, &cos, &sin).unwrap();
        let off = (table.rotate(&x).unwrap() - general).unwrap().abs().unwrap();
        assert!(off.max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-6);
        let long = Tensor::zeros((1, 1, 10, 8), DType::F32, &Device::Cpu).unwrap();
        assert!(table.rotate(&long).is_err(), "there are no 10 positions in the table");
    }

    #[test]
    fn frequencies_fall_from_one() {
        let frequencies = RotaryTable::frequencies(4);
        assert_eq!(frequencies.len(), 2);
        assert!((frequencies[0] - 1.0).abs() < 1e-7 && (frequencies[1] - 0.01).abs() < 1e-7);
    }
}
