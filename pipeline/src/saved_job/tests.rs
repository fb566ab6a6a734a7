#![allow(clippy::unwrap_used)]

use std::fs;

use sora_actors::JobJournal;
use sora_actors::compute::EmbeddedPrompt;
use sora_actors::messages::{GenerationRequest, JobSummary, Latent, PromptEmbedding, StageSeconds};
use sora_models::guiding_texts::GuidingTexts;
use sora_models::prompt_notation::PromptScores;
use sora_models::rflow::SamplingSettings;

use super::*;

fn request() -> GenerationRequest {
    GenerationRequest {
        prompt: "a \"red\" circle, {\"f64\": \"1\"}".into(),
        negative_prompt: Some("a {\"f64\": \"2\"}".into()),
        seed: u64::MAX,
        width_px: 24,
        height_px: 16,
        num_frames: 1,
        fps: 23.976_023_976_023_978,
        sampling: SamplingSettings { steps: 3, ..SamplingSettings::default() },
        scores: PromptScores { aesthetic: Some(f64::from(6.3f32)), ..PromptScores::default() },
    }
}

pub(crate) fn saved() -> SavedJob {
    let latent = Latent {
        format_version: Latent::FORMAT_VERSION,
        shape: [2, 1, 2, 3],
        values: (0..12).map(|n| (n as f32).sqrt() - 1.7).collect(),
        num_frames: 1,
    };
    let embedding = PromptEmbedding {
        format_version: PromptEmbedding::FORMAT_VERSION,
        token_ids: vec![7, 1],
        mask: vec![1, 1],
        shape: [2, 2],
        values: vec![0.1, f32::MIN_POSITIVE, -0.0, 4e37],
    };
    let shorter = PromptEmbedding {
        token_ids: vec![1],
        mask: vec![1],
        shape: [1, 2],
        values: vec![-0.3, 7.0],
        ..embedding.clone()
    };
    let seconds = StageSeconds { denoise: 0.1 + 0.2, ..StageSeconds::default() };
    SavedJob {
        model: ModelIdentity { name: "demo".into(), fingerprint: "0123".into() },
        compute: Compute { device: "cpu".into(), dtype: "f32".into() },
        checkpoint: JobCheckpoint {
            format_version: JobCheckpoint::FORMAT_VERSION,
            request: request(),
            texts: GuidingTexts {
                prompt: EmbeddedPrompt { caption: "a circle".into(), embedding, cut: None },
                negative: Some(EmbeddedPrompt {
                    caption: "a".into(),
                    embedding: shorter,
                    cut: None,
                }),
            },
            progress: JobProgress::Denoised(latent),
            work: JobSummary {
                steps_computed: 3,
                leapt_at: None,
                stage_seconds: seconds,
                seconds: 1.0 / 3.0,
            },
        },
    }
}

fn load(bytes: &[u8]) -> Result<SavedJob, SavedJobError> {
    SavedJob::read(bytes, Path::new("film.mp4.sora-job"))
}

#[test]
fn a_job_is_read_as_it_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    let SavedJob { model, compute, checkpoint } = saved();
    let journal = FileJournal::new(folder.path().join("a.sora-job"), model, compute);
    assert!(journal.is_due() && !journal.is_left());
    journal.save(&checkpoint).unwrap();
    assert!(journal.is_left());
    assert_eq!(SavedJob::load(journal.path()).unwrap(), saved());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    journal.remove().unwrap();
    journal.remove().unwrap();
    assert!(!journal.is_left());
}

#[test]
fn a_job_that_was_saved_before_there_were_negative_prompts_is_read() {
    let mut expected = saved().checkpoint;
    (expected.format_version, expected.texts.negative) = (1, None);
    expected.request.negative_prompt = None;
    let mut before = serde_json::to_value(&expected).unwrap();
    for (place, field) in [("", "negative"), ("/request", "negative_prompt")] {
        let fields = before.pointer_mut(place).unwrap().as_object_mut().unwrap();
        assert!(fields.remove(field).is_some(), "{field}");
    }
    assert!(before["prompt"]["caption"].is_string() && before["prompt"]["embedding"].is_object());
    let read = exact_json::from_text::<JobCheckpoint>(&exact_json::to_text(&before).unwrap());
    let read = read.unwrap();
    assert!(read == expected && read.check().is_ok());
}

#[test]
fn a_save_that_fails_names_the_file_and_spares_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gone").join("a.sora-job");
    let SavedJob { model, compute, checkpoint } = saved();
    let error = FileJournal::new(path, model, compute).save(&checkpoint).unwrap_err().to_string();
    assert!(error.contains("cannot write") && error.contains("a.sora-job"), "{error}");
}

