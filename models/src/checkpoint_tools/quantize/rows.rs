//! Quantising one matrix, a few rows at a time.

use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Shape, Tensor};
use half::f16;
use rayon::prelude::*;

use crate::checkpoint_tools::{Result, ToolError};
use crate::error::ModelError;
use crate::weights::{BlockType, Checkpoint, TensorSource};

/// Our choice: values of the rows that are quantised at a time.
const PIECE_VALUES: usize = 2 << 20;

/// Reads the matrix `name` and hands out its blocks, in order.
///
/// # Errors
/// The checkpoint cannot be read, a number is not finite or too large, or those of `take`.
pub(super) fn quantise(
    source: &Checkpoint,
    name: &str,
    shape: &[usize],
    block_type: BlockType,
    take: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let width: usize = shape[1..].iter().product();
    let rows: Vec<u32> = (0..shape[0] as u32).collect();
    let shape = Shape::from(shape);
    for piece in rows.chunks((PIECE_VALUES / width.max(1)).max(1)) {
        let values = source.read_rows(name, &shape, piece, DType::F32, &Device::Cpu)?;
        let values = values.flatten_all().and_then(|values| values.to_vec1::<f32>());
        let values = values.map_err(ModelError::from)?;
        check(&values, source, name)?;
        // Rows do not depend on each other, so threads share them.
        let share = piece.len().div_ceil(rayon::current_num_threads()).max(1) * width;
        let blocks: Vec<Vec<u8>> = values
            .par_chunks(share)
            .map(|values| blocks(values, width, block_type))
            .collect::<candle_core::Result<_>>()
            .map_err(ModelError::from)?;
        blocks.iter().try_for_each(|blocks| take(blocks))?;
    }
    Ok(())
}

fn blocks(values: &[f32], width: usize, block_type: BlockType) -> candle_core::Result<Vec<u8>> {
    let rows = Tensor::from_slice(values, (values.len() / width, width), &Device::Cpu)?;
    Ok(QTensor::quantize(&rows, block_type.ggml())?.data()?.into_owned())
}

/// Whether every number can be in a block. Its scale is an f16, so it does for numbers within f16's range.
fn check(values: &[f32], source: &Checkpoint, name: &str) -> Result<()> {
    let most = f16::MAX.to_f32();
    match values.iter().find(|value| !value.is_finite() || value.abs() > most) {
        None => Ok(()),
        Some(&value) => Err(ToolError::NotQuantisable {
            file: source.location().to_path_buf(),
            tensor: name.to_string(),
            value,
        }),
    }
}
