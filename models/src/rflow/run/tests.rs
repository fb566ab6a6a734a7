#![allow(clippy::unwrap_used)]

use candle_core::Device;

use super::super::leap::LeapRule;
use super::*;
use crate::rflow::conditioning::ReleaseNoise;

const SIZE: VideoSize = VideoSize { height_px: 32, width_px: 32, frames: 17 };

fn noise() -> Tensor {
    super::super::initial_noise(3, &[1, 2, 5, 4, 4], &Device::Cpu).unwrap()
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// A model whose velocity leads every latent straight to `target`.
fn straight(request: &StepRequest, target: f64) -> Tensor {
    let velocity = (request.latent.affine(-1.0, target).unwrap()
        / (f64::from(request.timestep) / 1000.0))
        .unwrap();
    // A second half of channels, as with `pred_sigma`, must not matter.
    Tensor::cat(&[&velocity, &(&velocity * 100.0).unwrap()], 1).unwrap()
}

fn run_to_end(mut run: DenoiseRun) -> (Vec<StepOutcome>, Tensor) {
    let mut outcomes = Vec::new();
    while let Some(request) = run.next_step().unwrap() {
        outcomes.push(run.advance(&straight(&request, 0.25)).unwrap());
    }
    (outcomes, run.into_latent())
}

#[test]
fn a_leap_ends_at_time_zero() {
    for leap in [LeapRule::Off, LeapRule::Fixed(0), LeapRule::Fixed(4), LeapRule::Fixed(9)] {
        let settings = SamplingSettings { steps: 10, leap, ..Default::default() };
        let run = DenoiseRun::new(&noise(), settings, SIZE).unwrap();
        let (outcomes, latent) = run_to_end(run);
        let expected = if let LeapRule::Fixed(at) = leap { at + 1 } else { 10 };
        assert_eq!(outcomes.len(), expected, "{leap}");
        assert!(outcomes.last().unwrap().done);
        assert!(outcomes[..expected - 1].iter().all(|outcome| !outcome.done && !outcome.leapt));
        let off = values(&latent).iter().map(|x| (x - 0.25).abs()).fold(0.0, f32::max);
        assert!(off < 1e-5, "{leap} ends {off} from the target");
    }
}

#[test]
fn coasting_walks_all_steps_with_few_evaluations() {
    let coast = CoastRule::Evaluations(4);
    let settings = SamplingSettings { steps: 10, coast, ..Default::default() };
    let (outcomes, latent) = run_to_end(DenoiseRun::new(&noise(), settings, SIZE).unwrap());
    assert_eq!(outcomes.len(), 4);
    assert_eq!(outcomes.iter().map(|outcome| 1 + outcome.coasted).sum::<usize>(), 10);
    assert!(outcomes[3].done && !outcomes[3].leapt);
    // The velocity to a fixed target does not change on the way.
    let off = values(&latent).iter().map(|x| (x - 0.25).abs()).fold(0.0, f32::max);
    assert!(off < 1e-5, "it ends {off} from the target");
}

#[test]
fn new_timesteps_choose_new_evaluations() {
    let coast = CoastRule::Evaluations(3);
    let settings = SamplingSettings { steps: 5, coast, ..Default::default() };
    let run = DenoiseRun::new(&noise(), settings, SIZE).unwrap();
    let run = run.with_timesteps(vec![1000.0, 990.0, 980.0, 500.0, 10.0]).unwrap();
    let steps: Vec<_> = run_to_end(run).0.iter().map(|outcome| outcome.step).collect();
    assert_eq!(steps, [0, 3, 4]);
}

#[test]
fn a_run_with_given_frames_cannot_coast() {
    let coast = CoastRule::Evaluations(3);
    let settings = SamplingSettings { steps: 5, coast, ..Default::default() };
    let run = DenoiseRun::new(&noise(), settings, SIZE).unwrap();
    let conditioning =
        FrameConditioning { frame_mask: vec![1.0; 5], release_noise: ReleaseNoise::Seeded(3) };
    assert!(run.with_conditioning(conditioning).is_err());
}

#[test]
fn runs_repeat_bit_for_bit() {
    let settings = SamplingSettings { steps: 7, ..Default::default() };
    let latent = || run_to_end(DenoiseRun::new(&noise(), settings.clone(), SIZE).unwrap()).1;
    assert_eq!(values(&latent()), values(&latent()));
}

#[test]
fn given_frames_stay_as_they_are() {
    let start = noise();
    let conditioning = FrameConditioning {
        frame_mask: vec![0.0, 0.5, 1.0, 1.0, 1.0],
        release_noise: ReleaseNoise::Seeded(3),
    };
    let settings = SamplingSettings { steps: 8, ..Default::default() };
    let run = DenoiseRun::new(&start, settings, SIZE).unwrap();
    let (_, latent) = run_to_end(run.with_conditioning(conditioning).unwrap());
    let frame = |x: &Tensor, index| values(&x.narrow(2, index, 1).unwrap().contiguous().unwrap());
    assert_eq!(frame(&latent, 0), frame(&start, 0));
    for index in 1..5 {
        assert!(frame(&latent, index).iter().all(|x| (x - 0.25).abs() < 1e-5), "frame {index}");
    }
}

#[test]
fn values_that_are_not_finite_name_the_step() {
    let settings = SamplingSettings { steps: 4, ..Default::default() };
    for poison in [f32::NAN, f32::INFINITY] {
        let mut run = DenoiseRun::new(&noise(), settings.clone(), SIZE).unwrap();
        let request = run.next_step().unwrap().unwrap();
        run.advance(&straight(&request, 0.0)).unwrap();
        run.next_step().unwrap();
        let mut output = vec![0f32; 2 * 4 * 5 * 4 * 4];
        output[3] = poison;
        let output = Tensor::from_vec(output, (2, 4, 5, 4, 4), &Device::Cpu).unwrap();
        let error = run.advance(&output).unwrap_err();
        assert!(matches!(error, ModelError::NotFinite { .. }), "{error}");
        assert!(error.to_string().contains("step 1"), "{error}");
    }
}

#[test]
fn a_run_cannot_be_driven_out_of_order() {
    let settings = SamplingSettings { steps: 1, ..Default::default() };
    let mut run = DenoiseRun::new(&noise(), settings.clone(), SIZE).unwrap();
    let output = Tensor::zeros((2, 4, 5, 4, 4), DType::F32, &Device::Cpu).unwrap();
    assert!(run.advance(&output).is_err());
    run.next_step().unwrap();
    run.advance(&output).unwrap();
    assert!(run.next_step().unwrap().is_none());
    assert!(run.advance(&output).is_err());
    let batch = Tensor::zeros((2, 2, 5, 4, 4), DType::F32, &Device::Cpu).unwrap();
    assert!(DenoiseRun::new(&batch, settings, SIZE).is_err());
}

#[test]
fn timesteps_must_fit() {
    let run = || {
        let settings = SamplingSettings { steps: 2, ..Default::default() };
        DenoiseRun::new(&noise(), settings, SIZE).unwrap()
    };
    assert_eq!(run().with_timesteps(vec![1000.0001, 3.0]).unwrap().timesteps(), [1000.0, 3.0]);
    for bad in [vec![1000.0], vec![500.0, 500.0], vec![500.0, 0.0], vec![f32::NAN, 1.0]] {
        assert!(run().with_timesteps(bad.clone()).is_err(), "{bad:?} was accepted");
    }
}
