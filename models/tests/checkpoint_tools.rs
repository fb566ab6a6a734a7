//! Model folders that are made up or rewritten, as another program would find them.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use sora_models::bundle::{ModelBundle, PartName};
use sora_models::checkpoint_tools::{
    Damage, Packed, Packing, Preset, StorageDtype, Synthesis, ToolError, verify,
};
use sora_models::generation::{PlainInput, PlainPath, PlainText, VideoSettings};
use sora_models::guiding_texts::GuidingTexts;
use sora_models::probe::NoProbe;
use sora_models::sizes::VideoSize;
use sora_models::stdit3::Stdit3;
use sora_models::t5::TokenBatch;
use sora_models::vae::VideoVae;
use sora_models::weights::TensorSource;

const AS_STORED: Packing = Packing { dtype: None, replace: false };

fn demo_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/weights")
}

fn tiny(dtype: StorageDtype, seed: u64) -> Synthesis {
    Synthesis { preset: Preset::Tiny, dtype, seed, replace: false }
}

fn made_up(folder: &Path, dtype: StorageDtype) -> PathBuf {
    let model = folder.join("model");
    tiny(dtype, 1).write(&model, &mut |_, _| {}).unwrap();
    model
}

fn pack(packing: &Packing, source: &Path, folder: &Path) -> Result<Packed, ToolError> {
    packing.write(source, folder, &mut |_, _| {})
}

/// Every file below `folder` and its bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_path_buf();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

