//! The network on single frames: `AutoencoderKL` of diffusers.

mod attention;
mod decoder;
mod encoder;
mod mid_block;
mod resnet;
mod resolution;

pub(super) use decoder::SpatialDecoder;
pub(super) use encoder::SpatialEncoder;
