//! The stages of the streaming text-to-video graph, and what travels between them.
//!
//! Each stage is a loop on a thread of its own ([`stage`]), fed by a bounded channel ([`channel`]). Its logic is here;
//! what it computes with is behind the traits of [`compute`]. Who joins the stages together decides the capacities;
//! `ARCHITECTURE.md` draws them and says why nothing can block for ever.

pub mod block_loader;
pub mod channel;
pub mod compute;
mod denoise_controller;
mod embedding_cache;
pub mod error;
mod job;
mod job_events;
mod journal;
pub mod memory;
pub mod messages;
pub mod open_sora;
mod order;
mod pace;
mod preview;
mod prompt_embedder;
mod slots;
pub mod stage;
mod stdit_worker;
mod token;
mod vae_decoder;

pub use denoise_controller::{ControllerInput, DenoiseController};
pub use error::{LoaderOf, PayloadError, StageError, StageErrorKind, StageFailure, StageName};
pub use job::{ConsumerLimits, DecodeJob, DenoiseJob, JobContext, JobPhase, JobTicket};
pub use job_events::{JobCanceller, JobEvents, NoMoreEvents};
pub use journal::{JobJournal, JournalError};
pub use order::JobOrder;
pub use pace::{Load, Pace, Turn};
pub use preview::{PREVIEWS_UNDER_WAY, PreviewJob, PreviewRequester};
pub use prompt_embedder::PromptEmbedder;
pub use slots::{SlotPermit, SlotRefusal, Slots};
pub use stdit_worker::{RingHop, RingItem, StditWorker};
pub use token::Token;
pub use vae_decoder::{DecoderInput, VaeDecoder};
