//! What llama.cpp calls the parameters of a T5 model, in GGUF files of the architectures `t5encoder` and `t5`.

/// A block's parameters: their names in llama.cpp, and in Hugging Face's files.
const ENCODER_BLOCK: [(&str, &str); 10] = [
    ("attn_norm", "layer.0.layer_norm"),
    ("attn_q", "layer.0.SelfAttention.q"),
    ("attn_k", "layer.0.SelfAttention.k"),
    ("attn_v", "layer.0.SelfAttention.v"),
    ("attn_o", "layer.0.SelfAttention.o"),
    ("attn_rel_b", "layer.0.SelfAttention.relative_attention_bias"),
    ("ffn_norm", "layer.1.layer_norm"),
    ("ffn_gate", "layer.1.DenseReluDense.wi_0"),
    ("ffn_up", "layer.1.DenseReluDense.wi_1"),
    ("ffn_down", "layer.1.DenseReluDense.wo"),
];

/// The official name of the T5 parameter that llama.cpp calls `stored`; `None` when it is no name of llama.cpp's. The
/// decoder's parameters, which nothing here uses, get its official prefix only.
///
/// # Source
/// The names of `MODEL_ARCH.T5ENCODER` in `gguf-py/gguf/constants.py` of llama.cpp, and its `tensor_mapping.py`.
pub(super) fn official_t5_name(stored: &str) -> Option<String> {
    match stored {
        "token_embd.weight" => return Some("shared.weight".into()),
        "enc.output_norm.weight" => return Some("encoder.final_layer_norm.weight".into()),
        "output.weight" => return Some("lm_head.weight".into()),
        _ => {}
    }
    if let Some(rest) = stored.strip_prefix("dec.") {
        return Some(format!("decoder.{rest}"));
    }
    let (number, parameter) = stored.strip_prefix("enc.blk.")?.split_once('.')?;
    let number: usize = number.parse().ok()?;
    let parameter = parameter.strip_suffix(".weight")?;
    let (_, official) = ENCODER_BLOCK.iter().find(|(known, _)| *known == parameter)?;
    Some(format!("encoder.block.{number}.{official}.weight"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::t5::{T5Config, T5Encoder};
    use crate::weights::names::{T5_IGNORABLE, is_ignorable};

    #[test]
    fn the_names_of_a_published_encoder_are_those_that_the_encoder_asks_for() {
        let config = r#"{"vocab_size": 9, "d_model": 8, "d_kv": 4, "num_heads": 2, "d_ff": 16, "num_layers": 2,
            "feed_forward_proj": "gated-gelu"}"#;
        let config = T5Config::from_json(config, Path::new("config.json")).unwrap();
        let wanted: BTreeSet<String> =
            T5Encoder::parameters(&config).unwrap().into_keys().collect();
        let mut stored = vec!["token_embd.weight".to_string(), "enc.output_norm.weight".into()];
        for block in 0..2 {
            let parameters = ENCODER_BLOCK.iter().map(|(name, _)| *name);
            // Only the first block of T5 has a table of relative positions.
            let parameters = parameters.filter(|name| block == 0 || *name != "attn_rel_b");
            stored.extend(parameters.map(|name| format!("enc.blk.{block}.{name}.weight")));
        }
        let official = stored.iter().map(|name| official_t5_name(name).unwrap());
        assert_eq!(official.collect::<BTreeSet<_>>(), wanted);
    }

    #[test]
    fn a_decoder_can_be_ignored_and_other_names_are_left_alone() {
        for name in ["dec.blk.0.attn_q.weight", "dec.output_norm.weight", "output.weight"] {
            assert!(is_ignorable(&official_t5_name(name).unwrap(), T5_IGNORABLE), "{name}");
        }
        for name in [
            "shared.weight",
            "enc.blk.x.attn_q.weight",
            "enc.blk.0.attn_q.bias",
            "enc.blk.0.attn_z.weight",
            "spatial_blocks.0.attn.proj.weight",
        ] {
            assert_eq!(official_t5_name(name), None);
        }
    }
}
