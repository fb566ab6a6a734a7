//! Kinds `t5` and `tokenizer`.

use std::path::PathBuf;

use candle_core::{Device, Tensor};
use serde::Deserialize;

use super::case::Case;
use super::compare::Comparison;
use crate::error::Result;
use crate::t5::{CaptionCleaning, PromptTokenizer, T5Config, T5Encoder, TokenBatch, caption};

/// The encoder on padded ids, and its first row alone without padding.
pub(super) fn t5(case: &Case, device: &Device, comparison: &mut Comparison) -> Result<()> {
    let config = encoder_config(case, "/config")?;
    let encoder = T5Encoder::new(case.weights(None, device)?, config);
    let (ids, mask) = (case.tensor("input_ids", device)?, case.tensor("attention_mask", device)?);
    encoder.encode(&[TokenBatch::padded(&ids, &mask)?], comparison)?;

    let name = "last_hidden_state_row0_unpadded";
    if let Some(length) = case.shapes().get(name).and_then(|shape| shape.get(1)) {
        let first: Vec<u32> =
            ids.get(0)?.narrow(0, 0, *length)?.to_dtype(candle_core::DType::U32)?.to_vec1()?;
        let alone = encoder.encode(&[TokenBatch::unpadded(&first)], &mut crate::probe::NoProbe)?;
        comparison.check(name, &alone[0]);
    }
    Ok(())
}

/// The encoder's config at `pointer`, checked as a checkpoint's is.
pub(super) fn encoder_config(case: &Case, pointer: &str) -> Result<T5Config> {
    let config: serde_json::Value = case.part(pointer)?;
    T5Config::from_json(&config.to_string(), &case.dir.join("case.json"))
}

#[derive(Deserialize)]
struct Params {
    model_max_length: usize,
    pad_token_id: u32,
    eos_token_id: u32,
    tokenizer: PathBuf,
}

#[derive(Deserialize)]
struct Item {
    index: usize,
    prompt: String,
    cleaned_once: String,
    cleaned: String,
    lower_strip: String,
    ids: Vec<u32>,
    raw_ids: Vec<u32>,
}

/// Cleaning and tokenising of prompts, each step on its own.
pub(super) fn tokenizer(case: &Case, device: &Device, comparison: &mut Comparison) -> Result<()> {
    let params: Params = case.part("/params")?;
    let items: Vec<Item> = case.part("/items")?;
    let config = any_encoder(params.pad_token_id, params.eos_token_id);
    let file = case.dir.join(&params.tokenizer);
    let tokenizer = PromptTokenizer::open(&file, &config, params.model_max_length)?;

    let (mut all_ids, mut all_masks) = (Vec::new(), Vec::new());
    for item in &items {
        let cleaned = CaptionCleaning::OpenSora.apply(&item.prompt)?;
        let texts = [
            ("cleaned_once", caption::clean_once(&item.prompt)?, &item.cleaned_once),
            ("cleaned", cleaned.clone(), &item.cleaned),
            ("lower_strip", CaptionCleaning::LowerStrip.apply(&item.prompt)?, &item.lower_strip),
        ];
        for (field, actual, expected) in &texts {
            let name = format!("items[{}].{field}", item.index);
            comparison.check_that(&name, actual == *expected, || {
                format!("{actual:?} instead of {expected:?}")
            });
        }
        let prompt = tokenizer.tokenize(&cleaned)?;
        let raw = tokenizer.tokenize(&item.prompt)?;
        for (field, actual, expected) in
            [("ids", &prompt.ids, &item.ids), ("raw_ids", &raw.ids, &item.raw_ids)]
        {
            let name = format!("items[{}].{field}", item.index);
            comparison.check_that(&name, actual == expected, || {
                format!("{actual:?} instead of {expected:?}")
            });
        }
        let (ids, mask) = prompt.padded();
        all_ids.push(ids);
        all_masks.push(mask);
    }
    comparison.check("input_ids", &Tensor::new(all_ids, device)?);
    comparison.check("attention_mask", &Tensor::new(all_masks, device)?);
    Ok(())
}

/// A config that only says which tokens pad and end; these cases have no encoder.
fn any_encoder(pad_token_id: u32, eos_token_id: u32) -> T5Config {
    T5Config {
        vocab_size: u32::MAX as usize,
        d_model: 1,
        d_kv: 1,
        num_heads: 1,
        d_ff: 1,
        num_layers: 1,
        relative_attention_num_buckets: 32,
        relative_attention_max_distance: 128,
        layer_norm_epsilon: 1e-6,
        feed_forward_proj: "gated-gelu".into(),
        pad_token_id,
        eos_token_id,
    }
}
