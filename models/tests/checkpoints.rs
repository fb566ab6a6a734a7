//! Weights in every published form, and every way in which a file can be broken.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use sora_models::ModelError;
use sora_models::weights::{Checkpoint, TensorSource, Weights};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn values(source: &dyn TensorSource, name: &str) -> Vec<f32> {
    let shape = source.info(name).unwrap().shape;
    let tensor = source.read(name, &shape.into(), DType::F32, &Device::Cpu).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn counting(shape: &[usize]) -> Tensor {
    let elements = shape.iter().product::<usize>();
    Tensor::arange(0f32, elements as f32, &Device::Cpu).unwrap().reshape(shape).unwrap()
}

fn save(file: &Path, tensors: &[(&str, &[usize])]) {
    let tensors: BTreeMap<_, _> =
        tensors.iter().map(|(name, shape)| (*name, counting(shape))).collect();
    let bytes = safetensors::serialize(tensors.iter().collect::<Vec<_>>(), None).unwrap();
    std::fs::write(file, bytes).unwrap();
}

fn refused(path: &Path) -> ModelError {
    match Checkpoint::open(path) {
        Ok(_) => panic!("{} was accepted", path.display()),
        Err(error) => error,
    }
}

#[test]
fn a_pytorch_archive_gives_every_kind_of_tensor() {
    let checkpoint = Checkpoint::open(&data("tensors.bin")).unwrap();
    let plain: Vec<f32> = (0..12).map(|value| value as f32).collect();
    assert_eq!(
        checkpoint.names(),
        [
            "bfloat",
            "column",
            "half",
            "parameter",
            "plain",
            "scalar",
            "tied",
            "tokens",
            "transposed"
        ]
    );
    for name in ["plain", "tied", "half", "bfloat"] {
        assert_eq!(values(&checkpoint, name), plain, "{name}");
    }
    let shifted: Vec<f32> = plain.iter().map(|value| value + 0.5).collect();
    assert_eq!(values(&checkpoint, "parameter"), shifted);
    assert_eq!(
        values(&checkpoint, "transposed"),
        [0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.]
    );
    assert_eq!(values(&checkpoint, "column"), [1., 2., 5., 6., 9., 10.]);
    assert_eq!(values(&checkpoint, "tokens"), [3., 1., 2.]);
    assert_eq!(values(&checkpoint, "scalar"), [7.]);
    assert_eq!(checkpoint.info("half").unwrap().dtype, DType::F16);
    assert_eq!(checkpoint.info("transposed").unwrap().shape, [4, 3]);
}

#[test]
fn a_header_whose_length_reads_like_a_pickle_is_still_one_of_safetensors() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    let mut header = br#"{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}"#.to_vec();
    // Little-endian, this begins with the bytes of a pickle of protocol 2.
    header.resize(0x0280, b' ');
    std::fs::write(&file, [&(header.len() as u64).to_le_bytes(), &*header, &[7]].concat()).unwrap();
    assert_eq!(values(&Checkpoint::open(&file).unwrap(), "a"), [7.]);
}

#[test]
fn rows_of_a_table_come_from_either_format_in_the_compute_dtype() {
    let folder = tempfile::tempdir().unwrap();
    save(&folder.path().join("model.safetensors"), &[("plain", &[3, 4])]);
    for path in [folder.path().to_path_buf(), data("tensors.bin")] {
        let source = std::sync::Arc::new(Checkpoint::open(&path).unwrap());
        let weights = Weights::new(source, DType::F64, &Device::Cpu);
        let rows = weights.rows("plain", (3, 4), &[2, 0]).unwrap();
        let expected = [[8., 9., 10., 11.], [0., 1., 2., 3.]];
        assert_eq!(rows.to_vec2::<f64>().unwrap(), expected);
        assert!(matches!(weights.rows("plain", (3, 4), &[3]), Err(ModelError::BadInput(_))));
        assert!(matches!(weights.rows("plain", (4, 4), &[0]), Err(ModelError::TensorShape { .. })));
        assert!(matches!(
            weights.rows("none", (4, 4), &[0]),
            Err(ModelError::MissingTensor { .. })
        ));
    }
}

