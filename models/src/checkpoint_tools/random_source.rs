//! Random weights in memory: to run a part of a model that is nowhere on disk.

use std::convert::Infallible;
use std::path::Path;

use candle_core::{DType, Device, Shape, Tensor, WithDType};
use half::{bf16, f16};

use super::random_weights::RandomWeights;
use super::storage_dtype::StorageDtype;
use super::synth::PIECE_BYTES;
use crate::bundle::PartName;
use crate::error::{ModelError, Result};
use crate::weights::{TensorInfo, TensorSource};

/// Has every tensor that is asked for, in the shape that is asked for, made up on the spot and not kept.
///
/// The values are those that [`Synthesis`](super::Synthesis) writes for the same seed, except for what a config gives
/// (`scale` and `shift` of the autoencoder), which are drawn like the rest. No tensor is in memory twice, so what a part
/// of a model takes with these weights is what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomSource {
    part: PartName,
    seed: u64,
}

impl RandomSource {
    /// The weights of `part`, as they follow from `seed`.
    pub fn new(part: PartName, seed: u64) -> Self {
        Self { part, seed }
    }
}

impl TensorSource for RandomSource {
    fn location(&self) -> &Path {
        Path::new("(random weights)")
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    /// No tensor is stored, so none has a header, and optional ones are absent.
    fn info(&self, _name: &str) -> Option<TensorInfo> {
        None
    }

    fn read(&self, name: &str, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
        let weights = RandomWeights::of_part(self.seed, self.part, name, shape.dims());
        draw(&weights, 0, shape, dtype, device)
    }

    fn read_rows(
        &self,
        name: &str,
        shape: &Shape,
        rows: &[u32],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let &[height, ref row_shape @ ..] = shape.dims() else {
            return self.read(name, shape, dtype, device);
        };
        let first = rows.first().map_or(0, |&row| row as usize);
        let follow =
            rows.iter().zip(first..height).filter(|&(&row, at)| row as usize == at).count();
        let start = first * row_shape.iter().product::<usize>();
        if follow != rows.len() || !RandomWeights::can_start_at(start) {
            let rows = Tensor::new(rows, device)?;
            return Ok(self.read(name, shape, dtype, device)?.index_select(&rows, 0)?);
        }
        let weights = RandomWeights::of_part(self.seed, self.part, name, shape.dims());
        let shape = Shape::from([&[rows.len()], row_shape].concat());
        draw(&weights, start, &shape, dtype, device)
    }
}

/// Draws a tensor whose first value is the weights' value `start`.
fn draw(
    weights: &RandomWeights,
    start: usize,
    shape: &Shape,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let place = (start, shape, device);
    match dtype {
        DType::F32 => draw_values(weights, StorageDtype::F32, f32::from_le_bytes, place),
        DType::F16 => draw_values(weights, StorageDtype::F16, f16::from_le_bytes, place),
        DType::BF16 => draw_values(weights, StorageDtype::Bf16, bf16::from_le_bytes, place),
        other => Err(ModelError::bad_input(format!(
            "random weights in {}: expected f32, f16 or bf16",
            other.as_str()
        ))),
    }
}

/// Draws the values straight into the tensor's own memory.
fn draw_values<const SIZE: usize, T: WithDType>(
    weights: &RandomWeights,
    dtype: StorageDtype,
    value: fn([u8; SIZE]) -> T,
    (start, shape, device): (usize, &Shape, &Device),
) -> Result<Tensor> {
    let elements = start..start + shape.elem_count();
    let mut values: Vec<T> = Vec::with_capacity(elements.len());
    let drawn: Result<(), Infallible> =
        weights.stream(elements, dtype, &mut vec![0; PIECE_BYTES], |piece| {
            values.extend(piece.as_chunks::<SIZE>().0.iter().map(|bytes| value(*bytes)));
            Ok(())
        });
    let Ok(()) = drawn;
    Ok(Tensor::from_vec(values, shape, device)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;
    use crate::bundle::ModelBundle;
    use crate::checkpoint_tools::{Preset, Synthesis};
    use crate::weights::Weights;

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_part_has_the_values_that_a_written_model_has() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("model");
        let synthesis =
            Synthesis { preset: Preset::Tiny, dtype: StorageDtype::F32, seed: 5, replace: false };
        synthesis.write(&folder, &mut |_, _| ()).unwrap();
        let bundle = ModelBundle::open(&folder).unwrap();
        let written = bundle.part(PartName::Stdit3).weights(DType::F32, &Device::Cpu);
        let source = Arc::new(RandomSource::new(PartName::Stdit3, 5));
        let drawn = Weights::new(source, DType::F32, &Device::Cpu);
        let parameters = Preset::Tiny.parameters(PartName::Stdit3).unwrap();
        for name in ["spatial_blocks.0.mlp.fc1.weight", "t_block.1.bias", "final_layer.linear.bias"]
        {
            let shape = parameters[name].as_slice();
            let (written, drawn) = (written.tensor(name, shape), drawn.tensor(name, shape));
            assert_eq!(values(&written.unwrap()), values(&drawn.unwrap()), "{name}");
        }
        assert!(!drawn.has("rope.freqs"), "frequencies that follow from the config are not drawn");
    }

    #[test]
    fn rows_are_those_of_the_whole_tensor() {
        let source = RandomSource::new(PartName::T5, 1);
        let shape = Shape::from((7, 6));
        let whole = source.read("a.weight", &shape, DType::F32, &Device::Cpu).unwrap();
        // Some that follow each other, from where values can be drawn and from where they cannot; others; and none.
        for rows in [&[2u32, 3][..], &[1, 2], &[5, 0, 5], &[]] {
            let found = source.read_rows("a.weight", &shape, rows, DType::F32, &Device::Cpu);
            let expected: Vec<f32> =
                rows.iter().flat_map(|&row| values(&whole.get(row as usize).unwrap())).collect();
            assert_eq!(values(&found.unwrap()), expected, "{rows:?}");
        }
        assert!(source.read_rows("a.weight", &shape, &[7], DType::F32, &Device::Cpu).is_err());
    }

    #[test]
    fn every_compute_dtype_can_be_drawn_and_others_are_refused() {
        let source = RandomSource::new(PartName::T5, 1);
        let draw = |dtype| source.read("a.weight", &Shape::from((30, 50)), dtype, &Device::Cpu);
        let exact = values(&draw(DType::F32).unwrap());
        for dtype in [DType::F16, DType::BF16] {
            let rounded = draw(dtype).unwrap();
            assert_eq!((rounded.dims(), rounded.dtype()), (&[30, 50][..], dtype));
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= a.abs() / 128.0;
            assert!(exact.iter().zip(&values(&rounded)).all(near), "{dtype:?}");
        }
        assert!(draw(DType::U8).unwrap_err().to_string().contains("bf16"));
    }
}
