//! `config.json` as it is written, and what a usable one fulfils.

use serde::Deserialize;

use super::{SpatialVaeConfig, TemporalVaeConfig, VaeConfig};
use crate::config_limits::{check_layers, check_widths};

/// `config.json` as it is written. The golden cases name the two networks `spatial` and `temporal` and put the micro
/// batch size beside them.
#[derive(Deserialize)]
pub(super) struct ConfigFile {
    model_type: Option<String>,
    #[serde(default = "default_micro_frame_size")]
    micro_frame_size: usize,
    micro_batch_size: Option<usize>,
    #[serde(default, alias = "spatial")]
    vae_2d: SpatialVaeConfig,
    #[serde(default, alias = "temporal")]
    vae_temporal: TemporalVaeConfig,
}

/// The `model_type` of the published `config.json`.
const MODEL_TYPE: &str = "VideoAutoencoderPipeline";

impl TryFrom<ConfigFile> for VaeConfig {
    type Error = String;

    fn try_from(file: ConfigFile) -> Result<Self, String> {
        if let Some(other) = file.model_type.filter(|model_type| model_type != MODEL_TYPE) {
            return Err(format!("model_type is `{other}`; expected `{MODEL_TYPE}`"));
        }
        let mut config = Self {
            micro_frame_size: file.micro_frame_size,
            spatial: file.vae_2d,
            temporal: file.vae_temporal,
        };
        config.spatial.micro_batch_size =
            file.micro_batch_size.unwrap_or(config.spatial.micro_batch_size);
        config.check()?;
        Ok(config)
    }
}

pub(super) fn default_micro_frame_size() -> usize {
    17
}

/// More levels than any network has; far fewer than would overflow a size.
const MOST_LEVELS: usize = 8;

impl VaeConfig {
    fn check(&self) -> Result<(), String> {
        check_widths(&[("micro_frame_size", self.micro_frame_size)])?;
        self.spatial.check().map_err(|reason| format!("vae_2d: {reason}"))?;
        self.temporal.check().map_err(|reason| format!("vae_temporal: {reason}"))?;
        let (spatial, temporal) = (self.spatial.latent_channels, self.temporal.in_out_channels);
        ensure(spatial == temporal, || {
            format!(
                "vae_2d has latent_channels {spatial}, but vae_temporal has in_out_channels {temporal}: \
                 they must be equal"
            )
        })
    }
}

impl SpatialVaeConfig {
    fn check(&self) -> Result<(), String> {
        check_widths(&[
            ("micro_batch_size", self.micro_batch_size),
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("latent_channels", self.latent_channels),
            ("norm_num_groups", self.norm_num_groups),
        ])?;
        check_layers(&[("layers_per_block", self.layers_per_block)])?;
        check_levels("block_out_channels", &self.block_out_channels)?;
        check_groups("norm_num_groups", self.norm_num_groups, &self.block_out_channels)?;
        check_positive("norm_eps", self.norm_eps)?;
        check_positive("scaling_factor_used", self.scaling_factor)
    }
}

impl TemporalVaeConfig {
    fn check(&self) -> Result<(), String> {
        check_widths(&[
            ("in_out_channels", self.in_out_channels),
            ("latent_embed_dim", self.latent_embed_dim),
            ("embed_dim", self.embed_dim),
            ("filters", self.filters),
            ("num_groups", self.num_groups),
        ])?;
        check_layers(&[("num_res_blocks", self.num_res_blocks)])?;
        check_levels("channel_multipliers", &self.channel_multipliers)?;
        check_levels("filters * channel_multipliers", &self.level_channels())?;
        let (levels, steps) = (self.channel_multipliers.len(), self.temporal_downsample.len());
        ensure(steps + 1 == levels, || {
            format!("temporal_downsample has {steps} entries; {levels} levels need {}", levels - 1)
        })?;
        check_groups("num_groups", self.num_groups, &self.level_channels())?;
        check_positive("norm_eps", self.norm_eps)
    }
}

fn ensure(holds: bool, reason: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason()) }
}

fn check_levels(name: &str, levels: &[usize]) -> Result<(), String> {
    ensure((1..=MOST_LEVELS).contains(&levels.len()), || {
        format!("{name} has {} entries; expected 1 to {MOST_LEVELS}", levels.len())
    })?;
    levels.iter().try_for_each(|&width| check_widths(&[(name, width)]))
}

