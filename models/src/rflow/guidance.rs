//! Classifier-free guidance.

use candle_core::Tensor;

use crate::error::{ModelError, Result};

/// `unconditional + scale * (conditional - unconditional)`, of the velocity channels.
///
/// # Shapes
/// Model output `[2n, at least channels, T, H, W]`, conditional rows first, to `[n, channels, T, H, W]`.
///
/// # Errors
/// [`ModelError::BadInput`] when the output has an odd number of rows, or too few channels.
///
/// # Source
/// `RFLOW.sample` of `schedulers/rf/__init__.py`; the channels behind the velocity (`pred_sigma`) are unused there too.
pub fn guided_velocity(output: &Tensor, channels: usize, scale: f64) -> Result<Tensor> {
    let (rows, found, ..) = output.dims5()?;
    if !rows.is_multiple_of(2) || found < channels {
        return Err(ModelError::bad_input(format!(
            "a model output of {:?} holds no pairs of conditional and unconditional rows with {channels} channels",
            output.dims()
        )));
    }
    let velocity = output.narrow(1, 0, channels)?;
    let conditional = velocity.narrow(0, 0, rows / 2)?;
    let unconditional = velocity.narrow(0, rows / 2, rows / 2)?;
    let difference = (conditional - &unconditional)?;
    Ok((unconditional + (difference * scale)?)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::Device;

    use super::*;

    #[test]
    fn guidance_goes_beyond_the_conditional_velocity() {
        let output = Tensor::new(&[3f32, 100., 1., 100.], &Device::Cpu).unwrap();
        let output = output.reshape((2, 2, 1, 1, 1)).unwrap();
        let velocity = |scale| {
            let guided = guided_velocity(&output, 1, scale).unwrap();
            assert_eq!(guided.dims(), [1, 1, 1, 1, 1]);
            guided.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0]
        };
        assert_eq!((velocity(0.0), velocity(1.0), velocity(7.0)), (1.0, 3.0, 15.0));
        assert!(guided_velocity(&output, 3, 7.0).is_err());
    }
}
