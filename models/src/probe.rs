//! Looking inside a forward pass without changing it.

use candle_core::Tensor;

/// Receives named intermediates of a forward pass. Names are those of the golden cases (`spatial_0`, `x_embed`).
pub trait Probe {
    /// Called with each intermediate in order of computation.
    fn tap(&mut self, name: &str, tensor: &Tensor);

    /// Whether it needs what happens between a block's input and its output. The fastest ways through a block keep none
    /// of that, so they are not taken then.
    fn looks_inside_blocks(&self) -> bool {
        true
    }
}

/// The probe that looks at nothing.
pub struct NoProbe;

impl Probe for NoProbe {
    fn tap(&mut self, _name: &str, _tensor: &Tensor) {}

    fn looks_inside_blocks(&self) -> bool {
        false
    }
}
