//! A video as the API shows it.

use std::collections::BTreeMap;

use serde::Serialize;
use sora_actors::messages::GenerationRequest;
use sora_models::stdit3::Merging;
use utoipa::ToSchema;

use super::state::ApiState;
use crate::server::ids::VideoId;
use crate::server::live::Progress;
use crate::server::store::{VideoError, VideoRecord, VideoStatus};

/// A video.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Video {
    /// Its name in this API.
    #[schema(value_type = String, example = "video_0123456789abcdef0123456789abcdef")]
    pub id: VideoId,
    /// Always `video`.
    pub object: &'static str,
    /// When it was accepted, in seconds of Unix time.
    pub created_at: i64,
    /// When it was over.
    #[schema(required)]
    pub completed_at: Option<i64>,
    /// When it will be deleted.
    #[schema(required)]
    pub expires_at: Option<i64>,
    /// What makes it.
    pub model: String,
    /// What it shall show.
    pub prompt: String,
    /// How far it is, of 100.
    #[schema(maximum = 100)]
    pub progress: u8,
    /// Its length, as a decimal number.
    pub seconds: String,
    /// Size of a frame, as `WIDTHxHEIGHT` in pixels.
    pub size: String,
    /// Where it is.
    pub status: VideoStatus,
    /// Why it failed.
    #[schema(required)]
    pub error: Option<VideoError>,
    /// The video that it is made after.
    #[schema(required, value_type = Option<String>)]
    pub remixed_from_video_id: Option<VideoId>,
    /// What the client keeps with it.
    #[schema(required)]
    pub metadata: Option<BTreeMap<String, String>>,
    /// Every setting, named as when a video is asked for: the same settings and prompt give the same bytes.
    pub settings: VideoSettings,
    /// SHA-256 of the finished file, in hexadecimal.
    #[schema(required)]
    pub sha256: Option<String>,
}

/// Every setting of a video.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct VideoSettings {
    /// What the video shall not show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<String>,
    /// Seed of the noise.
    pub seed: u64,
    /// Denoising steps.
    pub steps: usize,
    /// Strength of guidance.
    pub cfg_scale: f64,
    /// When to leap to the end of denoising.
    pub lpl: String,
    /// Which steps to evaluate.
    pub coast: String,
    /// In which steps to merge tokens, and how.
    pub tdtm: String,
    /// Number of frames.
    pub frames: usize,
    /// Frames a second.
    pub fps: f64,
    /// Aesthetic score asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aesthetic_score: Option<f64>,
    /// Amount of motion asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub motion_score: Option<f64>,
    /// Camera motion asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub camera_motion: Option<String>,
    /// Videos of higher priority are made first.
    pub priority: i64,
}

impl Video {
    /// What the record says, and for a video that is being made, how far it is. `live` was looked at before the record:
    /// a video that leaves the graph in between is over in the record, and not at its beginning again.
    pub(super) fn of(record: VideoRecord, live: Option<Progress>, state: &ApiState) -> Self {
        let progress = match record.status {
            VideoStatus::Completed => 100,
            VideoStatus::InProgress => live.map_or(0, |live| live.percent()),
            VideoStatus::Queued | VideoStatus::Failed => 0,
        };
        let settings = VideoSettings::of(&record.request, record.priority);
        let request = record.request;
        Self {
            id: record.id,
            object: "video",
            created_at: record.created_at,
            completed_at: record.completed_at,
            expires_at: record.completed_at.and_then(|at| state.retention.expires_at(at)),
            model: record.model,
            seconds: seconds(request.num_frames, request.fps),
            size: format!("{}x{}", request.width_px, request.height_px),
            prompt: request.prompt,
            progress,
            status: record.status,
            error: record.error,
            remixed_from_video_id: record.remixed_from,
            metadata: record.metadata,
            settings,
            sha256: record.sha256,
        }
    }
}

impl VideoSettings {
    fn of(request: &GenerationRequest, priority: i64) -> Self {
        let sampling = &request.sampling;
        let merging = Merging { steps: sampling.merge, odd_frame: sampling.odd_frame };
        Self {
            negative_prompt: request.negative_prompt.clone(),
            seed: request.seed,
            steps: sampling.steps,
            cfg_scale: sampling.guidance_scale,
            lpl: sampling.leap.to_string(),
            coast: sampling.coast.to_string(),
            tdtm: merging.to_string(),
            frames: request.num_frames,
            fps: request.fps,
            aesthetic_score: request.scores.aesthetic,
            motion_score: request.scores.motion,
            camera_motion: request.scores.camera_motion.clone(),
            priority,
        }
    }
}

/// A video's length with at most three decimals: `4`, `2.125`.
fn seconds(num_frames: usize, fps: f64) -> String {
    let text = format!("{:.3}", num_frames as f64 / fps);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_as_short_as_they_can_be() {
        let lengths = [(32, 8.0, "4"), (17, 8.0, "2.125"), (80, 8.0, "10"), (1, 3.0, "0.333")];
        for (frames, fps, text) in lengths {
            assert_eq!(seconds(frames, fps), text);
        }
    }
}
