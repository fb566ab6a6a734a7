//! Metrics of a run: served, printed, pushed, as the user asked.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::bail;
use sora_telemetry::{MetricsPage, Pusher, Reporter};
use tokio::time::{MissedTickBehavior, interval};

use crate::arguments::{MetricsArguments, MetricsForm};
use crate::print::note;
use crate::report::Report;

/// Metrics on their way to those who asked for them. Dropping this pushes for the last time.
pub struct MetricsOutput {
    page: Option<MetricsPage>,
    printing: Option<Printing>,
    _pusher: Option<Pusher>,
}

struct Printing {
    form: MetricsForm,
    every: std::time::Duration,
}

impl MetricsOutput {
    /// Begins to collect metrics if anybody wants them, before the graph starts. `json` says whether standard output has
    /// lines of JSON already.
    ///
    /// # Errors
    /// The address cannot be bound, or lines for people would go among lines of JSON.
    pub fn open(arguments: &MetricsArguments, json: bool) -> anyhow::Result<Self> {
        let &MetricsArguments { metrics_addr, metrics, .. } = arguments;
        if json && metrics == Some(MetricsForm::Stdout) {
            bail!("with --json, standard output has lines of JSON alone: use --metrics json");
        }
        let push = &arguments.metrics_push;
        let page = match metrics_addr {
            Some(address) => Some(sora_telemetry::install_with_listener(address)?),
            None if metrics.is_some() || push.is_some() => Some(sora_telemetry::install()?),
            None => None,
        };
        Self::with(page, arguments)
    }

    /// Begins to collect metrics for a page of the caller's own as well; else as [`MetricsOutput::open`].
    ///
    /// # Errors
    /// As there.
    #[cfg(feature = "serve")]
    pub fn open_with_page(
        arguments: &MetricsArguments,
        json: bool,
    ) -> anyhow::Result<(Self, MetricsPage)> {
        let opened = Self::open(arguments, json)?;
        if let Some(page) = opened.page.clone() {
            return Ok((opened, page));
        }
        let page = sora_telemetry::install()?;
        Ok((Self::with(Some(page.clone()), arguments)?, page))
    }

    fn with(page: Option<MetricsPage>, arguments: &MetricsArguments) -> anyhow::Result<Self> {
        let &MetricsArguments { metrics, metrics_every, metrics_push_every, .. } = arguments;
        let push = arguments.metrics_push.clone();
        let pusher = match (&page, push) {
            (Some(page), Some(address)) => {
                let trouble = |text: &str| note(&format!("warning: {text}"));
                Some(Pusher::start(page.clone(), address, metrics_push_every, trouble)?)
            }
            _ => None,
        };
        let printing = metrics.map(|form| Printing { form, every: metrics_every });
        Ok(Self { page, printing, _pusher: pusher })
    }

    /// Begins to print, if that was asked for, through `report`, which knows what else is on the screen. Call it within a
    /// runtime.
    pub fn print_to(&self, report: Rc<dyn Report>) -> Option<PrintedMetrics> {
        let (Some(page), Some(Printing { form, every })) = (&self.page, &self.printing) else {
            return None;
        };
        let reporter = Rc::new(RefCell::new(Reporter::new(page.clone(), (*form).into())));
        let (lines, every, form) = (reporter.clone(), *every, *form);
        let to = report.clone();
        let task = actix::spawn(async move {
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // The first tick comes at once, and there is nothing to tell yet.
            ticks.tick().await;
            loop {
                ticks.tick().await;
                to.metrics(form, &lines.borrow_mut().next_line());
            }
        });
        Some(PrintedMetrics { task, reporter, report, form })
    }
}

/// Metrics that are being printed. Dropping this prints the last line.
pub struct PrintedMetrics {
    task: tokio::task::JoinHandle<()>,
    reporter: Rc<RefCell<Reporter>>,
    report: Rc<dyn Report>,
    form: MetricsForm,
}

impl Drop for PrintedMetrics {
    fn drop(&mut self) {
        self.task.abort();
        self.report.last_metrics(self.form, &self.reporter.borrow_mut().next_line());
    }
}
