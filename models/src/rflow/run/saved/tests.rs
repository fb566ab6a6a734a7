#![allow(clippy::unwrap_used)]

use super::*;
use crate::rflow::{CoastRule, CosineOver, DynamicLeap, LeapRule, StepOutcome, StepRequest};

const SIZE: VideoSize = VideoSize { height_px: 32, width_px: 32, frames: 17 };
const STEPS: usize = 7;

fn noise() -> Tensor {
    crate::rflow::initial_noise(3, &[1, 2, 5, 4, 4], &Device::Cpu).unwrap()
}

/// A model whose velocity bends with the latent and with time.
fn bending(request: &StepRequest) -> Tensor {
    request.latent.affine(1.7, f64::from(request.timestep) / 300.0).unwrap().sin().unwrap()
}

/// Of a step its index, its drift cosine, whether it leapt, and how many steps were passed over.
type Taken = (usize, Option<f64>, bool, usize);

/// The remaining steps and the latent, in which all bits show.
fn finish(mut run: DenoiseRun) -> (Vec<Taken>, Vec<f32>) {
    let mut steps = Vec::new();
    while let Some(request) = run.next_step().unwrap() {
        let StepOutcome { step, cosine, leapt, coasted, .. } =
            run.advance(&bending(&request)).unwrap();
        steps.push((step, cosine, leapt, coasted));
    }
    (steps, values(&run.into_latent()).unwrap())
}

fn advance(run: &mut DenoiseRun) -> bool {
    let Some(request) = run.next_step().unwrap() else { return false };
    run.advance(&bending(&request)).unwrap();
    true
}

/// Saves `run` before every step, the first and the last included, and lets each copy run to the end.
fn goes_on_everywhere(name: &str, mut run: DenoiseRun) {
    let (steps, latent) = finish(run.clone());
    let mut taken = 0;
    loop {
        let saved = run.save().unwrap();
        let restored = DenoiseRun::restore(&saved, SIZE, &Device::Cpu).unwrap();
        assert_eq!(restored.save().unwrap(), saved, "{name} before step {taken}");
        let (later, end) = finish(restored);
        assert_eq!(later, steps[taken..], "{name} before step {taken}");
        assert!(end == latent, "{name}: other bits after going on before step {taken}");
        if !advance(&mut run) {
            break;
        }
        taken += 1;
    }
    assert_eq!(taken, steps.len());
}

fn dynamic(over: CosineOver) -> LeapRule {
    LeapRule::Dynamic(DynamicLeap { from_step: 2, patience: 2, over, ..DynamicLeap::default() })
}

#[test]
fn a_run_goes_on_with_the_same_bits_under_every_rule() {
    let base = SamplingSettings { steps: STEPS, ..Default::default() };
    let leaping = |leap| SamplingSettings { leap, ..base.clone() };
    let coast = CoastRule::Evaluations(4);
    for settings in [
        base.clone(),
        leaping(LeapRule::Fixed(4)),
        leaping(dynamic(CosineOver::FirstFrame)),
        leaping(dynamic(CosineOver::Whole)),
        SamplingSettings { coast, ..base.clone() },
    ] {
        let name = format!("lpl {}, coast {}", settings.leap, settings.coast);
        goes_on_everywhere(&name, DenoiseRun::new(&noise(), settings, SIZE).unwrap());
    }
}

#[test]
fn timesteps_that_do_not_follow_from_the_settings_are_kept() {
    let settings = SamplingSettings { steps: 3, ..Default::default() };
    let run = DenoiseRun::new(&noise(), settings, SIZE).unwrap();
    goes_on_everywhere("own timesteps", run.with_timesteps(vec![1000.0, 400.0, 7.5]).unwrap());
}

