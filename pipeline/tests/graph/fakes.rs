//! Computation without models: numbers instead of tensors, gates to hold a stage, and failures on demand.

use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use sora_actors::StageFailure;
use sora_actors::compute::{
    BlockSpan, Computed, DecodeLatent, Denoise, EmbedPrompts, EmbeddedPrompt, EmbeddedTexts,
    StepReport,
};
use sora_actors::memory::MemoryLedger;
use sora_actors::messages::{GenerationRequest, Latent, PromptEmbedding, RgbFrame, VideoChunk};
use sora_models::ModelError;
use sora_models::rflow::{LeapRule, LinearProportionalLeap, SamplingSettings, SavedRun};
use sora_pipeline::topology::GraphCompute;

/// Frames that the fake decoder emits at a time.
pub const CHUNK_FRAMES: usize = 2;

/// A place where fakes compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Encoder,
    Denoiser,
    Block(usize),
    Decoder,
}

/// How a job goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    Error,
    Panic,
    Death,
}

/// What all fakes of one graph share: what they did, what holds them, and what goes wrong.
#[derive(Default)]
pub struct Stagecraft {
    log: Mutex<Vec<(Place, String)>>,
    encoder_loads: AtomicUsize,
    span_loads: AtomicUsize,
    closed: Mutex<Vec<Place>>,
    opened: Condvar,
    mishaps: Mutex<Vec<(Place, String, Mishap)>>,
}

impl Stagecraft {
    /// Holds every computation at `place` until it is opened.
    pub fn close(&self, place: Place) {
        self.closed.lock().unwrap().push(place);
    }

    pub fn open(&self, place: Place) {
        self.closed.lock().unwrap().retain(|closed| *closed != place);
        self.opened.notify_all();
    }

    /// Lets the job of this prompt go wrong at `place`.
    pub fn spoil(&self, place: Place, prompt: &str, mishap: Mishap) {
        self.mishaps.lock().unwrap().push((place, prompt.to_string(), mishap));
    }

    /// Every computation so far, in order of its start.
    pub fn log(&self) -> Vec<(Place, String)> {
        self.log.lock().unwrap().clone()
    }

    /// How often the job of this prompt was computed at `place`.
    pub fn count(&self, place: Place, prompt: &str) -> usize {
        self.log().iter().filter(|(at, of)| *at == place && of == prompt).count()
    }

    /// How often a block of the encoder was brought into memory.
    pub fn encoder_loads(&self) -> usize {
        self.encoder_loads.load(Ordering::SeqCst)
    }

    /// How often a block of the transformer was brought into memory.
    pub fn span_loads(&self) -> usize {
        self.span_loads.load(Ordering::SeqCst)
    }

    fn compute(&self, place: Place, prompt: &str) -> Computed<()> {
        self.log.lock().unwrap().push((place, prompt.to_string()));
        let closed = self.closed.lock().unwrap();
        drop(self.opened.wait_while(closed, |closed| closed.contains(&place)).unwrap());
        let mishaps = self.mishaps.lock().unwrap().clone();
        let found = mishaps.iter().find(|(at, of, _)| *at == place && of == prompt);
        match found.map(|(_, _, mishap)| *mishap) {
            None => Ok(()),
            Some(Mishap::Error) => {
                Err(ModelError::NotFinite { what: format!("{place:?} of {prompt}") }.into())
            }
            Some(Mishap::Panic) => panic!("deliberate panic at {place:?}"),
            Some(Mishap::Death) => {
                Err(StageFailure::StageDied { reason: format!("{place:?} lost its device") })
            }
        }
    }
}

/// The fake computation with `workers` spans of two blocks each.
pub fn fake_compute(
    stagecraft: &Arc<Stagecraft>,
    workers: usize,
) -> GraphCompute<FakeEncoder, FakeDenoiser, FakeSpan, FakeDecoder> {
    let span = |index| FakeSpan(stagecraft.clone(), 2 * index..2 * index + 2);
    GraphCompute {
        encoder: FakeEncoder(stagecraft.clone()),
        denoiser: FakeDenoiser(stagecraft.clone()),
        spans: (0..workers).map(span).collect(),
        decoder: FakeDecoder(stagecraft.clone()),
        loaders: Vec::new(),
        ledger: MemoryLedger::unlimited(),
    }
}

/// A number that came a long way: equal only if the same computation was done in the same order.
#[derive(Clone)]
pub struct Number {
    prompt: String,
    value: u32,
}

impl Number {
    fn mix(&mut self, with: u32) {
        // 16 bits, so that it passes an f32 unchanged.
        self.value = (self.value.wrapping_mul(31) ^ with.wrapping_mul(97)) & 0xffff;
    }
}

pub struct FakeEncoder(Arc<Stagecraft>);

impl BlockSpan for FakeEncoder {
    type Activation = Number;
    type Block = usize;

    fn block_count(&self) -> usize {
        3
    }

    fn acquire(&mut self, index: usize) -> Computed<usize> {
        self.0.encoder_loads.fetch_add(1, Ordering::SeqCst);
        Ok(index)
    }

    fn run(&self, block: &usize, number: &mut Number) -> Computed<()> {
        if *block == 0 {
            self.0.compute(Place::Encoder, &number.prompt)?;
        }
        number.mix(*block as u32);
        Ok(())
    }
}

impl EmbedPrompts for FakeEncoder {
    fn begin(&self, request: &GenerationRequest) -> Computed<Number> {
        let value = request.seed as u32 & 0xffff;
        Ok(Number { prompt: request.prompt.clone(), value })
    }