#[test]
fn shards_are_found_through_their_index() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    save(&path("model-00001-of-00002.safetensors"), &[("a", &[2]), ("b", &[3])]);
    std::fs::copy(data("tensors.bin"), path("part-2.bin")).unwrap();
    let index = |weight_map: &str| {
        let json = format!(r#"{{"metadata": {{"total_size": 1}}, "weight_map": {weight_map}}}"#);
        std::fs::write(path("model.safetensors.index.json"), json).unwrap();
    };
    index(r#"{"a": "model-00001-of-00002.safetensors", "plain": "part-2.bin"}"#);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.names(), ["a", "plain"]);
    assert_eq!(checkpoint.files().len(), 2);
    assert_eq!(values(&checkpoint, "a"), [0., 1.]);

    index(r#"{"a": "part-2.bin"}"#);
    let error = refused(folder.path());
    assert!(matches!(error, ModelError::CorruptFile { .. }), "{error}");
    assert!(
        error.to_string().contains("part-2.bin") && error.to_string().contains("`a`"),
        "{error}"
    );
    index(r#"{"a": "absent.bin"}"#);
    assert!(matches!(refused(folder.path()), ModelError::MissingFile { .. }));
    index(r#"{"a": "../model.safetensors"}"#);
    assert!(matches!(refused(folder.path()), ModelError::Config { .. }));
    index("[]");
    assert!(matches!(refused(folder.path()), ModelError::Config { .. }));
}

#[test]
fn published_names_become_official_ones() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    let old = "encoder.mid_block.attentions.0.query.weight";
    save(&file, &[("encoder.embed_tokens.weight", &[3, 2]), (old, &[2, 2, 1, 1])]);
    let checkpoint = Checkpoint::open(&file).unwrap();
    assert_eq!(checkpoint.names(), ["encoder.mid_block.attentions.0.to_q.weight", "shared.weight"]);
    let source = std::sync::Arc::new(checkpoint);
    let weights = Weights::new(source, DType::F32, &Device::Cpu);
    let projection =
        weights.pp("encoder.mid_block.attentions.0.to_q").tensor("weight", (2, 2)).unwrap();
    assert_eq!(projection.to_vec2::<f32>().unwrap(), [[0., 1.], [2., 3.]]);
    assert_eq!(weights.rows("shared.weight", (3, 2), &[1]).unwrap().dims(), [1, 2]);

    save(&file, &[("encoder.embed_tokens.weight", &[3, 2]), ("shared.weight", &[3, 2])]);
    let both = Checkpoint::open(&file).unwrap();
    assert_eq!(both.names(), ["encoder.embed_tokens.weight", "shared.weight"]);
}

#[test]
fn broken_files_are_typed_errors_that_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    assert!(matches!(refused(folder.path()), ModelError::MissingFile { .. }));
    assert!(matches!(refused(&file), ModelError::MissingFile { .. }));

    save(&file, &[("a", &[64])]);
    let whole = std::fs::read(&file).unwrap();
    let archive = std::fs::read(data("tensors.bin")).unwrap();
    let legacy = std::fs::read(data("legacy.bin")).unwrap();
    let mut promises_too_much = whole.clone();
    promises_too_much[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let cases: [(&str, &[u8], &str); 9] = [
        ("empty", b"", "empty"),
        ("text", b"these are no weights at all", "header"),
        ("pointer", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("no data", &whole[..whole.len() - 1], "header"),
        ("half a header", &whole[..20], "header"),
        ("huge header", &promises_too_much, "header"),
        ("half an archive", &archive[..archive.len() / 2], "cut short"),
        ("start of an archive", &archive[..30], "cut short"),
        ("old archive", &legacy, "before 1.6"),
    ];
    for (what, bytes, told) in cases {
        std::fs::write(&file, bytes).unwrap();
        let error = refused(&file);
        assert!(matches!(error, ModelError::CorruptFile { .. }), "{what}: {error}");
        let text = error.to_string();
        assert!(text.contains("model.safetensors") && text.contains(told), "{what}: {text}");
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|found| found == wanted).unwrap()
}

#[test]
fn an_archive_survives_any_single_changed_byte_without_a_panic() {
    const STEP: usize = 7;
    let whole = Checkpoint::open(&data("tensors.bin")).unwrap();
    let all_values = |checkpoint: &Checkpoint| -> Vec<Vec<f32>> {
        checkpoint.names().iter().map(|name| values(checkpoint, name)).collect()
    };
    let (names, original) = (whole.names(), all_values(&whole));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pytorch_model.bin");
    let archive = std::fs::read(data("tensors.bin")).unwrap();
    let (mut refusals, mut other_values) = (Vec::new(), 0);
    for position in (0..archive.len()).step_by(STEP) {
        let mut damaged = archive.clone();
        damaged[position] ^= 0x5a;
        std::fs::write(&file, &damaged).unwrap();
        match Checkpoint::open(&file) {
            // What the pickle says is guarded by a checksum, so only values may have changed.
            Ok(checkpoint) => {
                assert_eq!(checkpoint.names(), names, "byte {position}");
                other_values += usize::from(all_values(&checkpoint) != original);
            }
            Err(error) => {
                assert!(matches!(error, ModelError::CorruptFile { .. }), "{position}: {error}");
                refusals.push(position);
            }
        }
    }
    assert!(other_values > 0, "no value was changed");
    // A checksum guards the description of the tensors, which ends where the next entry's header begins.
    let start = find(&archive, b"\x80\x02");
    let pickle = start..start + find(&archive[start..], b"PK");
    assert!(pickle.len() > 500, "{pickle:?}");
    let missed: Vec<_> = pickle.filter(|at| at % STEP == 0 && !refusals.contains(at)).collect();
    assert!(missed.is_empty(), "damage at {missed:?} was not noticed");
}
