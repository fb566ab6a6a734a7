//! What travels through the graph: requests in, events out, plain data between the stages.

mod event;
mod job_checkpoint;
mod latent;
mod prompt_embedding;
mod request;
mod video_chunk;

use crate::error::PayloadError;

pub use event::{Caption, JobEvent, JobSummary, StageSeconds};
pub use job_checkpoint::{JobCheckpoint, JobProgress};
pub use latent::Latent;
pub use prompt_embedding::PromptEmbedding;
#[cfg(test)]
pub(crate) use request::one_pixel_request;
pub use request::{GenerationRequest, JobId};
pub use video_chunk::{RgbFrame, VideoChunk};

/// Refuses a payload that another version of this program wrote, instead of misreading it.
fn check_version(payload: &'static str, found: u32, supported: u32) -> Result<(), PayloadError> {
    if found == supported {
        Ok(())
    } else {
        Err(PayloadError::Version { payload, found, supported })
    }
}

/// Refuses a payload whose values do not fill its shape: it was cut short or put together wrongly.
fn check_count(payload: &'static str, shape: &[usize], values: usize) -> Result<(), PayloadError> {
    // A shape out of a damaged file may multiply beyond usize.
    let expected = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    if expected == Some(values) {
        Ok(())
    } else {
        Err(PayloadError::Count { payload, shape: shape.to_vec(), values })
    }
}
