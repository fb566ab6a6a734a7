//! What streaming and the shortcuts cost and bring, measured on this machine.
//!
//! A [`BenchTask`] is one run of the graph, [`measure`] makes it and gives a [`Measurement`]. Two sets of tasks are defined
//! here: [`AblationSettings`], whole videos with each technique alone and all together, and [`CidlSettings`], denoising
//! alone with blocks read in different ways. Each run belongs into a process of its own, since the operating system tells
//! the peak memory of processes; whoever makes the runs interleaves them ([`run_interleaved`]), so that a machine that
//! gets slower or faster meanwhile does it to all alike.

mod ablation;
mod cidl;
mod denoising_only;
mod machine;
mod measure;
mod measurement;
mod series;
mod task;

pub use ablation::{AblationSettings, ablation_table};
pub use cidl::{CidlPrompts, CidlReadLimits, CidlReport, CidlSettings, CidlStep};
pub use machine::{Machine, peak_resident_bytes};
pub use measure::{BenchError, measure};
pub use measurement::{Measurement, StageFigures};
pub use series::{Series, run_interleaved};
pub use task::{BenchStages, BenchTask, NamedTask};
