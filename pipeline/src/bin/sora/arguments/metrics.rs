//! Where metrics go.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use sora_telemetry::{PushAddress, ReportForm};

/// Where metrics go; nowhere, if nothing is given.
#[derive(Args)]
pub struct MetricsArguments {
    /// Serve metrics in Prometheus' format at this address, such as 127.0.0.1:9464; whoever reaches it needs no key
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_addr: Option<SocketAddr>,

    /// Print metrics on standard output: a live line, or lines of JSON
    #[arg(long, value_name = "FORM")]
    pub metrics: Option<MetricsForm>,

    /// Seconds between two printed lines
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = parse_interval)]
    pub metrics_every: Duration,

    /// Push metrics to a Prometheus Pushgateway, such as http://gateway:9091, and once more at the end
    #[arg(long, value_name = "URL", value_parser = PushAddress::parse)]
    pub metrics_push: Option<PushAddress>,

    /// Seconds between two pushes
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = parse_interval)]
    pub metrics_push_every: Duration,
}

/// How metrics are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MetricsForm {
    /// A line for people, at the foot of a terminal
    Stdout,
    /// A line of JSON each time
    Json,
}

impl From<MetricsForm> for ReportForm {
    fn from(form: MetricsForm) -> Self {
        match form {
            MetricsForm::Stdout => Self::Line,
            MetricsForm::Json => Self::Json,
        }
    }
}

/// Seconds as people give them, within what a clock can do.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let refused = || "expected seconds, from 0.1 to 86400".to_string();
    let seconds: f64 = text.parse().map_err(|_| refused())?;
    match (0.1..=86_400.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err(refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_seconds_within_reason() {
        assert_eq!(parse_interval("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "NaN", "inf", "1e9", "soon", ""] {
            assert!(parse_interval(wrong).is_err(), "{wrong}");
        }
    }
}
