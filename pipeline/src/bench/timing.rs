//! Taking the time of one thing, again and again, in this process.

use std::num::NonZeroUsize;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use sora_models::ModelError;
use sora_models::bundle::ModelBundle;
use sora_models::device_work::finish_work;

use super::machine::peak_resident_bytes;
use super::measure::{BenchError, measure};
use super::part::PartTask;
use super::task::BenchTask;

/// What a process found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessTiming {
    /// What each iteration took.
    pub seconds: Vec<f64>,
    /// The most memory that the process had resident, as the operating system counts it; `None` where it does not tell.
    pub peak_process_bytes: Option<u64>,
}

/// Builds a part and runs it once more than `iterations` times; the first time is not counted, since caches are cold and
/// memory is still to be had. What `turn` gives is held while the part is built, and in each run. Call it once a process: the peak
/// of memory is the process's.
///
/// # Errors
/// The sizes do not fit the model, an operation fails, or the result is not finite.
pub fn time_part<T>(
    task: &PartTask,
    dtype: DType,
    device: &Device,
    iterations: NonZeroUsize,
    mut turn: impl FnMut() -> T,
) -> Result<ProcessTiming, BenchError> {
    let warming_up = turn();
    let mut part = task.build(dtype, device)?;
    let mut run = || {
        let result = part()?;
        finish_work(device)?;
        Ok::<Tensor, BenchError>(result)
    };
    run()?;
    drop(warming_up);
    let (mut seconds, mut last) = (Vec::with_capacity(iterations.get()), None);
    for _ in 0..iterations.get() {
        // One result at a time, as anywhere in the graph.
        drop(last.take());
        let _turn = turn();
        let started = Instant::now();
        last = Some(run()?);
        seconds.push(started.elapsed().as_secs_f64());
    }
    // Before the result is looked at, which takes memory of its own.
    let peak_process_bytes = peak_resident_bytes();
    if !last.as_ref().map(is_finite).transpose()?.unwrap_or(true) {
        return Err(ModelError::NotFinite { what: task.description() }.into());
    }
    Ok(ProcessTiming { seconds, peak_process_bytes })
}

/// Makes a task's videos once more than `iterations` times, each time by a graph of its own, as [`measure`] does; the
/// first time is not counted. Call it within an actix system, once a process: the peak of memory is the process's.
///
/// # Errors
/// Those of [`measure`].
pub async fn time_videos(
    bundle: &ModelBundle,
    dtype: DType,
    device: &Device,
    task: &BenchTask,
    iterations: NonZeroUsize,
) -> Result<ProcessTiming, BenchError> {
    measure(bundle, dtype, device, task).await?;
    let mut seconds = Vec::with_capacity(iterations.get());
    for _ in 0..iterations.get() {
        seconds.push(measure(bundle, dtype, device, task).await?.seconds);
    }
    Ok(ProcessTiming { seconds, peak_process_bytes: peak_resident_bytes() })
}

