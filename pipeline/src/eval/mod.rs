//! Judging models and settings: clips are made through the graph, and what they show is measured.

mod chart;
mod clip;
mod comparison_sheet;
pub mod detector;
pub mod metrics;
pub mod prompt_set;
mod quality;
mod report;
mod runner;
mod setting;
pub mod statistics;
mod table;

pub use clip::{Clip, ClipError};
pub use quality::{QualityError, QualityReport};
pub use report::{Accuracy, Report, SettingReport};
pub use runner::{EvalError, EvalPlan, Judged, evaluate};
pub use setting::{EvalSetting, SettingError};
pub use table::text_table;
