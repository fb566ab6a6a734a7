//! How far quantised weights are from the original ones: block by block, on the same inputs.

use candle_core::{DType, Device, Tensor};

use crate::bundle::{ModelBundle, PartName};
use crate::error::{ModelError, Result};
use crate::generation::VideoSettings;
use crate::guiding_texts::GuidingTexts;
use crate::probe::{NoProbe, Probe};
use crate::sizes::VideoSize;
use crate::stdit3::{Stdit3Block, Stdit3Ends, StepInput, TextFeatures};
use crate::t5::{T5Block, TokenBatch};
use crate::weights::{BlockType, TensorSource, Weights};

/// How far one network's blocks are from the original's.
#[derive(Debug, Clone)]
pub struct NetworkDeviation {
    /// The network.
    pub part: PartName,
    /// The types that its tensors are quantised in.
    pub types: Vec<BlockType>,
    /// Each block, in the order of execution.
    pub blocks: Vec<BlockDeviation>,
    /// Bytes of all blocks as stored: what a sweep reads.
    pub stored_bytes: u64,
    /// The same of the original.
    pub original_bytes: u64,
}

/// How far one block is from the original's.
#[derive(Debug, Clone)]
pub struct BlockDeviation {
    /// Its place in the checkpoint.
    pub name: String,
    /// The norm of the difference of the two outputs, over the norm of the original's output.
    pub relative: f64,
}

impl NetworkDeviation {
    /// What is allowed: that of the type that is allowed most.
    pub fn limit(&self) -> f64 {
        self.types.iter().map(|block_type| block_type.error_limit()).fold(0.0, f64::max)
    }

    /// Whether every block is within the limit.
    pub fn passed(&self) -> bool {
        self.blocks.iter().all(|block| block.relative <= self.limit())
    }

    /// The block that is furthest off.
    pub fn worst(&self) -> Option<&BlockDeviation> {
        self.blocks.iter().max_by(|a, b| a.relative.total_cmp(&b.relative))
    }

    /// The median of all blocks; 0 when there is none.
    pub fn median(&self) -> f64 {
        let mut relative: Vec<f64> = self.blocks.iter().map(|block| block.relative).collect();
        relative.sort_by(f64::total_cmp);
        let count = relative.len();
        match relative.get(count / 2) {
            None => 0.0,
            Some(upper) if count % 2 == 1 => *upper,
            Some(upper) => (relative[count / 2 - 1] + upper) / 2.0,
        }
    }
}

/// What the blocks are run on. Our choice: a prompt of a sentence, and noise that makes a small video of several frames, so
/// that every axis of attention has something to mix.
const PROMPT: &str = "a red circle moving left to right on a blue background";
const NOISE_SEED: u64 = 42;
const SIZE: VideoSize = VideoSize { width_px: 64, height_px: 64, frames: 17 };
const FRAMES_PER_SECOND: f64 = 8.0;
/// Half-way through denoising.
const TIMESTEP: f32 = 500.0;

/// Runs each block of `quantised`'s quantised networks and the same block of `original` on the inputs that the latter has in
/// a run of the original, in f32. Weights of two blocks are in memory at a time. `told` hears each block's name.
///
/// # Errors
/// [`ModelError::BadInput`] when the two are no models of the same sizes, or nothing is quantised; weights are missing or
/// damaged.
pub fn compare_quantised(
    quantised: &ModelBundle,
    original: &ModelBundle,
    device: &Device,
    told: &mut dyn FnMut(&str),
) -> Result<Vec<NetworkDeviation>> {
    let same = quantised.t5_config() == original.t5_config()
        && quantised.stdit3_config() == original.stdit3_config();
    if !same {
        return Err(ModelError::bad_input(format!(
            "{} and {} are models of different sizes: compare a model with the one that it was made of",
            quantised.location().display(),
            original.location().display()
        )));
    }
    let mut networks = Vec::new();
    let text = compare_t5(quantised, original, device, &mut networks, told)?;
    if !quantised_types(quantised, PartName::Stdit3).is_empty() {
        networks.push(compare_stdit3(quantised, original, &text, told)?);
    }
    if networks.is_empty() {
        let location = quantised.location().display();
        let reason =
            format!("{location} has no quantised blocks: `sora quantize` writes such models");
        return Err(ModelError::BadInput(reason));
    }
    Ok(networks)
}

/// Compares the text encoders if there is something to compare, and returns the original's text features.
fn compare_t5(
    quantised: &ModelBundle,
    original: &ModelBundle,
    device: &Device,
    networks: &mut Vec<NetworkDeviation>,
    told: &mut dyn FnMut(&str),
) -> Result<Tensor> {
    let config = original.t5_config();
    let tokens = original.tokenizer(original.stdit3_config().model_max_length)?.tokenize(PROMPT)?;
    let encoder = original.text_encoder(DType::F32, device);
    let mut pass = encoder.begin(&[TokenBatch::unpadded(&tokens.ids)], &mut NoProbe)?;
    let mut network = Pair::new(PartName::T5, quantised, original, device);
    let compares = !network.found.types.is_empty();
    for index in 0..config.num_layers {
        let name = format!("encoder.block.{index}");
        let load = |weights: &Weights| T5Block::load(weights, config, index);
        let (mut expected, mut found) = (LastTap::default(), LastTap::default());
        if compares {
            told(&name);
            pass.clone().advance(&load(&network.quantised)?, &mut found)?;
        }
        pass.advance(&load(&network.original)?, &mut expected)?;
        if let (Some(expected), Some(found)) = (expected.0, found.0) {
            network.compare(name, &expected, &found, |weights| load(weights).map(drop))?;
        }
    }
    if compares {
        networks.push(network.found);
    }
    Ok(encoder.finish(pass, &mut NoProbe)?.remove(0))
}

