"""Sizes of the four networks, in the form in which they are exported."""

T5 = {
    "model_type": "t5",
    "vocab_size": 0,  # set from the tokenizer on export
    "d_model": 64,
    "d_kv": 16,
    "num_heads": 4,
    "d_ff": 128,
    "num_layers": 2,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "gated-gelu",
    "pad_token_id": 0,
    "eos_token_id": 1,
}

STDIT3 = {
    "model_type": "STDiT3",
    "in_channels": 4,
    "patch_size": [1, 2, 2],
    "hidden_size": 96,
    "depth": 6,
    "num_heads": 4,
    "mlp_ratio": 4.0,
    "input_sq_size": 64,
    "caption_channels": T5["d_model"],
    "model_max_length": 300,
    "qk_norm": True,
    "pred_sigma": True,
}

SPATIAL_VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": [16, 24, 48, 64],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "act_fn": "silu",
    "scaling_factor_used": 0.18215,
    "norm_eps": 1e-6,
}

TEMPORAL_VAE = {
    "in_out_channels": 4,
    "latent_embed_dim": 4,
    "embed_dim": 4,
    "filters": 16,
    "num_res_blocks": 2,
    "channel_multipliers": [1, 2, 2, 3],
    "temporal_downsample": [False, True, True],
    "num_groups": 4,
    "norm_eps": 1e-5,
}

MICRO_FRAME_SIZE = 17
MICRO_BATCH_SIZE = 4

SAMPLING = {
    "name": "on-device-sora-demo",
    "width": 64,
    "height": 64,
    "num_frames": 17,
    "fps": 8,
    "num_sampling_steps": 30,
    "cfg_scale": 1.5,
    "use_timestep_transform": True,
    "timestep_transform_base_resolution": 64 * 64,
    "aesthetic_score": None,
}