    fn finish(&self, number: Number) -> Computed<EmbeddedTexts> {
        let embedding = PromptEmbedding {
            format_version: PromptEmbedding::FORMAT_VERSION,
            token_ids: vec![7],
            mask: vec![1],
            shape: [1, 1],
            values: vec![number.value as f32],
        };
        let prompt = EmbeddedPrompt { caption: number.prompt, embedding, cut: None };
        Ok(EmbeddedTexts::alone(prompt))
    }
}

pub struct FakeDenoiser(Arc<Stagecraft>);

pub struct FakeRun {
    number: Number,
    step: usize,
    steps: usize,
    num_frames: usize,
}

impl Denoise for FakeDenoiser {
    type Run = FakeRun;
    type Activation = Number;

    fn start(&self, request: &GenerationRequest, texts: &EmbeddedTexts) -> Computed<FakeRun> {
        let number = Number {
            prompt: request.prompt.clone(),
            value: texts.prompt.embedding.values[0] as u32,
        };
        let (steps, num_frames) = (request.sampling.steps, request.num_frames);
        Ok(FakeRun { number, step: 0, steps, num_frames })
    }

    fn resume(
        &self,
        request: &GenerationRequest,
        texts: &EmbeddedTexts,
        saved: &SavedRun,
    ) -> Computed<FakeRun> {
        let mut run = self.start(request, texts)?;
        (run.number.value, run.step) = (saved.latent[0] as u32, saved.step);
        Ok(run)
    }

    fn save(&self, run: &FakeRun) -> Computed<SavedRun> {
        Ok(SavedRun {
            format_version: SavedRun::FORMAT_VERSION,
            settings: SamplingSettings { steps: run.steps, ..SamplingSettings::default() },
            timesteps: Vec::new(),
            step: run.step,
            shape: [1; 4],
            latent: vec![run.number.value as f32],
            leap: LinearProportionalLeap::new(LeapRule::Off),
            velocities: Vec::new(),
            conditioning: None,
        })
    }

    fn begin_step(&self, run: &mut FakeRun) -> Computed<Number> {
        self.0.compute(Place::Denoiser, &run.number.prompt)?;
        Ok(run.number.clone())
    }

    fn finish_step(&self, run: &mut FakeRun, number: Number) -> Computed<StepReport> {
        run.number = number;
        run.number.mix(run.step as u32);
        run.step += 1;
        Ok(StepReport {
            index: run.step - 1,
            steps: run.steps,
            timestep: 1000.0,
            cosine: None,
            merged: false,
            leapt: false,
            coasted: 0,
            last: run.step == run.steps,
        })
    }

    fn preview(&self, run: &FakeRun) -> Computed<Option<Latent>> {
        let prompt = preview_of(&run.number.prompt);
        self.0.compute(Place::Denoiser, &prompt)?;
        Ok(Some(latent(run.number.value, &prompt, 1)))
    }

    fn latent(&self, run: FakeRun) -> Computed<Latent> {
        Ok(latent(run.number.value, &run.number.prompt, run.num_frames))
    }
}

/// What a preview is called where computations are logged or spoiled.
pub fn preview_of(prompt: &str) -> String {
    format!("preview of {prompt}")
}

/// The prompt travels in the values, so that the decoder can go wrong for one job.
fn latent(value: u32, prompt: &str, num_frames: usize) -> Latent {
    let values: Vec<f32> =
        std::iter::once(value as f32).chain(prompt.bytes().map(f32::from)).collect();
    Latent {
        format_version: Latent::FORMAT_VERSION,
        shape: [1, 1, 1, values.len()],
        values,
        num_frames,
    }
}

pub struct FakeSpan(Arc<Stagecraft>, Range<usize>);

impl BlockSpan for FakeSpan {
    type Activation = Number;
    type Block = usize;

    fn block_count(&self) -> usize {
        self.1.len()
    }

    fn acquire(&mut self, index: usize) -> Computed<usize> {
        self.0.span_loads.fetch_add(1, Ordering::SeqCst);
        Ok(self.1.start + index)
    }

    fn run(&self, block: &usize, number: &mut Number) -> Computed<()> {
        self.0.compute(Place::Block(*block), &number.prompt)?;
        number.mix(*block as u32 + 100);
        Ok(())
    }
}

pub struct FakeDecoder(Arc<Stagecraft>);

impl DecodeLatent for FakeDecoder {
    fn decode(
        &mut self,
        latent: &Latent,
        emit: &mut dyn FnMut(VideoChunk) -> ControlFlow<()>,
    ) -> Computed<()> {
        let prompt = latent.values[1..].iter().map(|&byte| byte as u8 as char).collect::<String>();
        for first_frame in (0..latent.num_frames).step_by(CHUNK_FRAMES) {
            self.0.compute(Place::Decoder, &prompt)?;
            let value = latent.values[0] as u32;
            let pixel = |frame| RgbFrame(vec![value as u8, (value >> 8) as u8, frame as u8]);
            let end = latent.num_frames.min(first_frame + CHUNK_FRAMES);
            let frames = (first_frame..end).map(pixel).collect();
            if emit(VideoChunk::new(first_frame, 1, 1, frames)?).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The pixel that the fakes must come to, computed without a graph.
pub fn expected_pixel(request: &GenerationRequest, blocks: usize) -> [u8; 2] {
    expected_after(request, blocks, request.sampling.steps)
}

/// The pixel that a preview must show after so many steps.
pub fn expected_after(request: &GenerationRequest, blocks: usize, steps: usize) -> [u8; 2] {
    let mut number = Number { prompt: String::new(), value: request.seed as u32 & 0xffff };
    (0..3).for_each(|block| number.mix(block));
    for step in 0..steps {
        (0..blocks).for_each(|block| number.mix(block as u32 + 100));
        number.mix(step as u32);
    }
    [number.value as u8, (number.value >> 8) as u8]
}
