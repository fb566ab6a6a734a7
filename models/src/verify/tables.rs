//! Cases of kind `sizes`: tables of inputs and results, as JSON.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::case::Case;
use super::compare::Comparison;
use crate::error::{ModelError, Result};
use crate::mask_strategy::{MaskStrategy, nearest_multiple};
use crate::prompt_notation::{LoopedPrompt, PromptScores, PromptWithReferences};
use crate::sizes::{
    VideoSize, aspect_ratio_key, frames_of_whole_chunks, parse_frames, picture_size, pixel_count,
};

pub(super) fn run(case: &Case, comparison: &mut Comparison) -> Result<()> {
    let tables: Map<String, Value> = case.part("/tables")?;
    for (name, table) in &tables {
        let malformed = |cause: String| case.unusable(format!("table `{name}`: {cause}"));
        match table {
            // A table of single values: name to result.
            Value::Object(entries) => {
                for (input, result) in entries {
                    let row = json!({ "input": input, "result": result });
                    check_row(comparison, name, &row).map_err(malformed)?;
                }
            }
            Value::Array(rows) => {
                for row in rows {
                    check_row(comparison, name, row).map_err(malformed)?;
                }
            }
            _ => return Err(malformed("it is neither an object nor a list".into())),
        }
    }
    Ok(())
}

/// Compares one row; the error says why the row cannot be read.
fn check_row(comparison: &mut Comparison, table: &str, row: &Value) -> Result<(), String> {
    let result = answer(table, row)?;
    let agrees = match (&result, expected(row)) {
        (Ok(found), Some(wanted)) => *found == wanted,
        (Err(_), None) => true,
        _ => false,
    };
    comparison.check_that(table, agrees, || match result {
        Ok(found) => format!("{row} gave {found}"),
        Err(error) => format!("{row} was refused: {error}"),
    });
    Ok(())
}

/// What a row wants: `result`, or the other fields that hold results; `None` when it wants a refusal.
fn expected(row: &Value) -> Option<Value> {
    match (row.get("split"), row.get("merged")) {
        (Some(split), Some(merged)) => Some(json!([split, merged])),
        _ => row.get("result").cloned(),
    }
}

/// What this crate makes of a row's inputs.
fn answer(table: &str, row: &Value) -> Result<Result<Value>, String> {
    Ok(match table {
        "aspect_ratio_keys" => {
            aspect_ratio_key(&field::<String>(row, "input")?).map(|key| json!(key))
        }
        "get_image_size" => {
            let (name, ratio) =
                (field::<String>(row, "resolution")?, field::<String>(row, "aspect_ratio")?);
            picture_size(&name, &ratio).map(|size| json!([size.height_px, size.width_px]))
        }
        "num_pixels" => pixel_count(&field::<String>(row, "input")?).map(|pixels| json!(pixels)),
        "get_num_frames" => parse_frames(&text_or_number(row)?).map(|frames| json!(frames)),
        "get_latent_size" => {
            let [frames, height_px, width_px] = field(row, "input")?;
            VideoSize { height_px, width_px, frames }.latent().map(|latent| json!(latent))
        }
        "append_score_to_prompts" => Ok(scored_prompts(row)?),
        "parse_mask_strategy" => mask_strategies(&field::<String>(row, "input")?),
        "find_nearest_point" => {
            let (value, point) = (field(row, "value")?, field(row, "point")?);
            Ok(json!(nearest_multiple(value, point, field(row, "max_value")?)))
        }
        "split_merge_prompt" => {
            LoopedPrompt::parse(&field::<String>(row, "input")?).map(|prompt| {
                let texts = prompt.texts();
                json!([[texts, prompt.first_loops()], prompt.with_texts(&texts)])
            })
        }
        "extract_prompts_loop" => {
            let index = field(row, "loop")?;
            LoopedPrompt::parse(&field::<String>(row, "input")?).map(|p| json!(p.at(index)))
        }
        "extract_json_from_prompts" => PromptWithReferences::parse(&field::<String>(row, "input")?)
            .map(|parsed| {
                json!([[parsed.prompt], [parsed.reference_path], [parsed.mask_strategy]])
            }),
        "prepare_multi_resolution_info" => Ok(conditioning(row)?),
        "dframe_to_frame" => frames_of_whole_chunks(field(row, "input")?).map(|n| json!(n)),
        unknown => return Err(format!("`{unknown}` is not known to this version")),
    })
}

fn field<T: DeserializeOwned>(row: &Value, name: &str) -> Result<T, String> {
    let value = row.get(name).cloned().unwrap_or(Value::Null);
    serde_json::from_value(value).map_err(|cause| format!("field `{name}` of {row}: {cause}"))
}

fn text_or_number(row: &Value) -> Result<String, String> {
    match row.get("input") {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        _ => Err(format!("field `input` of {row} is neither text nor a number")),
    }
}

fn scored_prompts(row: &Value) -> Result<Value, String> {
    let scores = PromptScores {
        aesthetic: field(row, "aes")?,
        motion: field(row, "flow")?,
        camera_motion: field(row, "camera_motion")?,
    };
    let prompts: Vec<String> = field(row, "prompts")?;
    Ok(prompts.iter().map(|prompt| scores.append_to(prompt)).collect())
}

fn mask_strategies(text: &str) -> Result<Value, ModelError> {
    let entries = MaskStrategy::parse_list(text)?.into_iter().map(|entry| {
        // Through its shortest decimal form: 0.3 must come out as 0.3, not as the nearest f32.
        let ratio: f64 = entry.edit_ratio.to_string().parse().unwrap_or(f64::NAN);
        json!([
            entry.loop_index,
            entry.reference,
            entry.reference_start,
            entry.target_start,
            entry.length,
            ratio
        ])
    });
    Ok(entries.collect())
}

fn conditioning(row: &Value) -> Result<Value, String> {
    let [height_px, width_px] = field(row, "image_size")?;
    let size = VideoSize { height_px, width_px, frames: field(row, "num_frames")? };
    Ok(json!({
        "height": [height_px as f64],
        "width": [width_px as f64],
        "num_frames": [size.frames as f64],
        "ar": [size.aspect_ratio()],
        "fps": [size.conditioning_frame_rate(field(row, "fps")?)],
    }))
}
