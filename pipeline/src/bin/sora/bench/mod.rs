//! `sora bench`: what streaming and the shortcuts cost and bring, and how fast the heavy parts of the model are. Each run
//! is a process of its own, since the operating system tells the peak memory of processes.

mod graph_runs;
mod own_process;
mod part_runs;
mod run_bar;

use sora_pipeline::bench::{
    ModelPart, SquareMatmul, StditPair, T5BlockPart, VaeSpatialPart, VaeTemporalPart,
};

use crate::arguments::{Bench, BenchArguments};
use crate::exit::Outcome;

/// Runs the benchmark and prints what it found.
///
/// # Errors
/// Something asked for cannot be done, or a run failed.
pub fn run(arguments: &BenchArguments) -> anyhow::Result<Outcome> {
    match &arguments.bench {
        Bench::Ablation(arguments) => graph_runs::ablation(arguments),
        Bench::Cidl(arguments) => graph_runs::cidl(arguments),
        Bench::Block(of) => {
            let pair = StditPair {
                frames: of.frames,
                height: of.height,
                width: of.width,
                tokens: of.tokens,
                merge: of.tdtm,
            };
            part_runs::part("block", ModelPart::StditPair(pair), &of.part)
        }
        Bench::T5Block(of) => {
            let block = T5BlockPart { tokens: of.tokens };
            part_runs::part("t5-block", ModelPart::T5Block(block), &of.part)
        }
        Bench::VaeSpatial(of) => {
            let decoder = VaeSpatialPart { side_px: of.size };
            part_runs::part("vae-spatial", ModelPart::VaeSpatial(decoder), &of.part)
        }
        Bench::VaeTemporal(of) => {
            let decoder = VaeTemporalPart { side_px: of.size };
            part_runs::part("vae-temporal", ModelPart::VaeTemporal(decoder), &of.part)
        }
        Bench::Matmul(of) => {
            part_runs::part("matmul", ModelPart::Matmul(SquareMatmul::REFERENCE), &of.part)
        }
        Bench::E2e(arguments) => part_runs::whole_videos(arguments),
        Bench::One(model) => own_process::run(model),
    }
}