/// The bits of a short video from a fixed prompt and seed.
fn video_bits(model: &Path) -> Vec<u32> {
    let bundle = ModelBundle::open(model).unwrap();
    let device = Device::Cpu;
    let weights = |part| bundle.part(part).weights(DType::F32, &device);
    let transformer = Stdit3::load(&weights(PartName::Stdit3), bundle.stdit3_config()).unwrap();
    let vae = VideoVae::load(&weights(PartName::Vae), bundle.vae_config()).unwrap();
    let mut sampling = bundle.generation().sampling();
    sampling.steps = 2;
    let size = VideoSize { width_px: 32, height_px: 32, frames: 5 };
    let settings = VideoSettings { size, frames_per_second: 8.0, sampling };
    let tokenizer = bundle.tokenizer(20).unwrap();
    let tokens = tokenizer.tokenize("a red circle moves to the left").unwrap().ids;
    let mask = Tensor::ones((1, tokens.len()), DType::U32, &device).unwrap();
    let input = PlainInput {
        texts: GuidingTexts::alone(PlainText { tokens: TokenBatch::unpadded(&tokens), mask }),
        noise: &settings.noise(3, transformer.ends()).unwrap(),
        settings,
    };
    let path = PlainPath {
        text_encoder: &bundle.text_encoder(DType::F32, &device),
        transformer: &transformer,
        vae: &vae,
    };
    let video = path.generate(&input, &mut NoProbe).unwrap().video;
    let values = video.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert!(values.iter().all(|value| value.is_finite()));
    values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn made_up_models_open_and_make_videos_in_every_dtype() {
    for dtype in [StorageDtype::F16, StorageDtype::Bf16, StorageDtype::F32] {
        let folder = tempfile::tempdir().unwrap();
        let model = made_up(folder.path(), dtype);
        assert!(!video_bits(&model).is_empty());
        let bundle = ModelBundle::open(&model).unwrap();
        for part in PartName::ALL {
            let source = &bundle.part(part).source;
            let names: Vec<_> = Preset::Tiny.parameters(part).unwrap().into_keys().collect();
            let kept: Vec<_> = names.into_iter().filter(|name| name != "rope.freqs").collect();
            assert_eq!(source.names(), kept);
            assert!(kept.iter().all(|name| source.info(name).unwrap().dtype == dtype.dtype()));
        }
        assert!(model.join("t5/model.safetensors.index.json").is_file());
        let scale = &bundle.part(PartName::Vae).weights(DType::F32, &Device::Cpu);
        let scale = scale.tensor("scale", (1, 4, 1, 1, 1)).unwrap().flatten_all().unwrap();
        assert!((scale.to_vec1::<f32>().unwrap()[0] - 3.85).abs() < 0.02);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn made_up_models_follow_from_their_seed() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, seed| {
        let model = folder.path().join(name);
        tiny(StorageDtype::F16, seed).write(&model, &mut |_, _| {}).unwrap();
        contents(&model)
    };
    let first = write("a", 1);
    assert_eq!(write("b", 1), first);
    let other = write("c", 2);
    let shard = Path::new("t5/model-00001-of-00002.safetensors");
    assert_ne!(first[shard], other[shard]);
}

#[test]
fn a_made_up_model_that_is_stopped_does_not_look_complete() {
    let folder = tempfile::tempdir().unwrap();
    let (model, synthesis) = (folder.path().join("model"), tiny(StorageDtype::F16, 1));
    let stopped = catch_unwind(AssertUnwindSafe(|| {
        synthesis.write(&model, &mut |done, total| assert!(done < total / 2, "the power fails"))
    }));
    assert!(stopped.is_err() && !model.exists());
    synthesis.write(&model, &mut |_, _| {}).unwrap();
    let again = synthesis.write(&model, &mut |_, _| {});
    assert!(matches!(again, Err(ToolError::FolderTaken { .. })));
    Synthesis { replace: true, ..synthesis }.write(&model, &mut |_, _| {}).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_packed_model_makes_the_same_video_to_the_last_bit() {
    let folder = tempfile::tempdir().unwrap();
    let packed = folder.path().join("packed");
    pack(&AS_STORED, &demo_model(), &packed).unwrap();
    assert_eq!(video_bits(&packed), video_bits(&demo_model()));
    assert_eq!(verify(&packed, &mut |_, _| {}).unwrap(), []);
    let (before, after) = (contents(&demo_model()), contents(&packed));
    for text in ["t5/config.json", "t5/tokenizer.json", "generation_config.json"] {
        assert_eq!(before[Path::new(text)], after[Path::new(text)]);
    }
}

#[test]
fn each_block_has_a_file_whose_data_begins_with_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let packed = folder.path().join("packed");
    pack(&AS_STORED, &demo_model(), &packed).unwrap();
    let manifest = fs::read_to_string(packed.join("pack.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let mut held = Vec::new();
    for entry in manifest["parts"]["stdit3"].as_array().unwrap() {
        let bytes = fs::read(packed.join("stdit3").join(entry["file"].as_str().unwrap())).unwrap();
        let (header_bytes, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let data_start = header_bytes + 8;
        assert_eq!(data_start % 16384, 0);
        assert_eq!(data_start + header.data_len(), bytes.len());
        let holds = entry["holds"].as_str().unwrap();
        let names = header.offset_keys();
        assert!(holds == "ends" || names.iter().all(|name| name.starts_with(&format!("{holds}."))));
        if holds == "spatial_blocks.0" {
            assert_eq!(names[0], "spatial_blocks.0.scale_shift_table");
        }
        held.push(holds.to_string());
    }
    assert_eq!(held[..4], ["ends", "spatial_blocks.0", "temporal_blocks.0", "spatial_blocks.1"]);
    assert_eq!(held.len(), 13);
}

#[test]
fn a_stopped_packing_goes_on_wherever_it_was_and_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, packed) = (folder.path().join("whole"), folder.path().join("packed"));
    let source = made_up(folder.path(), StorageDtype::F32);
    let packing = Packing { dtype: Some(StorageDtype::Bf16), replace: false };
    let all = pack(&packing, &source, &whole).unwrap();
    assert_eq!(all.kept_files, 0);
    for percent in [0, 30, 90] {
        let stopped = catch_unwind(AssertUnwindSafe(|| {
            packing.write(&source, &packed, &mut |done, total| {
                assert!(done * 100 <= total * percent, "the power fails");
            })
        }));
        assert!(stopped.is_err() && !packed.exists());
    }
    let other = pack(&AS_STORED, &source, &packed).unwrap_err();
    assert!(matches!(other, ToolError::FolderTaken { .. }), "{other}");

    // A finished file that changed since is written again.
    let partial = folder.path().join("packed.partial");
    let sums = fs::read_to_string(partial.join("SHA256SUMS")).unwrap();
    let finished: Vec<_> = sums
        .lines()
        .filter_map(|line| line.split_once("  "))
        .filter(|(_, path)| path.ends_with(".safetensors"))
        .collect();
    let file = partial.join(finished[0].1);
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    assert_eq!(pack(&packing, &source, &packed).unwrap().kept_files, finished.len() - 1);
    assert_eq!(contents(&packed), contents(&whole));
    assert!(finished.len() > 2 && !partial.exists());
}

#[test]
fn packing_keeps_what_inference_needs_under_official_names() {
    let folder = tempfile::tempdir().unwrap();
    let source = made_up(folder.path(), StorageDtype::F32);
    let t5 = source.join("t5");
    let bundle = ModelBundle::open(&source).unwrap();
    let checkpoint = &bundle.part(PartName::T5).source;
    let mut tensors = BTreeMap::new();
    for name in checkpoint.names() {
        let shape = checkpoint.info(&name).unwrap().shape;
        let tensor = checkpoint.read(&name, &shape.into(), DType::F32, &Device::Cpu).unwrap();
        let old = if name == "shared.weight" { "encoder.embed_tokens.weight".into() } else { name };
        tensors.insert(old, tensor);
    }
    let expected = checkpoint.names();
    for extra in ["lm_head.weight", "decoder.block.0.layer.0.layer_norm.weight"] {
        tensors.insert(extra.into(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
    }
    for entry in fs::read_dir(&t5).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("model") {
            fs::remove_file(path).unwrap();
        }
    }
    let file = t5.join("model.safetensors");
    safetensors::serialize_to_file(tensors.iter().collect::<Vec<_>>(), None, &file).unwrap();

    let packed = folder.path().join("packed");
    pack(&Packing { dtype: Some(StorageDtype::F16), replace: false }, &source, &packed).unwrap();
    let bundle = ModelBundle::open(&packed).unwrap();
    let checkpoint = &bundle.part(PartName::T5).source;
    assert_eq!(checkpoint.names(), expected);
    let f16 = |name: &String| checkpoint.info(name).unwrap().dtype == DType::F16;
    assert!(checkpoint.names().iter().all(f16));
}

#[test]
fn rotary_frequencies_keep_their_dtype() {
    let folder = tempfile::tempdir().unwrap();
    let packed = folder.path().join("packed");
    pack(&Packing { dtype: Some(StorageDtype::F32), replace: false }, &demo_model(), &packed)
        .unwrap();
    let bundle = ModelBundle::open(&packed).unwrap();
    let dtype = |name: &str| bundle.part(PartName::Stdit3).source.info(name).unwrap().dtype;
    assert_eq!((dtype("rope.freqs"), dtype("x_embedder.proj.weight")), (DType::F16, DType::F32));
    // Wider numbers of the same values give the same video.
    assert_eq!(video_bits(&packed), video_bits(&demo_model()));
}

#[test]
fn a_number_that_the_dtype_cannot_hold_is_refused_by_its_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let source = made_up(folder.path(), StorageDtype::F32);
    let name = "t_embedder.mlp.0.bias";
    let shard = fs::read_dir(source.join("stdit3")).unwrap().map(|entry| entry.unwrap().path());
    let shard = shard.filter(|path| path.extension().unwrap() == "safetensors").find(|path| {
        let bytes = fs::read(path).unwrap();
        SafeTensors::deserialize(&bytes).unwrap().tensor(name).is_ok()
    });
    let shard = shard.unwrap();
    let mut bytes = fs::read(&shard).unwrap();
    let (header_bytes, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let place = 8 + header_bytes + header.info(name).unwrap().data_offsets.0 + 4;
    bytes[place..place + 4].copy_from_slice(&1e6f32.to_le_bytes());
    fs::write(&shard, bytes).unwrap();

    let packed = folder.path().join("packed");
    let half = Packing { dtype: Some(StorageDtype::F16), replace: false };
    let error = pack(&half, &source, &packed).unwrap_err();
    assert!(error.to_string().contains(&format!("`{name}` holds 1e6")), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    let wide = Packing { dtype: Some(StorageDtype::Bf16), replace: false };
    pack(&wide, &source, &packed).unwrap();
}

#[test]
fn every_damage_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let source = made_up(folder.path(), StorageDtype::F16);
    let packed = folder.path().join("packed");
    pack(&AS_STORED, &source, &packed).unwrap();
    let shard = "vae/model-00002-of-00003.safetensors";
    let mut bytes = fs::read(packed.join(shard)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(packed.join(shard), bytes).unwrap();
    fs::remove_file(packed.join("t5/tokenizer.json")).unwrap();
    fs::write(packed.join("t5/model.safetensors"), "").unwrap();
    let expected = [
        Damage::Missing("t5/tokenizer.json".into()),
        Damage::Changed(shard.into()),
        Damage::Unknown("t5/model.safetensors".into()),
    ];
    assert_eq!(verify(&packed, &mut |_, _| {}).unwrap(), expected);
    let plain = verify(&source, &mut |_, _| {}).unwrap_err().to_string();
    assert!(plain.contains("SHA256SUMS does not exist"), "{plain}");
}

#[test]
fn a_model_is_not_packed_over_itself() {
    let folder = tempfile::tempdir().unwrap();
    let source = made_up(folder.path(), StorageDtype::F16);
    let before = contents(&source);
    for target in [source.clone(), source.join("../model")] {
        let error = pack(&Packing { dtype: None, replace: true }, &source, &target).unwrap_err();
        assert!(matches!(error, ToolError::FolderTaken { .. }), "{error}");
    }
    assert_eq!(contents(&source), before);
}
