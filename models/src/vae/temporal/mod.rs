//! The network over time: `VAE_Temporal_SD` of Open-Sora, causal, on frames that the spatial network has encoded.

mod decoder;
mod encoder;
mod residual;

pub(super) use decoder::TemporalDecoder;
pub(super) use encoder::TemporalEncoder;
