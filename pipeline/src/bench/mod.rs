//! What streaming and the shortcuts cost and bring, and how fast the heavy parts are, measured on this machine.
//!
//! A [`BenchTask`] is one run of the graph, [`measure`] makes it and gives a [`Measurement`]. Two sets of tasks are defined
//! here: [`AblationSettings`], whole videos with each technique alone and all together, and [`CidlSettings`], denoising
//! alone with blocks read in different ways. Each run belongs into a process of its own, since the operating system tells
//! the peak memory of processes; whoever makes the runs interleaves them ([`run_interleaved`]), so that a machine that
//! gets slower or faster meanwhile does it to all alike.
//!
//! A [`PartTask`] is a heavy part of the model by itself, at full width, with random weights: [`time_part`] takes its time
//! and [`time_videos`] that of whole videos. A [`TimeReport`] compares them with a matrix product in the same run and with
//! an [`OtherProgram`] that does the same work.

mod ablation;
mod cidl;
mod comparison;
mod denoising_only;
mod machine;
mod measure;
mod measurement;
mod other_program;
mod part;
mod series;
mod task;
mod timing;

pub use ablation::{AblationSettings, ablation_table};
pub use cidl::{CidlPrompts, CidlReadLimits, CidlReport, CidlSettings, CidlStep};
pub use comparison::{TimeFigures, TimeReport, TimedRun};
pub use machine::{Machine, peak_resident_bytes};
pub use measure::{BenchError, measure};
pub use measurement::{Measurement, StageFigures};
pub use other_program::{OtherFigures, OtherProgram, OtherProgramError};
pub use part::{
    ModelPart, PartTask, SquareMatmul, StditPair, T5BlockPart, VaeSpatialPart, VaeTemporalPart,
};
pub use series::{Series, interleave, run_interleaved};
pub use task::{BenchStages, BenchTask, NamedTask};
pub use timing::{ProcessTiming, time_part, time_videos};
