//! Moving one tensor from a checkpoint into a file, a few rows at a time.

use candle_core::{DType, Device, Shape, Tensor};
use half::{bf16, f16};
use safetensors::View;

use crate::checkpoint_tools::safetensors_writer::PlannedTensor;
use crate::checkpoint_tools::{Result, ToolError};
use crate::error::ModelError;
use crate::weights::{Checkpoint, TensorSource};

/// Our choice: stored bytes of the rows that are read at a time.
const PIECE_BYTES: usize = 8 << 20;

/// Reads `tensor` and hands out its bytes in the planned dtype, in order.
///
/// # Errors
/// The checkpoint cannot be read, a value does not fit the dtype, or those of `take`.
pub(in crate::checkpoint_tools) fn copy(
    source: &Checkpoint,
    tensor: &PlannedTensor,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let (name, shape) = (tensor.name.as_str(), Shape::from(tensor.shape.as_slice()));
    let stored_dtype = source.info(name).map_or(tensor.dtype, |info| info.dtype);
    let mut convert = |stored: Tensor| {
        let converted = stored.to_dtype(tensor.dtype).map_err(ModelError::from)?;
        check_range(&stored, &converted, source, name)?;
        take(&View::data(&converted))
    };
    let bytes = tensor.elements() * stored_dtype.size_in_bytes();
    if bytes <= PIECE_BYTES {
        return convert(source.read(name, &shape, stored_dtype, &Device::Cpu)?);
    }
    let rows: Vec<u32> = (0..tensor.shape[0] as u32).collect();
    let count = PIECE_BYTES * rows.len() / bytes;
    for piece in rows.chunks(count.max(1)) {
        convert(source.read_rows(name, &shape, piece, stored_dtype, &Device::Cpu)?)?;
    }
    Ok(())
}

/// Whether every finite number stayed finite.
fn check_range(stored: &Tensor, converted: &Tensor, source: &Checkpoint, name: &str) -> Result<()> {
    if stored.dtype() == converted.dtype() {
        return Ok(());
    }
    let places = infinite_places(converted).map_err(ModelError::from)?;
    for place in places {
        let value = value_at(stored, place).map_err(ModelError::from)?;
        if value.is_finite() {
            return Err(ToolError::Overflow {
                file: source.location().to_path_buf(),
                tensor: name.to_string(),
                dtype: converted.dtype().as_str(),
                value,
            });
        }
    }
    Ok(())
}

/// Positions of numbers that are not finite; none in dtypes wider than those that overflow.
fn infinite_places(tensor: &Tensor) -> candle_core::Result<Vec<usize>> {
    fn places<T>(values: &[T], is_finite: impl Fn(&T) -> bool) -> Vec<usize> {
        let values = values.iter().enumerate();
        values.filter(|(_, value)| !is_finite(value)).map(|(place, _)| place).collect()
    }
    let flat = tensor.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::F16 => places(&flat.to_vec1::<f16>()?, |value| value.is_finite()),
        DType::BF16 => places(&flat.to_vec1::<bf16>()?, |value| value.is_finite()),
        DType::F32 => places(&flat.to_vec1::<f32>()?, |value| value.is_finite()),
        _ => Vec::new(),
    })
}

fn value_at(tensor: &Tensor, place: usize) -> candle_core::Result<f64> {
    tensor.flatten_all()?.get(place)?.to_dtype(DType::F64)?.to_scalar()
}