fn compare_stdit3(
    quantised: &ModelBundle,
    original: &ModelBundle,
    text: &Tensor,
    told: &mut dyn FnMut(&str),
) -> Result<NetworkDeviation> {
    let config = original.stdit3_config();
    let mut network = Pair::new(PartName::Stdit3, quantised, original, text.device());
    let ends = Stdit3Ends::load(&network.original, config)?;
    let sampling = original.generation().sampling();
    let settings = VideoSettings { size: SIZE, frames_per_second: FRAMES_PER_SECOND, sampling };
    let mask = Tensor::ones((1, text.dim(1)?), DType::U32, text.device())?;
    let text = TextFeatures { values: text.clone(), mask };
    let prompt = settings.prepare_prompt(&ends, &GuidingTexts::alone(text))?;
    let noise = settings.noise(NOISE_SEED, &ends)?;
    let rows = prompt.rows();
    let step = StepInput {
        latent: &Tensor::cat(&vec![&noise; rows], 0)?,
        timesteps: &vec![TIMESTEP; rows],
        frame_mask: None,
        merge: None,
    };
    let (mut tokens, step) = ends.begin(&prompt, &step, &mut NoProbe)?;
    for index in 0..config.blocks() {
        let name = Stdit3Block::place(index);
        told(&name);
        let load = |weights: &Weights| Stdit3Block::load(weights, config, index);
        let found = load(&network.quantised)?.forward(&tokens, &step, &mut NoProbe)?;
        tokens = load(&network.original)?.forward(&tokens, &step, &mut NoProbe)?;
        network.compare(name, &tokens, &found, |weights| load(weights).map(drop))?;
    }
    Ok(network.found)
}

/// One network in both models, and what was found so far.
struct Pair {
    quantised: Weights,
    original: Weights,
    found: NetworkDeviation,
}

impl Pair {
    fn new(
        part: PartName,
        quantised: &ModelBundle,
        original: &ModelBundle,
        device: &Device,
    ) -> Self {
        let weights = |bundle: &ModelBundle| bundle.part(part).weights(DType::F32, device);
        let found = NetworkDeviation {
            part,
            types: quantised_types(quantised, part),
            blocks: Vec::new(),
            stored_bytes: 0,
            original_bytes: 0,
        };
        Self { quantised: weights(quantised), original: weights(original), found }
    }

    /// Notes the outputs of a block, which `load` reads.
    fn compare(
        &mut self,
        name: String,
        expected: &Tensor,
        found: &Tensor,
        load: impl Fn(&Weights) -> Result<()>,
    ) -> Result<()> {
        let norm = |tensor: &Tensor| -> Result<f64> {
            Ok(tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt())
        };
        let relative = norm(&(found - expected)?)? / norm(expected)?;
        if !relative.is_finite() {
            return Err(ModelError::NotFinite { what: format!("the output of {name}") });
        }
        self.found.blocks.push(BlockDeviation { name, relative });
        self.found.stored_bytes += self.quantised.measure(&load)?.stored;
        self.found.original_bytes += self.original.measure(&load)?.stored;
        Ok(())
    }
}

/// The types that a network's tensors are quantised in, each once.
fn quantised_types(bundle: &ModelBundle, part: PartName) -> Vec<BlockType> {
    let source = &bundle.part(part).source;
    let mut types = Vec::new();
    for block_type in source.names().iter().filter_map(|name| source.quantised(name)) {
        if !types.contains(&block_type) {
            types.push(block_type);
        }
    }
    types
}

/// Remembers what was tapped last.
#[derive(Default)]
struct LastTap(Option<Tensor>);

impl Probe for LastTap {
    fn tap(&mut self, _name: &str, tensor: &Tensor) {
        self.0 = Some(tensor.clone());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn network(relative: &[f64]) -> NetworkDeviation {
        let block = |&relative: &f64| BlockDeviation { name: format!("{relative}"), relative };
        NetworkDeviation {
            part: PartName::T5,
            types: vec![BlockType::Q8_0],
            blocks: relative.iter().map(block).collect(),
            stored_bytes: 1,
            original_bytes: 2,
        }
    }

    #[test]
    fn the_worst_block_decides_and_the_median_tells() {
        let fair = network(&[0.004, 0.002, 0.006]);
        assert_eq!((fair.median(), fair.worst().unwrap().relative), (0.004, 0.006));
        assert!(fair.passed());
        let poor = network(&[0.001, 0.02, 0.003, 0.001]);
        assert_eq!(poor.median(), 0.002);
        assert!(!poor.passed());
        let mixed = NetworkDeviation { types: vec![BlockType::Q8_0, BlockType::Q4_K], ..poor };
        assert!(mixed.passed());
    }
}
