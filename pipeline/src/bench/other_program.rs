//! Another program that times the same work: a shell command that prints what it found.

use std::io;
use std::process::{Command, ExitStatus, Stdio};

use serde::Deserialize;

/// Where the number of threads goes in a command.
const THREADS: &str = "{threads}";

/// A shell command that does some work several times and prints one JSON object on its standard output, with
/// `median_s`, the seconds of one time, and, if it knows them, `peak_rss_mib`, the most memory that it had resident in
/// MiB, and `gflop_s`, its 10^9 floating point operations a second. Whatever else the object has is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherProgram {
    command: String,
}

/// What the other program found.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct OtherFigures {
    /// Seconds that the work took.
    pub median_s: f64,
    /// The most memory that it had resident.
    pub peak_rss_mib: Option<f64>,
    /// Its speed.
    pub gflop_s: Option<f64>,
}

/// Why another program cannot be compared with.
#[derive(Debug, thiserror::Error)]
pub enum OtherProgramError {
    /// There is no shell to run it.
    #[error("cannot run `{command}`: {source}")]
    Start {
        /// The command.
        command: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// It failed.
    #[error("`{command}` ended with {status}{told}")]
    Failed {
        /// The command.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said on standard error, behind a colon, or nothing.
        told: String,
    },
    /// It printed something else.
    #[error(
        "`{command}` printed {printed}: expected one JSON object with `median_s` and, if known, `peak_rss_mib` and \
         `gflop_s`, all above 0 ({reason})"
    )]
    Output {
        /// The command.
        command: String,
        /// The beginning of what it printed.
        printed: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// How much of what a command printed an error repeats. Our choice: enough to recognise it.
const TOLD_CHARACTERS: usize = 200;

impl OtherProgram {
    /// The program behind `command`, in which `{threads}` stands for the number of threads that it shall use.
    pub fn new(command: &str, threads: usize) -> Self {
        Self { command: command.replace(THREADS, &threads.to_string()) }
    }

    /// The command as it is run.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Runs it, and waits as long as it takes.
    ///
    /// # Errors
    /// It fails, or prints something else.
    pub fn run(&self) -> Result<OtherFigures, OtherProgramError> {
        let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
        let mut command = Command::new(shell);
        command.args([flag, &self.command]).stdin(Stdio::null());
        let output = command
            .output()
            .map_err(|source| OtherProgramError::Start { command: self.command.clone(), source })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let last: String = last_characters(said.trim());
            let told = if last.is_empty() { last } else { format!(": {last}") };
            let (command, status) = (self.command.clone(), output.status);
            return Err(OtherProgramError::Failed { command, status, told });
        }
        let printed = String::from_utf8_lossy(&output.stdout);
        read(printed.trim()).map_err(|reason| OtherProgramError::Output {
            command: self.command.clone(),
            printed: match printed.trim() {
                "" => "nothing".into(),
                text => format!("`{}`", text.chars().take(TOLD_CHARACTERS).collect::<String>()),
            },
            reason,
        })
    }
}

fn last_characters(text: &str) -> String {
    let surplus = text.chars().count().saturating_sub(TOLD_CHARACTERS);
    text.chars().skip(surplus).collect()
}

fn read(text: &str) -> Result<OtherFigures, String> {
    let figures: OtherFigures = serde_json::from_str(text).map_err(|cause| cause.to_string())?;
    let OtherFigures { median_s, peak_rss_mib, gflop_s } = figures;
    let named =
        [("median_s", Some(median_s)), ("peak_rss_mib", peak_rss_mib), ("gflop_s", gflop_s)];
    let refused =
        named.iter().find(|(_, figure)| figure.is_some_and(|f| !(f > 0.0 && f.is_finite())));
    match refused {
        Some((name, figure)) => Err(format!("{name} is {}", figure.unwrap_or_default())),
        None => Ok(figures),
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn run(command: &str) -> Result<OtherFigures, String> {
        OtherProgram::new(command, 3).run().map_err(|error| error.to_string())
    }

    #[test]
    fn figures_are_read_and_the_rest_ignored() {
        let all =
            run(r#"echo '{"what":"x","median_s":0.5,"peak_rss_mib":100,"gflop_s":7,"runs":3}'"#);
        let expected =
            OtherFigures { median_s: 0.5, peak_rss_mib: Some(100.0), gflop_s: Some(7.0) };
        assert_eq!(all, Ok(expected));
        let some = run(r#"echo loading >&2; echo '{"median_s":2,"gflop_s":null}'"#).unwrap();
        assert_eq!((some.median_s, some.peak_rss_mib, some.gflop_s), (2.0, None, None));
    }

    #[test]
    fn the_number_of_threads_goes_into_the_command() {
        let program = OtherProgram::new("x --threads {threads} {threads}", 3);
        assert_eq!(program.command(), "x --threads 3 3");
        assert_eq!(run(r#"echo "{\"median_s\": {threads}}""#).unwrap().median_s, 3.0);
    }

    #[test]
    fn a_failure_is_told_in_the_program_s_own_words() {
        let error = run("echo no such module >&2; exit 3").unwrap_err();
        assert!(error.contains("exit status: 3: no such module"), "{error}");
        assert!(error.starts_with("`echo no such module"), "{error}");
        let long = run("printf 'x%.0s' $(seq 5000) >&2; echo end >&2; exit 1").unwrap_err();
        assert!(long.len() < 500 && long.ends_with("xend"), "{long}");
        assert!(run("no-such-program-anywhere").unwrap_err().contains("no-such-program-anywhere"));
    }

    #[test]
    fn what_is_no_measurement_is_refused() {
        for (command, told) in [
            ("true", "printed nothing"),
            ("echo done", "printed `done`"),
            (r#"echo '{"peak_rss_mib":1}'"#, "median_s"),
            (r#"echo '{"median_s":0}'"#, "median_s is 0"),
            (r#"echo '{"median_s":1,"peak_rss_mib":-2}'"#, "peak_rss_mib is -2"),
            (r#"echo '{"median_s":1}{"median_s":1}'"#, "trailing"),
            (r#"echo '{"median_s":1e999}'"#, "number out of range"),
        ] {
            let error = run(command).unwrap_err();
            assert!(error.contains(told) && error.contains("one JSON object"), "{error}");
        }
    }
}