fn with_given_frames(release_noise: ReleaseNoise) -> DenoiseRun {
    let settings = SamplingSettings { steps: STEPS, ..Default::default() };
    let run = DenoiseRun::new(&noise(), settings, SIZE).unwrap();
    let frame_mask = vec![0.0, 0.4, 0.8, 1.0, 1.0];
    run.with_conditioning(FrameConditioning { frame_mask, release_noise }).unwrap()
}

#[test]
fn given_frames_are_released_once() {
    goes_on_everywhere("given frames", with_given_frames(ReleaseNoise::Seeded(9)));
}

#[test]
fn a_step_that_was_asked_for_is_asked_for_again() {
    let mut run = with_given_frames(ReleaseNoise::Seeded(9));
    let expected = finish(run.clone());
    while run.next_step().unwrap().is_some() {
        let saved = run.save().unwrap();
        let restored = DenoiseRun::restore(&saved, SIZE, &Device::Cpu).unwrap();
        assert!(finish(restored).1 == expected.1, "other bits before step {}", run.step());
        advance(&mut run);
    }
}

#[test]
fn recorded_noise_is_not_saved() {
    let recorded = Tensor::zeros((STEPS, 2, 5, 4, 4), candle_core::DType::F32, &Device::Cpu);
    let error = with_given_frames(ReleaseNoise::Recorded(recorded.unwrap())).save().unwrap_err();
    assert!(error.to_string().contains("recorded"), "{error}");
}

#[test]
fn rows_that_are_taken_out_can_be_put_back() {
    let coast = CoastRule::Evaluations(4);
    let settings = SamplingSettings { steps: STEPS, coast, ..Default::default() };
    let mut run = DenoiseRun::new(&noise(), settings, SIZE).unwrap();
    (0..2).for_each(|_| assert!(advance(&mut run)));
    let saved = run.save().unwrap();
    let mut emptied = saved.clone();
    let taken: Vec<_> = emptied
        .arrays()
        .into_iter()
        .map(|array| {
            assert_eq!(array.shape.iter().product::<usize>(), array.values.len(), "{}", array.name);
            (array.name, std::mem::take(array.values))
        })
        .collect();
    let names: Vec<_> = taken.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["latent", "velocity.0", "velocity.1", "leap.previous"]);
    for (array, (name, values)) in emptied.arrays().into_iter().zip(taken) {
        assert_eq!(array.name, name);
        *array.values = values;
    }
    assert_eq!(emptied, saved);
}

type Spoil = fn(&mut SavedRun);

#[test]
fn data_that_does_not_fit_together_is_refused() {
    let coast = CoastRule::Evaluations(4);
    let settings = SamplingSettings { steps: STEPS, coast, ..Default::default() };
    let mut run = DenoiseRun::new(&noise(), settings, SIZE).unwrap();
    advance(&mut run);
    let good = run.save().unwrap();
    let told = |spoil: Spoil| {
        let mut saved = good.clone();
        spoil(&mut saved);
        DenoiseRun::restore(&saved, SIZE, &Device::Cpu).unwrap_err().to_string()
    };
    let cases: [(Spoil, &str); 8] = [
        (|saved| saved.format_version = 7, "version is 7"),
        (|saved| saved.latent.truncate(5), "5 values"),
        (|saved| saved.shape = [usize::MAX, 2, 2, 2], "do not fill"),
        (|saved| saved.step = STEPS + 1, "step 8 of 7"),
        (|saved| saved.step = 3, "step 3 of 7"),
        (|saved| saved.timesteps[1] = f32::NAN, "timesteps"),
        (|saved| saved.velocities[0].values.clear(), "0 values"),
        (|saved| saved.leap = LinearProportionalLeap::new(LeapRule::Fixed(1)), "another run"),
    ];
    for (spoil, expected) in cases {
        assert!(told(spoil).contains(expected), "{}", told(spoil));
    }
    let short = told(|saved| {
        saved.leap.previous_mut().unwrap().values.pop();
    });
    assert!(short.contains("another run"), "{short}");
}
