//! The settings beside a video: all that is needed to make it again, and what making it took.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};
use sora_actors::messages::{Caption, GenerationRequest, JobSummary};
use sora_models::DeviceChoice;
use sora_models::bundle::ModelBundle;

/// What the field `format` of every such file says.
pub const SIDECAR_FORMAT: &str = "sora-video/1";

/// A `.json` beside a video. Fields are written in this order; files of later versions may have more of them.
///
/// Everything but `work` is the same whenever the same video is made again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sidecar {
    /// [`SIDECAR_FORMAT`].
    pub format: &'static str,
    /// Version of the program that made the video.
    pub program_version: &'static str,
    /// The video itself.
    pub video: VideoFile,
    /// What was asked for: prompts, seed, size, frame rate and every setting of the sampler.
    pub request: GenerationRequest,
    /// What the text encoder was given.
    pub caption: Caption,
    /// What it was given as the negative prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_caption: Option<Caption>,
    /// The weights.
    pub model: ModelIdentity,
    /// What it was computed with.
    pub compute: Compute,
    /// What was done, and how long it took.
    pub work: Work,
}

/// A video as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VideoFile {
    /// Name of the file or folder.
    pub name: String,
    /// Width of its frames: that asked for, without what exceeds a multiple of 8.
    pub width_px: usize,
    /// Height of its frames; as the width.
    pub height_px: usize,
}

/// Names a model's weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// The model's own name.
    pub name: String,
    /// Differs between any two models with different weights or settings.
    pub fingerprint: String,
}

impl ModelIdentity {
    /// Of a model.
    ///
    /// # Errors
    /// Its files cannot be read.
    pub fn of(bundle: &ModelBundle) -> sora_models::Result<Self> {
        Ok(Self { name: bundle.generation().name.clone(), fingerprint: bundle.fingerprint()? })
    }
}

/// What a video was computed with; another device or dtype gives slightly other numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compute {
    /// The device: `cpu`, `metal`, `cuda:0`.
    pub device: String,
    /// The dtype of weights and activations: `f32`, `f16`, `bf16`.
    pub dtype: String,
}

impl Compute {
    /// Of a device and a dtype.
    pub fn of(device: &Device, dtype: DType) -> Self {
        Self { device: DeviceChoice::of(device).to_string(), dtype: dtype.as_str().to_string() }
    }
}

/// What was done for a video.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Work {
    /// Steps computed, the step that leapt and the seconds of each stage.
    #[serde(flatten)]
    pub summary: JobSummary,
    /// Encoding and writing the video, while frames were being decoded and after.
    ///
    /// # Units
    /// Seconds.
    pub write_seconds: f64,
}

impl Sidecar {
    /// Writes the file's text.
    pub(crate) fn write_to(&self, file: &File) -> io::Result<()> {
        let mut file = BufWriter::new(file);
        serde_json::to_writer_pretty(&mut file, self)?;
        writeln!(file)?;
        file.flush()
    }
}

/// What a file beside a video tells about how it was made.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct MadeVideo {
    /// What was asked for.
    pub request: GenerationRequest,
    /// The weights.
    pub model: ModelIdentity,
}

impl MadeVideo {
    /// Reads a file; `None` when this program did not write it, or an earlier version of it with other settings.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
    }
}

/// The name of the video whose settings the file holds; `None` when this program did not write it.
pub(crate) fn video_named_in(path: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Head {
        format: String,
        video: Video,
    }
    #[derive(Deserialize)]
    struct Video {
        name: String,
    }
    let text = std::fs::read_to_string(path).ok()?;
    let head: Head = serde_json::from_str(&text).ok()?;
    head.format.starts_with("sora-video/").then_some(head.video.name)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]

    use sora_actors::messages::StageSeconds;
    use sora_models::prompt_notation::PromptScores;
    use sora_models::rflow::SamplingSettings;

    use super::*;

    pub(crate) fn sidecar() -> Sidecar {
        let request = GenerationRequest {
            prompt: "a red circle".into(),
            negative_prompt: None,
            seed: 42,
            width_px: 64,
            height_px: 48,
            num_frames: 17,
            fps: 8.0,
            sampling: SamplingSettings::default(),
            scores: PromptScores::default(),
        };
        let summary = JobSummary {
            steps_computed: 16,
            leapt_at: Some(15),
            stage_seconds: StageSeconds::default(),
            seconds: 1.5,
        };
        Sidecar {
            format: SIDECAR_FORMAT,
            program_version: "0.1.0",
            video: VideoFile { name: "a.gif".into(), width_px: 64, height_px: 48 },
            request,
            caption: Caption { text: "a red circle".into(), tokens: 5, cut: None },
            negative_caption: None,
            model: ModelIdentity { name: "demo".into(), fingerprint: "0123".into() },
            compute: Compute { device: "cpu".into(), dtype: "f32".into() },
            work: Work { summary, write_seconds: 0.1 },
        }
    }

    #[test]
    fn everything_that_a_video_depends_on_is_in_the_file_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        sidecar().write_to(&File::create(&path).unwrap()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut rest = text.as_str();
        for key in [
            "format",
            "program_version",
            "video",
            "request",
            "prompt",
            "negative_prompt",
            "seed",
            "width_px",
            "height_px",
            "num_frames",
            "fps",
            "sampling",
            "steps",
            "guidance_scale",
            "leap",
            "merge",
            "caption",
            "tokens",
            "model",
            "fingerprint",
            "compute",
            "device",
            "dtype",
            "work",
            "steps_computed",
            "leapt_at",
            "denoise",
            "write_seconds",
        ] {
            let at = rest.find(&format!("\"{key}\":"));
            rest =
                &rest[at.unwrap_or_else(|| panic!("{key} is missing or out of order in {text}"))..];
        }
        assert_eq!(video_named_in(&path).as_deref(), Some("a.gif"));
    }

    #[test]
    fn other_files_are_not_taken_for_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        for text in ["", "{}", "not json", r#"{"format": "other/1"}"#] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(video_named_in(&path), None, "{text}");
        }
    }
}
