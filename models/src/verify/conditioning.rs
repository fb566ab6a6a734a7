//! Cases of kind `apply_mask_strategy`: reference frames copied into the noise.

use candle_core::{Device, Tensor};
use serde::Deserialize;

use super::case::Case;
use super::compare::Comparison;
use crate::error::Result;
use crate::mask_strategy::{self, MaskStrategy};

#[derive(Deserialize)]
struct Params {
    mask_strategy: Vec<String>,
    loop_i: usize,
    align: Option<usize>,
    /// Frames of every reference of every sample.
    ref_lengths: Vec<Vec<usize>>,
}

pub(super) fn run(case: &Case, device: &Device, comparison: &mut Comparison) -> Result<()> {
    let params: Params = case.part("/params")?;
    let noise = case.tensor("z", device)?;
    let (mut latents, mut masks) = (Vec::new(), Vec::new());
    for (sample, strategies) in params.mask_strategy.iter().enumerate() {
        let count = params.ref_lengths.get(sample).map_or(0, Vec::len);
        let references =
            (0..count).map(|index| case.tensor(&format!("ref_{sample}_{index}"), device));
        let references = references.collect::<Result<Vec<_>>>()?;
        let masked = mask_strategy::apply(
            &noise.narrow(0, sample, 1)?,
            &references,
            &MaskStrategy::parse_list(strategies)?,
            params.loop_i,
            params.align,
        )?;
        latents.push(masked.latent);
        masks.push(Tensor::new(masked.frame_mask, &Device::Cpu)?.unsqueeze(0)?);
    }
    comparison.check("z_conditioned", &Tensor::cat(&latents, 0)?);
    comparison.check("mask", &Tensor::cat(&masks, 0)?);
    Ok(())
}
