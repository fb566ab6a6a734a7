//! Models with quantised weights: those that are written here, and those that others publish.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use sora_models::ModelError;
use sora_models::bundle::{ModelBundle, PartName};
use sora_models::checkpoint_tools::{
    Packing, Preset, Quantization, Quantized, QuantizedType, StorageDtype, Synthesis, ToolError,
    Treatment, verify,
};
use sora_models::verify::compare_quantised;
use sora_models::weights::{BlockType, Checkpoint, TensorSource};

fn to(quantized_type: QuantizedType) -> Quantization {
    Quantization { quantized_type, parts: Quantization::PARTS.to_vec(), replace: false }
}

fn write(how: &Quantization, source: &ModelBundle, folder: &Path) -> Result<Quantized, ToolError> {
    how.write(source, folder, &mut |_, _| {})
}

fn made_up(folder: &Path) -> PathBuf {
    let (model, dtype) = (folder.join("made-up"), StorageDtype::F16);
    let synthesis = Synthesis { preset: Preset::Tiny, dtype, seed: 1, replace: false };
    synthesis.write(&model, &mut |_, _| {}).unwrap();
    model
}

fn dense(source: &Checkpoint, name: &str) -> Tensor {
    let shape = source.info(name).unwrap().shape;
    source.read(name, &shape.into(), DType::F32, &Device::Cpu).unwrap()
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for part in ["", "t5", "stdit3", "vae"] {
        for entry in fs::read_dir(folder.join(part)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files.insert(path.strip_prefix(folder).unwrap().into(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn matrices_of_blocks_are_quantised_and_all_else_keeps_its_bits() {
    let folder = tempfile::tempdir().unwrap();
    let original = ModelBundle::embedded().unwrap();
    for (quantized_type, found, treatment) in [
        (QuantizedType::Q8_0, BlockType::Q8_0, Treatment::AsAsked),
        // No row of the embedded model is a multiple of 256 values.
        (QuantizedType::Q4K, BlockType::Q5_0, Treatment::InSmallerBlocks),
    ] {
        let target = folder.path().join(found.name());
        let written = write(&to(quantized_type), &original, &target).unwrap();
        let quantised = ModelBundle::open(&target).unwrap();
        for part in Quantization::PARTS {
            let (before, after) = (&original.part(part).source, &quantised.part(part).source);
            assert_eq!(before.names(), after.names());
            let mut count = 0;
            for name in before.names() {
                let (info, expected) = (after.info(&name).unwrap(), dense(before, &name));
                assert_eq!(info.shape, expected.dims());
                let Some(block_type) = after.quantised(&name) else {
                    assert_eq!(info, before.info(&name).unwrap());
                    assert!(bits(&expected) == bits(&dense(after, &name)), "{name}");
                    continue;
                };
                count += 1;
                assert!(name.contains("block") && name.ends_with(".weight"), "{name}");
                assert_eq!(block_type, found);
                let dtype = match found {
                    BlockType::Q8_0 => GgmlDType::Q8_0,
                    _ => GgmlDType::Q5_0,
                };
                let expected = QTensor::quantize(&expected, dtype).unwrap();
                let expected = expected.dequantize(&Device::Cpu).unwrap();
                assert!(bits(&expected) == bits(&dense(after, &name)), "{name}");
                let (blocks, halves) =
                    (info.stored_bytes, before.info(&name).unwrap().stored_bytes);
                let block_bytes = found.block_bytes() as u64;
                assert_eq!(blocks * 64, halves * block_bytes, "{name}");
            }
            let summary = written.parts.iter().find(|summary| summary.part == part).unwrap();
            assert_eq!(summary.tensors[&treatment].len(), count);
            assert_eq!(count, if part == PartName::T5 { 14 } else { 84 });
            assert!(summary.to_string().contains(&format!("{count} tensors in {found}")));
        }
        let file = |bundle: &ModelBundle| {
            let source = &bundle.part(PartName::Vae).source;
            let file = source.files().remove(0);
            file.read(0, file.length_bytes() as usize).unwrap()
        };
        assert!(file(&original) == file(&quantised));
        assert_eq!(original.generation(), quantised.generation());
        assert_eq!(original.tokenizer_json(), quantised.tokenizer_json());
        assert_ne!(original.fingerprint().unwrap(), quantised.fingerprint().unwrap());
        assert_eq!(verify(&target, &mut |_, _| {}).unwrap(), []);
    }
}

#[test]
fn the_error_of_every_block_is_measured_and_within_what_the_type_allows() {
    let folder = tempfile::tempdir().unwrap();
    let original = ModelBundle::embedded().unwrap();
    let compare = |quantised: &ModelBundle| {
        compare_quantised(quantised, &original, &Device::Cpu, &mut |_| {})
    };
    for (quantized_type, most) in [(QuantizedType::Q8_0, 0.01), (QuantizedType::Q4K, 0.06)] {
        let target = folder.path().join(quantized_type.as_str());
        write(&to(quantized_type), &original, &target).unwrap();
        let networks = compare(&ModelBundle::open(&target).unwrap()).unwrap();
        assert_eq!(networks.iter().map(|network| network.blocks.len()).sum::<usize>(), 2 + 12);
        for network in networks {
            assert_eq!(network.limit(), most);
            assert!(network.passed() && network.median() > 0.001, "{network:?}");
            let share = network.stored_bytes as f64 / network.original_bytes as f64;
            assert!((0.33..0.54).contains(&share), "{share}");
        }
    }
    assert!(matches!(compare(&original), Err(ModelError::BadInput(_))));
    let other = ModelBundle::open(&made_up(folder.path())).unwrap();
    let error = compare(&other).unwrap_err().to_string();
    assert!(error.contains("different sizes"), "{error}");
}

#[test]
fn one_network_alone_can_be_quantised_and_the_others_are_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let model = made_up(folder.path());
    let original = ModelBundle::open(&model).unwrap();
    let target = folder.path().join("quantised");
    let how = Quantization { parts: vec![PartName::Stdit3], ..to(QuantizedType::Q8_0) };
    let written = write(&how, &original, &target).unwrap();
    // Rows of 48 values are no whole number of blocks; the second matrix of the MLP has rows of 192.
    let [summary] = written.parts.as_slice() else { panic!("{written:?}") };
    let count = |treatment| summary.tensors[&treatment].len();
    assert_eq!((count(Treatment::AsAsked), count(Treatment::RowsDoNotFit)), (4, 24));
    let told = summary.to_string();
    assert!(
        told.contains("24 tensors not quantised, because rows are no multiple of 32"),
        "{told}"
    );
    let (before, after) = (contents(&model), contents(&target));
    let untouched = |path: &&PathBuf| path.starts_with("t5") || path.starts_with("vae");
    assert!(before.keys().filter(untouched).eq(after.keys().filter(untouched)));
    assert!(before.iter().filter(|(path, _)| untouched(path)).all(|(path, b)| &after[path] == b));
    // The random model's text encoder comes in shards.
    assert!(after.contains_key(Path::new("t5/model.safetensors.index.json")));
    let networks = compare_quantised(
        &ModelBundle::open(&target).unwrap(),
        &original,
        &Device::Cpu,
        &mut |_| {},
    );
    let parts: Vec<_> = networks.unwrap().iter().map(|network| network.part).collect();
    assert_eq!(parts, [PartName::Stdit3]);
}

#[test]
fn a_stopped_run_goes_on_wherever_it_was_and_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let original = ModelBundle::open(&made_up(folder.path())).unwrap();
    let (whole, target) = (folder.path().join("whole"), folder.path().join("quantised"));
    let how = to(QuantizedType::Q8_0);
    assert_eq!(write(&how, &original, &whole).unwrap().kept_files, 0);
    for percent in [0, 30, 70] {
        let stopped = catch_unwind(AssertUnwindSafe(|| {
            how.write(&original, &target, &mut |done, total| {
                assert!(done * 100 <= total * percent, "the power fails");
            })
        }));
        assert!(stopped.is_err() && !target.exists());
    }
    let other = write(&to(QuantizedType::Q4K), &original, &target).unwrap_err();
    assert!(matches!(other, ToolError::FolderTaken { .. }), "{other}");
    assert!(write(&how, &original, &target).unwrap().kept_files > 0);
    assert_eq!(contents(&target), contents(&whole));
}

#[test]
fn what_cannot_be_quantised_is_refused_by_its_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let how = to(QuantizedType::Q8_0);
    let target = folder.path().join("quantised");
    write(&how, &ModelBundle::embedded().unwrap(), &target).unwrap();
    let quantised = ModelBundle::open(&target).unwrap();
    let again = write(&how, &quantised, &folder.path().join("again")).unwrap_err();
    assert!(matches!(again, ToolError::Quantised { .. }), "{again}");
    let over = Quantization { replace: true, ..how.clone() };
    let over = over.write(&quantised, &target, &mut |_, _| {}).unwrap_err();
    assert!(matches!(over, ToolError::FolderTaken { .. }), "{over}");
    let packing = Packing { dtype: None, replace: false };
    let packed = packing.write(&target, &folder.path().join("packed"), &mut |_, _| {});
    assert!(matches!(packed.unwrap_err(), ToolError::Quantised { .. }));

    let model = made_up(folder.path());
    let name = "spatial_blocks.0.mlp.fc2.weight";
    let index = fs::read_to_string(model.join("stdit3/model.safetensors.index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let weights = model.join("stdit3").join(index["weight_map"][name].as_str().unwrap());
    let mut bytes = fs::read(&weights).unwrap();
    let (header_bytes, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let place = 8 + header_bytes + header.info(name).unwrap().data_offsets.0 + 10;
    bytes[place..place + 2].copy_from_slice(&half::f16::INFINITY.to_le_bytes());
    fs::write(&weights, bytes).unwrap();
    let damaged = ModelBundle::open(&model).unwrap();
    let stdit3 = Quantization { parts: vec![PartName::Stdit3], ..how };
    let error = write(&stdit3, &damaged, &folder.path().join("damaged")).unwrap_err();
    assert!(error.to_string().contains(&format!("`{name}` holds inf")), "{error}");
}

/// The embedded model on disk, with its text encoder as llama.cpp's converter would have written it.
fn with_published_encoder(folder: &Path) -> PathBuf {
    let original = ModelBundle::embedded().unwrap();
    let how = Quantization { parts: vec![PartName::Stdit3], ..to(QuantizedType::Q8_0) };
    write(&how, &original, folder).unwrap();
    fs::remove_file(folder.join("t5/model.safetensors")).unwrap();
    let source = &original.part(PartName::T5).source;
    let official = [
        ("shared", "token_embd"),
        ("final_layer_norm", "output_norm"),
        ("layer.0.layer_norm", "attn_norm"),
        ("layer.0.SelfAttention.relative_attention_bias", "attn_rel_b"),
        ("layer.0.SelfAttention.", "attn_"),
        ("layer.1.layer_norm", "ffn_norm"),
        ("layer.1.DenseReluDense.wi_0", "ffn_gate"),
        ("layer.1.DenseReluDense.wi_1", "ffn_up"),
        ("layer.1.DenseReluDense.wo", "ffn_down"),
        ("encoder.block.", "enc.blk."),
        ("encoder.", "enc."),
    ];
    let mut tensors = Vec::new();
    for name in source.names() {
        let tensor = dense(source, &name);
        let dtype = match tensor.dims() {
            [_] => GgmlDType::F32,
            [_, width] if width % 32 == 0 => GgmlDType::Q8_0,
            _ => GgmlDType::F16,
        };
        let stored = official.iter().fold(name, |name, (from, to)| name.replace(from, to));
        tensors.push((stored, QTensor::quantize(&tensor, dtype).unwrap()));
    }
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let tokens = (0..300).map(|token| Value::String(format!("token {token}"))).collect();
    let metadata = [
        ("general.architecture", &Value::String("t5encoder".into())),
        ("t5encoder.block_count", &Value::U32(2)),
        ("tokenizer.ggml.tokens", &Value::Array(tokens)),
    ];
    let file = folder.join("t5/t5-encoder-Q8_0.gguf");
    gguf_file::write(&mut fs::File::create(&file).unwrap(), &metadata, &tensors).unwrap();
    file
}

#[test]
fn an_encoder_in_llama_cpp_s_names_is_a_model_s_text_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let file = with_published_encoder(folder.path());
    let model = ModelBundle::open(folder.path()).unwrap();
    let original = ModelBundle::embedded().unwrap();
    assert_eq!(model.part(PartName::T5).source.names(), original.part(PartName::T5).source.names());
    let networks = compare_quantised(&model, &original, &Device::Cpu, &mut |_| {}).unwrap();
    assert_eq!(networks[0].part, PartName::T5);
    assert!(networks.iter().all(|network| network.passed()), "{networks:?}");
    // Rows of the table of tokens, which is quantised as well.
    let rows = |bundle: &ModelBundle| {
        let weights = bundle.part(PartName::T5).weights(DType::F32, &Device::Cpu);
        weights.rows("shared.weight", (270, 64), &[7, 3]).unwrap()
    };
    let (expected, found) = (rows(&original), rows(&model));
    let off = (&found - &expected).unwrap().abs().unwrap().max_all().unwrap();
    let most = expected.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    let off = off.to_scalar::<f32>().unwrap();
    assert!(off > 0.0 && off < most / 127.0, "{off} of {most}");

    fs::copy(&file, folder.path().join("t5/another.gguf")).unwrap();
    let error = ModelBundle::open(folder.path()).err().unwrap().to_string();
    assert!(error.contains("several GGUF files"), "{error}");
}

#[test]
fn a_file_that_is_cut_short_is_refused_and_one_that_is_cut_later_fails_the_read() {
    let folder = tempfile::tempdir().unwrap();
    let original = ModelBundle::embedded().unwrap();
    write(&to(QuantizedType::Q8_0), &original, &folder.path().join("q")).unwrap();
    let file = folder.path().join("q/t5/model.gguf");
    let bytes = fs::read(&file).unwrap();
    let checkpoint = Checkpoint::open(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let refused = Checkpoint::open(&file).err().unwrap().to_string();
    assert!(refused.contains("beyond the end"), "{refused}");
    let name = "encoder.block.1.layer.1.DenseReluDense.wo.weight";
    let error = checkpoint.read(name, &(64, 128).into(), DType::F32, &Device::Cpu).unwrap_err();
    assert!(matches!(error, ModelError::CorruptFile { .. }), "{error}");
}

#[test]
fn two_names_of_one_tensor_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("encoder.gguf");
    let tensor = Tensor::zeros(32, DType::F32, &Device::Cpu).unwrap();
    let tensor = QTensor::quantize(&tensor, GgmlDType::F32).unwrap();
    let names = ["enc.blk.0.attn_norm.weight", "enc.blk.00.attn_norm.weight"];
    let tensors = names.map(|name| (name, &tensor));
    gguf_file::write(&mut fs::File::create(&file).unwrap(), &[], &tensors).unwrap();
    let refused = Checkpoint::open(&file).err().unwrap().to_string();
    assert!(refused.contains("are both `encoder.block.0.layer.0.layer_norm.weight`"), "{refused}");
}