fn is_finite(result: &Tensor) -> sora_models::Result<bool> {
    let sum = result.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?;
    Ok(sum.is_finite())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use sora_models::bundle::ModelBundle;
    use sora_models::checkpoint_tools::Preset;

    use super::super::ablation::tests::request;
    use super::super::part::{
        ModelPart, SquareMatmul, StditPair, T5BlockPart, VaeSpatialPart, VaeTemporalPart,
    };
    use super::super::task::BenchStages;
    use super::*;
    use crate::config::MemoryLimits;

    const TWICE: NonZeroUsize = NonZeroUsize::new(2).unwrap();

    fn pair(frames: usize, merge: bool) -> ModelPart {
        ModelPart::StditPair(StditPair { frames, height: 6, width: 5, tokens: 4, merge })
    }

    fn tiny(part: ModelPart) -> PartTask {
        PartTask { preset: Preset::Tiny, part }
    }

    #[test]
    fn every_part_runs_in_every_dtype_and_is_timed() {
        let parts = [
            pair(5, false),
            pair(5, true),
            ModelPart::T5Block(T5BlockPart { tokens: 7 }),
            ModelPart::VaeSpatial(VaeSpatialPart { side_px: 16 }),
            ModelPart::VaeTemporal(VaeTemporalPart { side_px: 16 }),
            ModelPart::Matmul(SquareMatmul { side: 16 }),
        ];
        for part in parts {
            for dtype in [DType::F32, DType::F16, DType::BF16] {
                let timing = time_part(&tiny(part), dtype, &Device::Cpu, TWICE, || ()).unwrap();
                assert_eq!(timing.seconds.len(), 2, "{part:?}");
                assert!(timing.seconds.iter().all(|s| s.is_finite() && *s > 0.0), "{part:?}");
                #[cfg(target_os = "linux")]
                assert!(timing.peak_process_bytes > Some(1 << 20), "{part:?}");
            }
        }
    }

    #[test]
    fn the_result_has_the_shape_of_the_work() {
        let dims =
            |part| tiny(part).build(DType::F32, &Device::Cpu).unwrap()().unwrap().dims().to_vec();
        // Two rows of 5 frames of 3x3 tokens, in the tiny width.
        assert_eq!(dims(pair(5, true)), [2, 45, 48]);
        assert_eq!(dims(ModelPart::T5Block(T5BlockPart { tokens: 7 })), [1, 7, 32]);
        let spatial = ModelPart::VaeSpatial(VaeSpatialPart { side_px: 16 });
        assert_eq!(dims(spatial), [1, 3, 4, 16, 16]);
        let temporal = ModelPart::VaeTemporal(VaeTemporalPart { side_px: 16 });
        assert_eq!(dims(temporal), [1, 4, 17, 2, 2]);
    }

    #[test]
    fn operations_are_counted_as_by_hand() {
        let official = |part| PartTask { preset: Preset::OpenSoraV12, part }.gflop().unwrap();
        let pair = |merge| {
            official(ModelPart::StditPair(StditPair {
                frames: 20,
                height: 24,
                width: 24,
                tokens: 30,
                merge,
            }))
        };
        // 5760 tokens through two blocks of fourteen 1152x1152 products each, or 8 of them and 6 on half of the tokens.
        assert_eq!(pair(false), Some(2.0 * 2.0 * 5760.0 * 14.0 * 1152.0 * 1152.0 / 1e9));
        assert_eq!(pair(true), Some(2.0 * 2.0 * 5760.0 * 11.0 * 1152.0 * 1152.0 / 1e9));
        let per_token = 4.0 * 4096.0 * 4096.0 + 3.0 * 4096.0 * 10240.0;
        let t5 = official(ModelPart::T5Block(T5BlockPart { tokens: 300 }));
        assert_eq!(t5, Some(600.0 * per_token / 1e9));
        let matmul = official(ModelPart::Matmul(SquareMatmul::REFERENCE));
        assert_eq!(matmul, Some(2.0 * 2048f64.powi(3) / 1e9));
        assert_eq!(official(ModelPart::VaeSpatial(VaeSpatialPart { side_px: 256 })), None);
        // 2x5 frames of 9 tokens: 48x48 weights, of which merging leaves the six of attention to 2 of 5 frames.
        let tiny = tiny(self::pair(5, true)).gflop().unwrap();
        assert_eq!(tiny, Some((2 * 2 * 2 * 9 * (2 * 6 + 5 * 8) * 48 * 48) as f64 / 1e9));
    }

    #[test]
    fn sizes_that_no_model_has_are_refused() {
        let refused = |part| {
            let failed = time_part(&tiny(part), DType::F32, &Device::Cpu, TWICE, || ());
            failed.unwrap_err().to_string()
        };
        let spatial = ModelPart::VaeSpatial(VaeSpatialPart { side_px: 20 });
        assert!(refused(spatial).contains("a multiple of 8"), "{}", refused(spatial));
        assert!(refused(pair(0, false)).contains("empty"), "{}", refused(pair(0, false)));
    }

    #[test]
    fn videos_are_made_again_and_again() {
        let task = BenchTask {
            request: request(),
            prompts: 1,
            workers: 1,
            memory: MemoryLimits::default(),
            stages: BenchStages::All,
        };
        let bundle = ModelBundle::embedded().unwrap();
        let timing = actix::System::new()
            .block_on(time_videos(&bundle, DType::F32, &Device::Cpu, &task, TWICE))
            .unwrap();
        assert!(timing.seconds.len() == 2 && timing.seconds.iter().all(|s| *s > 0.0));
    }
}
