//! The affine map `x W^T + b`.

mod laid_out_rows;
mod packed;
mod product;
#[cfg(test)]
mod tests;

use candle_core::{Module, Tensor};

use crate::error::Result;
use crate::nn::gelu_gated;
use crate::nn::rows::is_plain;
use crate::weights::Weights;
use product::{Combination, CombinedLayer, products};

pub(crate) use packed::{Activation, PackedLinear, ProductScratch, sums_of_a_row};
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
                let [product] = products([CombinedLayer::alone(packed)], x)?;
                Ok(product)
            }
        }
    }

    /// [`Linear::forward`] of several layers with the same input: where it has few rows, threads go through all layers
    /// without waiting for each other, with rows that are laid out once.
    ///
    /// # Errors
    /// The last axis is not as long as the input of each.
    pub fn forward_each<const LAYERS: usize>(
        layers: [&Self; LAYERS],
        x: &Tensor,
    ) -> Result<[Tensor; LAYERS]> {
        let packed: Vec<_> =
            layers.iter().filter_map(|layer| layer.packed()).map(CombinedLayer::alone).collect();
        if let Ok(packed) = packed.try_into() {
            return products(packed, x);
        }
        let mut each = Vec::with_capacity(LAYERS);
        for layer in layers {
            each.push(layer.forward(x)?);
        }
        Ok(each.try_into().expect("invariant: each layer has made one product"))
    }

    /// [`gelu_gated`] of two layers with the same input.
    ///
    /// # Errors
    /// The last axis is not as long as the input of both, or their outputs differ in length.
    pub fn forward_gelu_gated(gate: &Self, up: &Self, x: &Tensor) -> Result<Tensor> {
        match (up.packed(), gate.packed()) {
            (Some(up), Some(gate)) if up.out_features() == gate.out_features() => {
                let with = Combination::Gate(gate);
                let [hidden] = products([CombinedLayer { layer: up, with }], x)?;
                Ok(hidden)
            }
            _ => gelu_gated(&gate.forward(x)?, &up.forward(x)?),
        }
    }

    /// `onto + forward(x)`.
    ///
    /// # Errors
    /// The last axis is not `in_features` long, or `onto` has not the result's shape.
    pub fn forward_onto(&self, x: &Tensor, onto: &Tensor) -> Result<Tensor> {
        let all_but_last = |x: &Tensor| x.dims().split_last().map(|(_, dims)| dims.to_vec());
        match self.packed() {
            Some(layer)
                if is_plain(onto)
                    && all_but_last(onto) == all_but_last(x)
                    && onto.dims().last() == Some(&layer.out_features()) =>
            {
                let with = Combination::Onto(onto);
                let [sum] = products([CombinedLayer { layer, with }], x)?;
                Ok(sum)
            }
            _ => Ok((onto + self.forward(x)?)?),
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
