//! Sinusoidal embeddings of numbers (timesteps, frame rates) and of positions in a plane.

use candle_core::{Device, Tensor};

use crate::error::Result;

/// The longest wavelength of both embeddings, in units of `2 pi`.
///
/// # Source
/// `timestep_embedding(max_period=10000)` and `PositionEmbedding2D` of Open-Sora's `layers/blocks.py`.
const LONGEST_PERIOD: f64 = 10_000.0;

/// Embeds each value as cosines, then sines, at `size / 2` frequencies.
///
/// # Shapes
/// `n` values to `[n, size]`, in f32; `size` is even.
///
/// # Errors
/// The tensor cannot be created on the device.
pub fn sinusoidal_embedding(values: &[f32], size: usize, device: &Device) -> Result<Tensor> {
    let half = size / 2;
    let frequency = |i: usize| LONGEST_PERIOD.powf(-(i as f64) / half as f64);
    let mut embedding = Vec::with_capacity(values.len() * size);
    for &value in values {
        let angle = |i: usize| f64::from(value) * frequency(i);
        embedding.extend((0..half).map(|i| angle(i).cos() as f32));
        embedding.extend((0..half).map(|i| angle(i).sin() as f32));
    }
    Ok(Tensor::from_vec(embedding, (values.len(), 2 * half), device)?)
}

/// How token coordinates become positions that are comparable between resolutions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PositionScale {
    /// The picture's size over the size that positions are relative to: `sqrt(height * width) / input_sq_size`.
    pub resolution: f64,
    /// Side of the square that has as many tokens as the picture.
    pub base_tokens: usize,
}

/// Sine-cosine embedding of a plane of tokens: sines and cosines of the column first, then those of the row.
///
/// # Shapes
/// `[1, rows * columns, size]`, row by row, in f32; `size` is a multiple of 4.
///
/// # Errors
/// The tensor cannot be created on the device.
///
/// # Source
/// `PositionEmbedding2D` of Open-Sora's `layers/blocks.py`; the column comes first there as well.
pub fn sin_cos_positions_2d(
    rows: usize,
    columns: usize,
    size: usize,
    scale: PositionScale,
    device: &Device,
) -> Result<Tensor> {
    let (half, frequencies) = (size / 2, size / 4);
    let frequency = |i: usize| LONGEST_PERIOD.powf(-((2 * i) as f64) / half as f64);
    let position = |index: usize, count: usize| {
        index as f64 / scale.resolution * scale.base_tokens as f64 / count as f64
    };
    let mut embedding = Vec::with_capacity(rows * columns * size);
    for row in 0..rows {
        for column in 0..columns {
            for position in [position(column, columns), position(row, rows)] {
                let angle = |i: usize| position * frequency(i);
                embedding.extend((0..frequencies).map(|i| angle(i).sin() as f32));
                embedding.extend((0..frequencies).map(|i| angle(i).cos() as f32));
            }
        }
    }
    Ok(Tensor::from_vec(embedding, (1, rows * columns, 4 * frequencies), device)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn cosines_come_before_sines() {
        let embedding = sinusoidal_embedding(&[0.0, 2.0], 4, &Device::Cpu).unwrap();
        let embedding = embedding.to_vec2::<f32>().unwrap();
        assert_eq!(embedding[0], [1., 1., 0., 0.]);
        let expected = [2f32.cos(), 0.02f32.cos(), 2f32.sin(), 0.02f32.sin()];
        for (a, b) in embedding[1].iter().zip(expected) {
            assert!((a - b).abs() < 1e-6, "{embedding:?}");
        }
    }

    #[test]
    fn the_column_fills_the_first_half() {
        let scale = PositionScale { resolution: 1.0, base_tokens: 2 };
        let plane = sin_cos_positions_2d(2, 2, 4, scale, &Device::Cpu).unwrap().squeeze(0).unwrap();
        let plane = plane.to_vec2::<f32>().unwrap();
        let (sin, cos) = (1f32.sin(), 1f32.cos());
        assert_eq!(plane[0], [0., 1., 0., 1.]);
        assert_eq!(plane[1], [sin, cos, 0., 1.], "second column of the first row");
        assert_eq!(plane[2], [0., 1., sin, cos], "first column of the second row");
    }
}
