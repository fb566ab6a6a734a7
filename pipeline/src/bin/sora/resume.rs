//! Going on with what an interrupted run left: when that is done, and when it is refused.

use std::sync::Arc;

use anyhow::{Context, bail};
use sora_actors::messages::{GenerationRequest, JobCheckpoint};
use sora_pipeline::output::{Earlier, OutputTarget};
use sora_pipeline::saved_job::differences;

use crate::job::RunFacts;
use crate::print::note;

/// The prompt of the video that `-o` names, for a run that is told no other.
///
/// # Errors
/// Nothing is there to go on with.
pub fn prompt_of(output: Option<&str>) -> anyhow::Result<String> {
    let output = output.context(
        "no prompt: --resume needs the prompt of the video, or its name with -o, to find what was saved",
    )?;
    let earlier = OutputTarget::new(output)?.earlier()?;
    let request = earlier.request();
    let request = request.with_context(|| {
        format!("nothing is saved for {output}: say what the video shall show, to make it afresh")
    })?;
    Ok(request.prompt.clone())
}

/// What is left at a target; for a run that does not resume, nothing that must not be lost may be.
///
/// # Errors
/// Unfinished work is in the way, or cannot be used.
pub fn look(target: &OutputTarget, resume: bool) -> anyhow::Result<Earlier> {
    let found = target.earlier();
    if resume {
        return Ok(found?);
    }
    let (path, way_out) = (target.saved_job(), "delete it to start afresh");
    match found {
        Ok(Earlier::Nothing | Earlier::Finished(_)) => Ok(Earlier::Nothing),
        Ok(Earlier::Saved(job)) => {
            let (done, steps) = job.checkpoint.steps_done();
            bail!(
                "{} holds unfinished work, {done} of {steps} steps: go on with it with --resume, or {way_out}",
                path.display()
            )
        }
        Err(cause) => bail!("unfinished work would be saved where something else is: {cause}"),
    }
}

/// Refuses settings that an earlier run did not have.
///
/// # Errors
/// All settings that differ.
pub fn check_settings(
    target: &OutputTarget,
    earlier: &Earlier,
    asked: &GenerationRequest,
) -> anyhow::Result<()> {
    let Some(before) = earlier.request() else { return Ok(()) };
    let differing = differences(before, asked);
    if differing.is_empty() {
        return Ok(());
    }
    bail!(
        "{} was begun with other settings: {}; leave them out to go on with those that it was begun with",
        target.video().display(),
        differing.join(", ")
    )
}

/// What became of the videos of a run that resumes.
#[derive(Default)]
pub struct Tally {
    finished: usize,
    saved: usize,
    untouched: usize,
}

/// Where a video's work starts.
pub enum Start {
    /// It is done.
    Finished,
    /// After the last step that was saved.
    At(Arc<JobCheckpoint>),
    /// At the beginning.
    Afresh,
}

impl Tally {
    /// Where the work on a video starts on this machine.
    ///
    /// # Errors
    /// It was computed otherwise before, so that the same bytes could not come out.
    pub fn start(
        &mut self,
        target: &OutputTarget,
        earlier: Earlier,
        facts: &RunFacts,
    ) -> anyhow::Result<Start> {
        let path = target.saved_job();
        match earlier {
            Earlier::Nothing => {
                self.untouched += 1;
                Ok(Start::Afresh)
            }
            Earlier::Saved(job) => {
                job.check_model(&facts.model, &path)?;
                job.check_compute(&facts.compute, &path)?;
                self.saved += 1;
                Ok(Start::At(Arc::new(job.checkpoint)))
            }
            Earlier::Finished(video) => {
                if video.model.fingerprint != facts.model.fingerprint {
                    let video = target.video().display();
                    bail!("{video} is there already, made by other weights: choose another name");
                }
                self.finished += 1;
                Ok(Start::Finished)
            }
        }
    }

    /// Tells the user what was found.
    pub fn tell(&self) {
        let Self { finished, saved, untouched } = self;
        note(&match (finished, saved, untouched) {
            (1, 0, 0) => "the video is finished already".into(),
            (0, 1, 0) => "going on where the video was saved".into(),
            (0, 0, 1) => "nothing of the video is saved: beginning afresh".into(),
            _ => format!(
                "{finished} videos finished already, {saved} saved on their way, {untouched} not begun"
            ),
        });
    }
}
