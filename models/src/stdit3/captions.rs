//! The text of every row of a batch: prompts, and what guidance leads away from.

use candle_core::{DType, Tensor};

use super::context::{PackedText, PromptInput};
use super::model::Stdit3Ends;
use crate::error::{ModelError, Result};

/// Texts of one length as the text encoder gives them.
#[derive(Debug, Clone)]
pub struct TextFeatures {
    /// `[n, L, caption_channels]` (or `[n, 1, L, caption_channels]`).
    pub values: Tensor,
    /// Which tokens are real, `[n, L]`, not zero where they are.
    pub mask: Tensor,
}

impl Stdit3Ends {
    /// Appends as many rows of the null caption as there are prompts: what guidance compares the prompts with.
    ///
    /// # Shapes
    /// `[n, L, caption_channels]` (or `[n, 1, L, caption_channels]`) to `[2n, L, caption_channels]`, with `L` no more
    /// than `model_max_length`.
    ///
    /// # Errors
    /// The features are of another shape.
    pub fn with_null_captions(&self, text: &Tensor) -> Result<Tensor> {
        let text = self.text_features(text)?;
        let (prompts, length, channels) = text.dims3()?;
        let null = self.caption_embedder.null_caption().narrow(0, 0, length)?.unsqueeze(0)?;
        let null = null.broadcast_as((prompts, length, channels))?;
        Ok(Tensor::cat(&[&text, &null], 0)?)
    }

    /// Appends the rows of negative prompts, one a prompt: what guidance leads away from in place of the null caption.
    ///
    /// # Shapes
    /// `n` texts each, of lengths that may differ, to `[2n, L, caption_channels]` and their mask `[2n, L]`, where `L` is
    /// the greater length and the mask hides what fills up the shorter texts.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when the features are of another shape, or do not come in pairs.
    pub fn with_negative_captions(
        &self,
        prompt: &TextFeatures,
        negative: &TextFeatures,
    ) -> Result<(Tensor, Tensor)> {
        let texts = [self.text_features(&prompt.values)?, self.text_features(&negative.values)?];
        let masks = [&prompt.mask, &negative.mask];
        let [(prompts, length, _), (negatives, negative_length, _)] =
            [texts[0].dims3()?, texts[1].dims3()?];
        let expected = [[prompts, length], [negatives, negative_length]];
        let fits = masks.iter().zip(&expected).all(|(mask, expected)| mask.dims() == expected);
        if prompts != negatives || !fits {
            return Err(ModelError::bad_input(format!(
                "{prompts} prompts of {length} tokens with a mask {:?} and {negatives} negative prompts of \
                 {negative_length} tokens with a mask {:?} are no pairs",
                masks[0].dims(),
                masks[1].dims()
            )));
        }
        let longest = length.max(negative_length);
        let filled = |rows: &Tensor| rows.pad_with_zeros(1, 0, longest - rows.dim(1)?);
        let texts = [filled(&texts[0])?, filled(&texts[1])?];
        let masks = masks.map(|mask| filled(&mask.to_dtype(DType::I64)?));
        let [mask, negative_mask] = masks;
        Ok((Tensor::cat(&texts, 0)?, Tensor::cat(&[mask?, negative_mask?], 0)?))
    }

    /// Text features as `[rows, L, caption_channels]` in the compute dtype, on the weights' device.
    fn text_features(&self, text: &Tensor) -> Result<Tensor> {
        let text = if text.rank() == 4 { text.squeeze(1)? } else { text.clone() };
        let (channels, most) = (self.config.caption_channels, self.config.model_max_length);
        match *text.dims() {
            [_, length, found] if found == channels && length <= most => {
                Ok(text.to_device(self.root.device())?.to_dtype(self.root.dtype())?)
            }
            _ => Err(ModelError::bad_input(format!(
                "text features are {:?}, the transformer needs [prompts, at most {most}, {channels}]: \
                 the text encoder belongs to another model",
                text.dims()
            ))),
        }
    }

    /// Projects the text tokens that the mask keeps, and only those.
    pub(super) fn pack_text(&self, input: &PromptInput) -> Result<PackedText> {
        let text = self.text_features(input.text)?;
        let (rows, length, _) = text.dims3()?;
        let mask = input.text_mask.to_dtype(DType::I64)?.to_vec2::<i64>()?;
        let masks = repeated(&mask, rows).filter(|masks| masks.iter().all(|m| m.len() == length));
        let masks = masks.ok_or_else(|| {
            ModelError::bad_input(format!(
                "a text mask of shape {:?} does not fit {rows} rows of {length} tokens",
                input.text_mask.dims()
            ))
        })?;
        let (mut kept, mut lengths) = (Vec::new(), Vec::with_capacity(rows));
        for (row, mask) in masks.iter().enumerate() {
            let before = kept.len();
            let tokens = mask.iter().enumerate().filter(|(_, token)| **token != 0);
            kept.extend(tokens.map(|(index, _)| (row * length + index) as u32));
            if kept.len() == before {
                let refusal = format!(
                    "text mask of row {row} keeps no token: even an empty prompt has its end token"
                );
                return Err(ModelError::BadInput(refusal));
            }
            lengths.push(kept.len() - before);
        }
        let kept = Tensor::new(kept, self.root.device())?;
        let packed = text.flatten(0, 1)?.index_select(&kept, 0)?.unsqueeze(0)?;
        Ok(PackedText { tokens: self.caption_embedder.forward(&packed)?, lengths })
    }
}

/// `items` over and over until there is one a row; `None` when they do not come out even.
pub(super) fn repeated<T: Clone>(items: &[T], rows: usize) -> Option<Vec<T>> {
    let fits = !items.is_empty() && rows.is_multiple_of(items.len());
    fits.then(|| items.iter().cycle().take(rows).cloned().collect())
}
