//! How published files differ in naming one and the same parameter, and what they hold beside the parameters.
//!
//! Each part of the model asks for its parameters by one official name; a [`Checkpoint`](super::Checkpoint)
//! translates what it finds in a file.

use super::llama_cpp_names::official_t5_name;

/// The token embedding of T5 under its official name.
const TOKEN_EMBEDDING: &str = "shared.weight";

/// The same tensor under the name that the encoder knows it by; files hold either or both.
const ENCODER_TOKEN_EMBEDDING: &str = "encoder.embed_tokens.weight";

/// What a T5 file may hold beside the encoder: the embedding's second name, the decoder and its output head.
pub const T5_IGNORABLE: &[&str] = &[ENCODER_TOKEN_EMBEDDING, "decoder.", "lm_head."];

/// What an STDiT3 file may leave out: the rotary frequencies, which follow from the config.
pub const STDIT3_IGNORABLE: &[&str] = &["rope.freqs"];

/// Projections of an attention block: their names in old diffusers releases, and their names now.
const OLD_PROJECTIONS: [(&str, &str); 4] =
    [("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")];

/// The official name of the tensor that a file holds as `stored`. `has` tells which names the file has.
///
/// # Source
/// Hugging Face T5 files, which tie two embeddings; llama.cpp's names for T5; diffusers before 0.14 for the VAE's mid-block
/// attention.
pub(super) fn official_name(stored: &str, has: impl Fn(&str) -> bool) -> String {
    if stored == ENCODER_TOKEN_EMBEDDING && !has(TOKEN_EMBEDDING) {
        return TOKEN_EMBEDDING.to_string();
    }
    if let Some(official) = official_t5_name(stored) {
        return official;
    }
    for (old, new) in OLD_PROJECTIONS {
        for kind in ["weight", "bias"] {
            let block = stored.strip_suffix(kind).and_then(|rest| rest.strip_suffix('.'));
            let block = block.and_then(|rest| rest.strip_suffix(old));
            if let Some(block) = block.filter(|block| is_attention_block(block)) {
                return format!("{block}{new}.{kind}");
            }
        }
    }
    stored.to_string()
}

/// The official shape of `official`, stored as `shape`: old files keep attention projections as 1x1 convolutions.
pub(super) fn official_shape<'a>(official: &str, shape: &'a [usize]) -> &'a [usize] {
    let projection = OLD_PROJECTIONS.iter().any(|(_, new)| {
        let block = official.strip_suffix(".weight").and_then(|rest| rest.strip_suffix(new));
        block.is_some_and(is_attention_block)
    });
    match shape {
        [_, _, 1, 1] if projection => &shape[..2],
        _ => shape,
    }
}

/// Whether a tensor that nobody asked for may be there: `ignorable` holds names, and prefixes that end in a dot.
pub(super) fn is_ignorable(name: &str, ignorable: &[&str]) -> bool {
    ignorable
        .iter()
        .any(|known| if known.ends_with('.') { name.starts_with(known) } else { name == *known })
}

/// Whether `prefix` ends in `attentions.N.`.
fn is_attention_block(prefix: &str) -> bool {
    let mut segments = prefix.rsplit('.');
    let (empty, number, list) = (segments.next(), segments.next(), segments.next());
    let numbered = number.is_some_and(|number| number.parse::<usize>().is_ok());
    empty == Some("") && numbered && list == Some("attentions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_attention_names_become_the_new_ones_and_others_stay() {
        let renamed = |name: &str| official_name(name, |_| false);
        let block = "spatial_vae.module.decoder.mid_block.attentions.0";
        assert_eq!(renamed(&format!("{block}.query.weight")), format!("{block}.to_q.weight"));
        assert_eq!(renamed(&format!("{block}.proj_attn.bias")), format!("{block}.to_out.0.bias"));
        for kept in [
            format!("{block}.to_q.weight"),
            format!("{block}.group_norm.weight"),
            "blocks.0.attentions.query.weight".into(),
            "query.weight".into(),
        ] {
            assert_eq!(renamed(&kept), kept);
        }
    }

    #[test]
    fn the_second_embedding_name_counts_only_where_the_first_is_absent() {
        assert_eq!(official_name(ENCODER_TOKEN_EMBEDDING, |_| false), TOKEN_EMBEDDING);
        assert_eq!(official_name(ENCODER_TOKEN_EMBEDDING, |_| true), ENCODER_TOKEN_EMBEDDING);
    }

    #[test]
    fn only_attention_projections_lose_their_convolution_axes() {
        let name = "mid_block.attentions.0.to_out.0.weight";
        assert_eq!(official_shape(name, &[8, 8, 1, 1]), [8, 8]);
        assert_eq!(official_shape(name, &[8, 8, 3, 3]), [8, 8, 3, 3]);
        assert_eq!(official_shape("conv_shortcut.weight", &[8, 8, 1, 1]), [8, 8, 1, 1]);
    }

    #[test]
    fn ignorable_names_are_exact_and_prefixes_end_in_a_dot() {
        assert!(is_ignorable("decoder.block.0.x", T5_IGNORABLE));
        assert!(!is_ignorable("decoders.block.0.x", T5_IGNORABLE));
        assert!(!is_ignorable("rope.freqs.more", STDIT3_IGNORABLE));
    }
}
