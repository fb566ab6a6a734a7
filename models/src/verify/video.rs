//! Cases of the video autoencoder.

use candle_core::Device;

use super::case::Case;
use super::compare::Comparison;
use crate::error::Result;
use crate::vae::{PosteriorNoise, VideoVae};

/// Latents to pixels.
pub(super) fn decode(case: &Case, device: &Device, comparison: &mut Comparison) -> Result<()> {
    let vae = VideoVae::load(&case.weights(None, device)?, &case.part("/config")?)?;
    let num_frames = case.part("/params/num_frames")?;
    let video = vae.decode(&case.tensor("z", device)?, num_frames, comparison)?;
    comparison.check("video", &video);
    Ok(())
}

/// Pixels to latents, with the recorded noise if the case has some.
pub(super) fn encode(case: &Case, device: &Device, comparison: &mut Comparison) -> Result<()> {
    let vae = VideoVae::load_with_encoder(&case.weights(None, device)?, &case.part("/config")?)?;
    let noise = [
        case.optional_tensor("eps_spatial", device)?,
        case.optional_tensor("eps_temporal", device)?,
    ];
    let noise = match noise {
        [Some(spatial), Some(temporal)] => Some(PosteriorNoise { spatial, temporal }),
        [None, None] => None,
        _ => return Err(case.unusable("it has the noise of one posterior only".into())),
    };
    let latents = vae.encode(&case.tensor("video", device)?, noise.as_ref(), comparison)?;
    comparison.check("z", &latents);
    Ok(())
}
