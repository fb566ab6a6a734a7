//! The affine map `x W^T + b`.

mod packed;
mod product;
#[cfg(test)]
mod tests;

use candle_core::{Module, Tensor};

use crate::error::Result;
use crate::weights::Weights;
use product::Product;

pub(crate) use packed::{Activation, PackedLinear, ProductScratch};
pub(crate) use product::rows_of_a_share;

/// A dense layer over the last axis.
pub struct Linear(Kind);

enum Kind {
    Packed(PackedLinear),
    Plain(candle_nn::Linear),
}

impl Linear {
    /// Reads `weight` `[out_features, in_features]` and `bias` `[out_features]`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(weights: &Weights, in_features: usize, out_features: usize) -> Result<Self> {
        let bias = weights.tensor("bias", out_features)?;
        Self::read(weights, in_features, out_features, Some(bias))
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
        Self::read(weights, in_features, out_features, None)
    }

    fn read(
        weights: &Weights,
        in_features: usize,
        out_features: usize,
        bias: Option<Tensor>,
    ) -> Result<Self> {
        if let Some(packed) = PackedLinear::load(weights, in_features, out_features, bias.as_ref())?
        {
            return Ok(Self(Kind::Packed(packed)));
        }
        let weight = weights.tensor("weight", (out_features, in_features))?;
        Ok(Self(Kind::Plain(candle_nn::Linear::new(weight, bias))))
    }

    /// # Shapes
    /// `[..., in_features]` to `[..., out_features]`.
    ///
    /// # Errors
    /// The last axis is not `in_features` long.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.0 {
            Kind::Plain(plain) => Ok(plain.forward(x)?),
            Kind::Packed(packed) => {
                let x = x.contiguous()?;
                Ok(x.apply_op1_no_bwd(&Product { linear: packed })?)
            }
        }
    }

    /// The weights as the CPU multiplies them, for whoever works on rows where they lie; `None` elsewhere.
    pub(crate) fn packed(&self) -> Option<&PackedLinear> {
        match &self.0 {
            Kind::Packed(packed) => Some(packed),
            Kind::Plain(_) => None,
        }
    }
}
