//! An embedded prompt on its way to the denoiser.

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use sora_models::rflow::SavedArray;

use super::{check_count, check_version};
use crate::error::PayloadError;

/// What the text encoder made of one prompt, or negative prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PromptEmbedding {
    /// [`PromptEmbedding::FORMAT_VERSION`] of the program that made it.
    pub format_version: u32,
    /// Token ids, padded to the model's text length.
    pub token_ids: Vec<u32>,
    /// 1 for the prompt's own tokens, 0 for padding; as long as `token_ids`.
    pub mask: Vec<u8>,
    /// `[L, D]`: text length and width of the encoder.
    pub shape: [usize; 2],
    /// The encoder's last hidden states, row-major. Narrower compute dtypes widen to f32 without loss.
    pub values: Vec<f32>,
}

impl PromptEmbedding {
    /// Version of this payload's layout.
    pub const FORMAT_VERSION: u32 = 1;

    /// Takes one prompt's hidden states out of a tensor.
    ///
    /// # Shapes
    /// `hidden`: `[1, L, D]`, any float dtype; `token_ids` and `mask` of length L.
    ///
    /// # Errors
    /// Another shape, or the tensor cannot be copied to the CPU.
    pub fn from_tensor(
        token_ids: Vec<u32>,
        mask: Vec<u8>,
        hidden: &Tensor,
    ) -> Result<Self, PayloadError> {
        let &[1, length, width] = hidden.dims() else {
            return Err(PayloadError::Tensor {
                payload: "prompt embedding",
                expected: "[1, L, D]",
                shape: hidden.dims().to_vec(),
                dtype: hidden.dtype(),
            });
        };
        let values = hidden.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let embedding = Self {
            format_version: Self::FORMAT_VERSION,
            token_ids,
            mask,
            shape: [length, width],
            values: values.flatten_all()?.to_vec1()?,
        };
        embedding.check()?;
        Ok(embedding)
    }

    /// The hidden states as a tensor.
    ///
    /// # Shapes
    /// `[1, L, D]`.
    ///
    /// # Errors
    /// Another version, values that do not fill the shape, or the device refuses.
    pub fn to_tensor(&self, dtype: DType, device: &Device) -> Result<Tensor, PayloadError> {
        self.check()?;
        let [length, width] = self.shape;
        Ok(Tensor::from_slice(&self.values, (1, length, width), &Device::Cpu)?
            .to_device(device)?
            .to_dtype(dtype)?)
    }

    /// The mask as a tensor.
    ///
    /// # Shapes
    /// `[1, L]` in U8.
    ///
    /// # Errors
    /// The device refuses.
    pub fn mask_tensor(&self, device: &Device) -> Result<Tensor, PayloadError> {
        Ok(Tensor::from_slice(&self.mask, (1, self.mask.len()), device)?)
    }

    /// How many tokens are the prompt's own, the end token included.
    pub fn tokens(&self) -> usize {
        self.mask.iter().filter(|&&own| own != 0).count()
    }

    /// The values, by the name that they are saved under.
    pub(super) fn array(&mut self, name: &str) -> SavedArray<'_> {
        let (name, shape) = (name.into(), self.shape.to_vec());
        SavedArray { name, shape, values: &mut self.values }
    }

    pub(super) fn check(&self) -> Result<(), PayloadError> {
        check_version("prompt embedding", self.format_version, Self::FORMAT_VERSION)?;
        let [length, _] = self.shape;
        check_count("prompt embedding", &self.shape, self.values.len())?;
        check_count("prompt embedding's token ids", &[length], self.token_ids.len())?;
        check_count("prompt embedding's mask", &[length], self.mask.len())
    }
}
