//! Ctrl-C: once to stop in order, twice to stop at once.

use tokio::signal;
use tokio::sync::{mpsc, watch};

use crate::exit::Outcome;
use crate::tracing_output;

/// Tells every task that the user wants to stop.
#[derive(Clone)]
pub struct Interrupt {
    asked: watch::Receiver<bool>,
}

impl Interrupt {
    /// Starts listening, and calls `when_asked` when the user asks; call it within a runtime.
    pub fn listen(when_asked: impl FnOnce() + 'static) -> Self {
        let (ask, asked) = watch::channel(false);
        let mut signals = stop_signals();
        actix::spawn(async move {
            if signals.recv().await.is_none() {
                return;
            }
            // Nobody listens any more when the command is over.
            let _ = ask.send(true);
            when_asked();
            while let Some(signal) = signals.recv().await {
                // A terminal that closes may say so more than once.
                if signal == StopSignal::Asked {
                    tracing_output::close();
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

/// Why to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopSignal {
    /// Somebody asked: by Ctrl-C, or as service managers stop programs.
    Asked,
    /// The terminal is gone.
    #[cfg(unix)]
    HungUp,
}

/// Every signal that asks the program to stop, as it comes; those that cannot be heard are left out.
#[cfg(unix)]
fn stop_signals() -> mpsc::Receiver<StopSignal> {
    use signal::unix::SignalKind;
    let (heard, signals) = mpsc::channel(1);
    let mut kinds = vec![
        (SignalKind::interrupt(), StopSignal::Asked),
        (SignalKind::terminate(), StopSignal::Asked),
    ];
    if !outlives_terminal() {
        kinds.push((SignalKind::hangup(), StopSignal::HungUp));
    }
    for (kind, meaning) in kinds {
        let Ok(mut stream) = signal::unix::signal(kind) else { continue };
        let heard = heard.clone();
        actix::spawn(async move {
            while stream.recv().await.is_some() && heard.send(meaning).await.is_ok() {}
        });
    }
    signals
}

/// As on Unix; there is Ctrl-C alone.
#[cfg(not(unix))]
fn stop_signals() -> mpsc::Receiver<StopSignal> {
    let (heard, signals) = mpsc::channel(1);
    actix::spawn(async move {
        while signal::ctrl_c().await.is_ok() && heard.send(StopSignal::Asked).await.is_ok() {}
    });
    signals
}

/// Whether the program was started to live on when its terminal closes, as `nohup` does by having the signal ignored.
/// Listening for it would end that.
#[cfg(unix)]
fn outlives_terminal() -> bool {
    use std::io::IsTerminal;
    // Linux tells which signals are ignored: bit 0 is signal 1, SIGHUP.
    let ignored = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    match ignored {
        Some(mask) => mask & 1 != 0,
        // Elsewhere: `nohup` leaves neither output on a terminal.
        None => !(std::io::stdout().is_terminal() || std::io::stderr().is_terminal()),
    }
}
