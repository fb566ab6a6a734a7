//! The texts that guidance goes between.

use serde::{Deserialize, Serialize};

/// A prompt and what guidance leads away from, in one of the forms that texts take on their way to the transformer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuidingTexts<T> {
    /// What the video shall show.
    pub prompt: T,
    /// What it shall not show; without, guidance leads away from the model's null caption.
    pub negative: Option<T>,
}

impl<T> GuidingTexts<T> {
    /// A prompt without a negative one.
    pub fn alone(prompt: T) -> Self {
        Self { prompt, negative: None }
    }

    /// The prompt, then the negative one.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.prompt).chain(&self.negative)
    }

    /// Gives each text another form.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> GuidingTexts<U> {
        GuidingTexts { prompt: change(self.prompt), negative: self.negative.map(change) }
    }

    /// Gives each text another form, as far as it has one.
    ///
    /// # Errors
    /// That of the first text that has none.
    pub fn try_map<U, E>(
        self,
        mut change: impl FnMut(T) -> Result<U, E>,
    ) -> Result<GuidingTexts<U>, E> {
        let prompt = change(self.prompt)?;
        Ok(GuidingTexts { prompt, negative: self.negative.map(change).transpose()? })
    }

    /// The same texts, borrowed.
    pub fn as_ref(&self) -> GuidingTexts<&T> {
        GuidingTexts { prompt: &self.prompt, negative: self.negative.as_ref() }
    }
}