#[test]
fn a_file_is_safetensors_for_all_to_read() {
    let bytes = file::to_bytes(&saved()).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names = tensors.names();
    names.sort_unstable();
    assert_eq!(names, ["latent", "negative", "prompt"]);
    assert_eq!(tensors.tensor("latent").unwrap().shape(), [2, 1, 2, 3]);
}

#[test]
fn whatever_is_cut_off_or_changed_is_noticed() {
    let bytes = file::to_bytes(&saved()).unwrap();
    assert!(load(&bytes).is_ok());
    for end in 0..bytes.len() {
        let error = load(&bytes[..end]).unwrap_err();
        assert!(
            matches!(error, SavedJobError::Corrupt { .. } | SavedJobError::Foreign { .. }),
            "{end} of {} bytes: {error}",
            bytes.len()
        );
    }
    let data =
        bytes.len() - saved().checkpoint.arrays().iter().map(|a| 4 * a.values.len()).sum::<usize>();
    for position in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[position] ^= 1;
        match load(&damaged) {
            Err(error) if position >= data => {
                assert!(error.to_string().contains("checksum"), "byte {position}: {error}");
            }
            Err(_) => {}
            // Names of nothing, and the padding behind the header.
            Ok(job) => assert!(position < data && job == saved(), "byte {position}"),
        }
    }
}

#[test]
fn other_files_are_told_apart() {
    for foreign in [
        &b""[..],
        b"text that is long enough",
        b"\x02\0\0\0\0\0\0\0{}",
        b"\x20\0\0\0\0\0\0\0{\"__metadata__\":{\"format\":\"pt\"}}   ",
        &[0xff; 100],
    ] {
        let error = load(foreign).unwrap_err();
        assert!(matches!(error, SavedJobError::Foreign { .. }), "{foreign:?}: {error}");
    }
    let mut newer = file::to_bytes(&saved()).unwrap();
    let at = newer.windows(10).position(|window| window == b"sora-job/1").unwrap();
    newer[at + 9] = b'2';
    let error = load(&newer).unwrap_err();
    assert!(matches!(&error, SavedJobError::Version { found, supported: 1, .. } if found == "2"));
    let folder = tempfile::tempdir().unwrap();
    let missing = SavedJob::load(&folder.path().join("none"));
    assert!(matches!(missing, Err(SavedJobError::Io { .. })));
    assert!(matches!(SavedJob::load(folder.path()), Err(SavedJobError::Io { .. })));
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let changes: [fn(&mut JobCheckpoint); 9] = [
        |job| job.request.num_frames = 2,
        |job| job.request.height_px = 64,
        |job| job.format_version = 9,
        |job| job.format_version = 0,
        |job| job.texts.prompt.embedding.mask = vec![1],
        |job| job.texts.negative.as_mut().unwrap().embedding.mask = vec![1, 1],
        |job| job.texts.negative = None,
        |job| job.request.negative_prompt = None,
        |job| {
            if let JobProgress::Denoised(latent) = &mut job.progress {
                latent.shape = [1, 1, 2, 3];
            }
        },
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut job = saved();
        change(&mut job.checkpoint);
        let Ok(bytes) = file::to_bytes(&job) else { continue };
        let error = load(&bytes).unwrap_err();
        assert!(matches!(error, SavedJobError::Corrupt { .. }), "change {index}: {error}");
    }
}

#[test]
fn other_models_devices_and_unfinished_jobs_are_refused_with_a_way_out() {
    let (job, path) = (saved(), Path::new("film.mp4.sora-job"));
    let model = ModelIdentity { name: "demo".into(), fingerprint: "4567".into() };
    let told = job.check_model(&model, path).unwrap_err().to_string();
    assert!(told.contains("--model"), "{told}");
    let compute = Compute { device: "cpu".into(), dtype: "bf16".into() };
    let told = job.check_compute(&compute, path).unwrap_err().to_string();
    assert!(told.contains("--device cpu --dtype f32"), "{told}");
    assert!(job.check_model(&job.model, path).is_ok());
    assert!(job.check_compute(&job.compute, path).is_ok() && job.check_denoised(path).is_ok());
    let mut begun = saved();
    begun.checkpoint.progress = JobProgress::Embedded;
    let told = begun.check_denoised(path).unwrap_err().to_string();
    assert!(told.contains("0 of 3 steps") && told.contains("--resume"), "{told}");
}

#[test]
fn differences_name_the_settings() {
    let mut other = request();
    assert!(differences(&request(), &other).is_empty());
    other.sampling.steps = 4;
    other.prompt = "a dog".into();
    other.scores.motion = Some(2.5);
    let found = differences(&request(), &other).join("; ");
    assert!(found.contains("steps was 3, and is 4"), "{found}");
    assert!(found.contains("and is `a dog`"), "{found}");
    assert!(found.contains("motion was open, and is 2.5"), "{found}");
}
