//! A dense layer by itself: the most that matrix products reach on a machine.

use serde::{Deserialize, Serialize};
use sora_models::Result;
use sora_models::bundle::PartName;
use sora_models::nn::Linear;

use super::{BuiltPart, PartMaker};

/// A square matrix through a dense layer of the same width, without a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SquareMatmul {
    /// Rows and columns of both matrices.
    pub side: usize,
}

impl SquareMatmul {
    /// What other parts are compared with. Our choice: the matrices are too large for a processor's caches, and still
    /// take a fraction of a second.
    pub const REFERENCE: Self = Self { side: 2048 };

    pub(super) fn build(&self, maker: &PartMaker) -> Result<BuiltPart> {
        let weights = maker.weights(PartName::T5);
        let layer = Linear::load_without_bias(&weights, self.side, self.side)?;
        let x = maker.input(&[self.side, self.side])?;
        Ok(Box::new(move || layer.forward(&x)))
    }

    pub(super) fn multiplications(&self) -> usize {
        self.side.pow(3)
    }

    pub(super) fn description(&self) -> String {
        format!("product of two matrices of {0}x{0}", self.side)
    }
}
