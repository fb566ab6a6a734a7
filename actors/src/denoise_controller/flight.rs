//! A job that is being denoised: its sampling, and what is told and saved of it.

use std::sync::Arc;
use std::time::Instant;

use sora_telemetry::{DenoiseMetrics, timeline};

use crate::compute::{Computed, Denoise, StepReport};
use crate::error::StageFailure;
use crate::job::{JobPhase, JobTicket};
use crate::journal::JobKeeper;
use crate::messages::{JobEvent, Latent};
use crate::preview::{PreviewJob, PreviewPlaces};
use crate::slots::SlotPermit;
use crate::stage::StageCore;

/// A job between its admission and its latent.
pub(crate) struct DenoiseFlight<R> {
    pub(crate) ticket: JobTicket,
    pub(crate) slot: SlotPermit,
    pub(crate) run: R,
    pub(crate) keeper: Option<JobKeeper>,
    pub(crate) started: Instant,
    pub(crate) step_started: Instant,
    /// The sweep that its token is part of; none while it waits for one.
    pub(crate) sweep: Option<u64>,
}

impl<R> DenoiseFlight<R> {
    /// Ends a step with what came through the blocks, tells of it, and saves it when that is due.
    pub(crate) fn finish_step<D: Denoise<Run = R>>(
        &mut self,
        denoiser: &D,
        activation: D::Activation,
        core: &StageCore,
        metrics: &DenoiseMetrics,
    ) -> Result<StepReport, Arc<StageFailure>> {
        let job = self.ticket.context().clone();
        let finishing = timeline::finish(job.id().0);
        let report = core.compute(|| denoiser.finish_step(&mut self.run, activation))?;
        drop(finishing);
        self.tell(&report, metrics);
        if let (Some(keeper), false) = (&mut self.keeper, report.last) {
            let _saving = timeline::save(job.id().0);
            core.compute(|| keeper.step_done(&job, denoiser, &self.run))?;
        }
        Ok(report)
    }

    /// What the decoder needs for a preview after a step, if the consumer wants one and none is under way.
    pub(crate) fn preview<D: Denoise<Run = R>>(
        &self,
        report: &StepReport,
        denoiser: &D,
        core: &StageCore,
        places: &PreviewPlaces,
    ) -> Option<PreviewJob> {
        let open = places.take_wish(self.ticket.context())?;
        match core.compute(|| denoiser.preview(&self.run)) {
            Ok(latent) => {
                let done = report.index + 1 + report.coasted;
                latent.map(|latent| PreviewJob { open, done, latent })
            }
            Err(cause) => {
                tracing::warn!(job = %open.job().id(), %cause, "a preview failed");
                open.failed();
                None
            }
        }
    }

    fn tell(&self, report: &StepReport, metrics: &DenoiseMetrics) {
        let &StepReport { index, steps, timestep, cosine, merged, leapt, coasted, .. } = report;
        let job = self.ticket.context();
        metrics.step_computed(cosine);
        if leapt {
            metrics.leapt_over(steps.saturating_sub(index + 1));
        }
        metrics.coasted_over(coasted);
        let mut is_first = false;
        job.note(|record| {
            record.steps_computed += 1;
            record.leapt_at = leapt.then_some(index);
            // Of a job that goes on, the first step was long ago.
            is_first = record.steps_computed == 1;
        });
        if is_first {
            job.first_step_done();
        }
        job.enter(JobPhase::Denoising { done: index + 1 + coasted, steps });
        let seconds = self.step_started.elapsed().as_secs_f64();
        job.emit(JobEvent::Step {
            index,
            steps,
            timestep,
            cosine,
            merged,
            leapt,
            coasted,
            seconds,
        });
    }

    /// Saves the steps since the last save, as far as that is possible still.
    pub(crate) fn keep_what_is_done<D: Denoise<Run = R>>(
        &mut self,
        denoiser: &D,
        core: &StageCore,
    ) {
        let Some(keeper) = &mut self.keeper else { return };
        let job = self.ticket.context();
        if let Err(cause) = core.compute(|| keeper.catch_up(job, denoiser, &self.run)) {
            tracing::warn!(job = %job.id(), %cause, "the last steps of a job that ended early are not saved");
        }
    }
}

/// The latent that a job's last step left, saved before the decoder sees it: decoding takes the most memory, so it is
/// where a job is lost.
pub(crate) fn last_latent<D: Denoise>(
    denoiser: &D,
    run: D::Run,
    keeper: Option<&mut JobKeeper>,
    ticket: &JobTicket,
) -> Computed<Latent> {
    let job = ticket.context();
    let latent = denoiser.latent(run)?;
    if let Some(keeper) = keeper {
        let _saving = timeline::save(job.id().0);
        keeper.denoised(job, &latent)?;
    }
    Ok(latent)
}
