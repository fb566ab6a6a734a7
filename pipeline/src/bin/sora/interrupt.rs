//! Ctrl-C: once to stop in order, twice to stop at once.

use std::rc::Rc;

use tokio::signal;
use tokio::sync::watch;

use crate::exit::Outcome;
use crate::report::Report;

/// Tells every task that the user wants to stop.
#[derive(Clone)]
pub struct Interrupt {
    asked: watch::Receiver<bool>,
}

impl Interrupt {
    /// Starts listening; call it within a runtime.
    pub fn listen(report: Rc<dyn Report>) -> Self {
        let (ask, asked) = watch::channel(false);
        actix::spawn(async move {
            if stop_signal().await {
                // Nobody listens any more when the command is over.
                let _ = ask.send(true);
                report.stopping();
                if stop_signal().await {
                    std::process::exit(i32::from(Outcome::Interrupted.code()));
                }
            }
        });
        Self { asked }
    }

    /// Whether the user asked.
    pub fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }

    /// Completes when the user asks.
    pub async fn asked(&mut self) {
        if self.asked.wait_for(|asked| *asked).await.is_err() {
            // The listener is gone without having heard anything, so nothing will come.
            std::future::pending::<()>().await;
        }
    }
}

/// Waits for Ctrl-C, or for the signal that service managers stop programs with; `false` when neither can be heard.
async fn stop_signal() -> bool {
    #[cfg(unix)]
    {
        let terminated = signal::unix::signal(signal::unix::SignalKind::terminate());
        if let Ok(mut terminated) = terminated {
            return tokio::select! {
                interrupted = signal::ctrl_c() => interrupted.is_ok(),
                terminated = terminated.recv() => terminated.is_some(),
            };
        }
    }
    signal::ctrl_c().await.is_ok()
}
