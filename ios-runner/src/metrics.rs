//! The metrics of this process, which all runners share.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use sora_telemetry::{MetricsPage, install, install_with_listener};

use crate::error::RunnerError;

/// The page, and where it is served. A process has one recorder, whoever asks first.
static PAGE: Mutex<Option<(MetricsPage, Option<SocketAddr>)>> = Mutex::new(None);

/// The page of this process; before the first graph starts, since stages take their recorders then.
///
/// # Errors
/// [`RunnerError::Telemetry`] when somebody else exports metrics already, or the address cannot be served.
pub(crate) fn page(scrape: Option<SocketAddr>) -> Result<MetricsPage, RunnerError> {
    let mut installed = PAGE.lock().unwrap_or_else(PoisonError::into_inner);
    match &*installed {
        Some((page, served)) if scrape.is_none() || scrape == *served => Ok(page.clone()),
        Some(_) => Err(RunnerError::Telemetry(
            "metrics are collected already, and not at this address: ask for it when the process's first runner opens"
                .into(),
        )),
        None => {
            let page = scrape.map_or_else(install, install_with_listener)?;
            *installed = Some((page.clone(), scrape));
            Ok(page)
        }
    }
}