fn check_groups(name: &str, groups: usize, channels: &[usize]) -> Result<(), String> {
    channels.iter().try_for_each(|channels| {
        ensure(channels % groups == 0, || {
            format!("{name} {groups} does not divide {channels} channels")
        })
    })
}

fn check_positive(name: &str, value: f64) -> Result<(), String> {
    ensure(value.is_finite() && value > 0.0, || {
        format!("{name} is {value}; expected a number above 0")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn read(document: serde_json::Value) -> Result<VaeConfig, String> {
        serde_json::from_value(document).map_err(|cause| cause.to_string())
    }

    #[test]
    fn the_official_file_means_the_published_shapes() {
        let config = read(json!({
            "model_type": "VideoAutoencoderPipeline",
            "micro_frame_size": 17,
            "shift": [-0.1, 0.34, 0.27, 0.98],
            "scale": [3.85, 2.32, 2.33, 3.06],
            "vae_2d": {
                "type": "VideoAutoencoderKL",
                "from_pretrained": "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers",
                "subfolder": "vae",
                "micro_batch_size": 4
            },
            "vae_temporal": { "type": "VAE_Temporal_SD", "from_pretrained": null }
        }));
        assert_eq!(config.unwrap(), VaeConfig::default());
    }

    #[test]
    fn shapes_that_are_written_out_win() {
        let config = read(json!({
            "vae_2d": { "block_out_channels": [8, 16], "norm_num_groups": 4, "micro_batch_size": 2 },
            "vae_temporal": { "filters": 64 }
        }));
        let config = config.unwrap();
        assert_eq!(config.spatial.block_out_channels, [8, 16]);
        assert_eq!((config.spatial.micro_batch_size, config.spatial_factor()), (2, 2));
        assert_eq!(config.temporal.level_channels(), [64, 128, 128, 256]);
    }

    #[test]
    fn latent_frames_follow_the_chunks() {
        let config = VaeConfig::default();
        for (frames, latents) in [(1, 1), (4, 1), (5, 2), (17, 5), (22, 7), (34, 10), (51, 15)] {
            assert_eq!(config.latent_frames(frames), latents, "{frames} frames");
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_field_that_is_wrong() {
        let cases = [
            (json!({ "model_type": "STDiT3" }), "model_type"),
            (json!({ "micro_frame_size": 0 }), "micro_frame_size"),
            (json!({ "micro_batch_size": 0 }), "micro_batch_size"),
            (json!({ "micro_frame_size": usize::MAX }), "micro_frame_size"),
            (json!({ "vae_2d": { "layers_per_block": 1_000_000_000 } }), "layers_per_block"),
            (json!({ "vae_2d": { "block_out_channels": [1u64 << 62] } }), "block_out_channels"),
            (json!({ "vae_2d": { "block_out_channels": [32, 0] } }), "block_out_channels is 0"),
            (json!({ "vae_temporal": { "num_res_blocks": 1_000_000_000 } }), "num_res_blocks"),
            (json!({ "vae_temporal": { "filters": 1u64 << 62 } }), "filters"),
            (json!({ "vae_temporal": { "filters": 524_288 } }), "filters * channel_multipliers"),
            (json!({ "vae_2d": { "type": "VQGAN" } }), "VideoAutoencoderKL"),
            (json!({ "vae_2d": { "act_fn": "gelu" } }), "silu"),
            (json!({ "vae_2d": { "block_out_channels": [] } }), "block_out_channels"),
            (json!({ "vae_2d": { "block_out_channels": [32, 48] } }), "norm_num_groups"),
            (json!({ "vae_2d": { "latent_channels": 8 } }), "in_out_channels 4"),
            (json!({ "vae_2d": { "scaling_factor_used": 0.0 } }), "scaling_factor_used"),
            (json!({ "vae_temporal": { "temporal_downsample": [true] } }), "temporal_downsample"),
            (json!({ "vae_temporal": { "filters": 24 } }), "num_groups"),
            (json!({ "vae_temporal": { "norm_eps": -1.0 } }), "norm_eps"),
        ];
        for (document, expected) in cases {
            let error = read(document.clone()).unwrap_err();
            assert!(error.contains(expected), "{document}: {error}");
        }
    }
}
