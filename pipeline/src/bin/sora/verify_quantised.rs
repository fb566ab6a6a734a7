//! `sora verify --model … --against …`: what quantised weights cost, block by block.

use std::path::Path;

use candle_core::Device;
use indicatif::ProgressBar;
use serde_json::json;
use sora_models::bundle::ModelBundle;
use sora_models::verify::{NetworkDeviation, compare_quantised};

use crate::arguments::open_original;
use crate::exit::Outcome;
use crate::print::result;

/// Compares the model in `folder` with the one it was made of and prints a line for each quantised network.
///
/// # Errors
/// A model cannot be used, they are of different sizes, or nothing is quantised.
pub fn run(folder: &Path, against: &Path, device: &Device, json: bool) -> anyhow::Result<Outcome> {
    let (quantised, original) = (ModelBundle::open(folder)?, open_original(against)?);
    let spinner = ProgressBar::new_spinner();
    let networks = compare_quantised(&quantised, &original, device, &mut |block| {
        spinner.set_message(block.to_string());
        spinner.tick();
    });
    spinner.finish_and_clear();
    let networks = networks?;
    for network in &networks {
        result(&if json { json_line(network) } else { text_line(network) });
    }
    let passed = networks.iter().all(NetworkDeviation::passed);
    Ok(if passed { Outcome::Done } else { Outcome::SomeFailed })
}

fn text_line(network: &NetworkDeviation) -> String {
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let (worst, name) = worst(network);
    format!(
        "{:<7} {:<10} {} blocks: error {} in the median, {} at worst ({name}), {} allowed; \
         {:.1} MB where {:.1} MB were ({:.3})  {}",
        network.part.folder(),
        types(network).join("+"),
        network.blocks.len(),
        percent(network.median()),
        percent(worst),
        percent(network.limit()),
        network.stored_bytes as f64 / 1e6,
        network.original_bytes as f64 / 1e6,
        share(network),
        if network.passed() { "pass" } else { "FAIL" },
    )
}

fn json_line(network: &NetworkDeviation) -> String {
    let (worst, name) = worst(network);
    let blocks = network.blocks.iter().map(|block| (block.name.clone(), json!(block.relative)));
    json!({
        "network": network.part.folder(),
        "types": types(network),
        "passed": network.passed(),
        "median_relative": network.median(),
        "worst_relative": worst,
        "worst_block": name,
        "allowed_relative": network.limit(),
        "stored_bytes": network.stored_bytes,
        "original_bytes": network.original_bytes,
        "blocks": blocks.collect::<serde_json::Map<_, _>>(),
    })
    .to_string()
}

fn worst(network: &NetworkDeviation) -> (f64, &str) {
    network.worst().map_or((0.0, "none"), |block| (block.relative, &block.name))
}

fn types(network: &NetworkDeviation) -> Vec<&'static str> {
    network.types.iter().map(|block_type| block_type.name()).collect()
}

fn share(network: &NetworkDeviation) -> f64 {
    network.stored_bytes as f64 / network.original_bytes.max(1) as f64
}
