//! STDiT3, the diffusion transformer: alternating spatial and temporal blocks over patches of a latent video.
//!
//! A forward pass is [`Stdit3Ends::begin`], every [`Stdit3Block`] in order, [`Stdit3Ends::finish`]; what depends on
//! the prompt alone is computed once by [`Stdit3Ends::prepare`]. The parts load separately, so that blocks can be
//! streamed; [`Stdit3`] holds all of them.

mod attention;
mod block;
mod captions;
mod config;
mod context;
mod embedders;
mod final_layer;
mod merge;
mod model;
mod modulation;

pub use block::{AttentionAxis, Stdit3Block};
pub use captions::TextFeatures;
pub use config::Stdit3Config;
pub use context::{PromptContext, PromptInput, StepContext, StepInput};
pub use merge::{MergeSteps, Merging, OddFrame, TemporalTokenMerge};
pub use model::{Stdit3, Stdit3Ends};
