//! Which parameters are loaded together.

use super::{ParameterRecorder, Weights};
use crate::error::Result;

/// Parameters that are loaded together, such as those of a block, in the order in which they are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadGroup {
    /// What it is, such as `encoder.block.3`.
    pub name: String,
    /// Official name and shape of each.
    pub parameters: Vec<(String, Vec<usize>)>,
}

impl LoadGroup {
    /// Everything that `load` asks for.
    ///
    /// # Errors
    /// Whatever `load` brings up.
    pub fn record(
        name: impl Into<String>,
        load: impl FnOnce(&Weights) -> Result<()>,
    ) -> Result<Self> {
        let parameters = ParameterRecorder::record_in_order(load)?;
        Ok(Self { name: name.into(), parameters })
    }
}
