//! The affine map `x W^T + b`.

use candle_core::{Module, Tensor};

use crate::error::Result;
use crate::weights::Weights;

/// A dense layer over the last axis.
pub struct Linear(candle_nn::Linear);

impl Linear {
    /// Reads `weight` `[out_features, in_features]` and `bias` `[out_features]`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(weights: &Weights, in_features: usize, out_features: usize) -> Result<Self> {
        let bias = weights.tensor("bias", out_features)?;
        let weight = weights.tensor("weight", (out_features, in_features))?;
        Ok(Self(candle_nn::Linear::new(weight, Some(bias))))
    }

    /// Reads `weight` `[out_features, in_features]`; there is no bias.
    ///
    /// # Errors
    /// The tensor is missing or has another shape.
    pub fn load_without_bias(
        weights: &Weights,
        in_features: usize,
        out_features: usize,
    ) -> Result<Self> {
        let weight = weights.tensor("weight", (out_features, in_features))?;
        Ok(Self(candle_nn::Linear::new(weight, None)))
    }

    /// # Shapes
    /// `[..., in_features]` to `[..., out_features]`.
    ///
    /// # Errors
    /// The last axis is not `in_features` long.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.0.forward(x)?)
    }
}
