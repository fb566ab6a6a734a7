//! Work that was timed in several processes: beside a matrix product of the same run, and beside another program.

use serde::Serialize;

use super::measurement::median;
use super::other_program::OtherFigures;
use super::timing::ProcessTiming;
use crate::aligned::aligned;

/// What one process found, whoever's it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TimedRun {
    /// What each timed iteration took; of another program, the median alone.
    pub seconds: Vec<f64>,
    /// The most memory that the process had resident, where that is known.
    pub peak_rss_mib: Option<f64>,
    /// Speed in 10^9 floating point operations a second, where operations are counted.
    pub gflop_s: Option<f64>,
}

/// Several processes' runs of the same work.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TimeFigures {
    /// The median of the processes' medians.
    pub median_s: f64,
    /// The shortest time of all.
    pub min_s: f64,
    /// A quarter of the times are shorter.
    pub lower_quartile_s: f64,
    /// A quarter of the times are longer.
    pub upper_quartile_s: f64,
    /// The longest time of all.
    pub max_s: f64,
    /// Median of the processes' speeds, where all of them know it.
    pub gflop_s: Option<f64>,
    /// Median of the processes' peaks of memory, where all of them know it.
    pub peak_rss_mib: Option<f64>,
    /// What each process found.
    pub runs: Vec<TimedRun>,
}

/// Some work's time and memory, and what they are compared with. It has the fields that [`OtherProgram`] asks for.
///
/// [`OtherProgram`]: super::OtherProgram
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TimeReport {
    /// The work itself.
    #[serde(flatten)]
    pub figures: TimeFigures,
    /// Operations of running it once, in 10^9, where they are counted.
    pub gflop: Option<f64>,
    /// A matrix product, between the other runs.
    pub matmul: Option<TimeFigures>,
    /// The work's speed as a part of the matrix product's.
    pub of_matmul: Option<f64>,
    /// The other program.
    pub against: Option<TimeFigures>,
    /// The work's time as a part of the other program's.
    pub time_ratio: Option<f64>,
    /// The work's peak of memory as a part of the other program's.
    pub memory_ratio: Option<f64>,
}

const MIB: f64 = (1 << 20) as f64;

impl TimedRun {
    /// A process of this program that ran work of `gflop` operations.
    pub fn of_process(timing: ProcessTiming, gflop: Option<f64>) -> Self {
        let typical = median(&timing.seconds, |seconds| *seconds);
        Self {
            gflop_s: gflop.zip(typical).map(|(gflop, seconds)| gflop / seconds),
            peak_rss_mib: timing.peak_process_bytes.map(|bytes| bytes as f64 / MIB),
            seconds: timing.seconds,
        }
    }
}

impl From<OtherFigures> for TimedRun {
    fn from(OtherFigures { median_s, peak_rss_mib, gflop_s }: OtherFigures) -> Self {
        Self { seconds: vec![median_s], peak_rss_mib, gflop_s }
    }
}

impl TimeFigures {
    /// What several processes found together; `None` of none.
    pub fn of(runs: Vec<TimedRun>) -> Option<Self> {
        let mut all: Vec<f64> = runs.iter().flat_map(|run| &run.seconds).copied().collect();
        all.sort_by(f64::total_cmp);
        let medians: Vec<f64> =
            runs.iter().filter_map(|run| median(&run.seconds, |seconds| *seconds)).collect();
        let known = |figure: fn(&TimedRun) -> Option<f64>| {
            let figures: Option<Vec<f64>> = runs.iter().map(figure).collect();
            median(&figures?, |figure| *figure)
        };
        Some(Self {
            median_s: median(&medians, |seconds| *seconds)?,
            min_s: *all.first()?,
            lower_quartile_s: quantile(&all, 0.25)?,
            upper_quartile_s: quantile(&all, 0.75)?,
            max_s: *all.last()?,
            gflop_s: known(|run| run.gflop_s),
            peak_rss_mib: known(|run| run.peak_rss_mib),
            runs,
        })
    }
}

/// Where a part of all figures is below; between two figures, on the line from one to the other. `None` of nothing.
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let place = part * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + place.fract() * (above - below))
}

impl TimeReport {
    /// Compares the work's runs, of `gflop` operations each iteration, with the matrix product's and the other program's.
    pub fn new(
        figures: TimeFigures,
        gflop: Option<f64>,
        matmul: Option<TimeFigures>,
        against: Option<TimeFigures>,
    ) -> Self {
        let ratio = |ours: Option<f64>, theirs: Option<f64>| Some(ours? / theirs?);
        let peak_speed = matmul.as_ref().and_then(|matmul| matmul.gflop_s);
        let other = against.as_ref();
        Self {
            gflop,
            of_matmul: ratio(figures.gflop_s, peak_speed),
            time_ratio: other.map(|other| figures.median_s / other.median_s),
            memory_ratio: ratio(figures.peak_rss_mib, other.and_then(|other| other.peak_rss_mib)),
            figures,
            matmul,
            against,
        }
    }

    /// The report as a table, with `name` for the work.
    pub fn table(&self, name: &str) -> String {
        let head = ["", "median s", "min", "quartiles", "max", "GFLOP/s", "of matmul", "peak MiB"];
        let mut rows = vec![head.map(String::from).to_vec()];
        let peak_speed = self.matmul.as_ref().and_then(|matmul| matmul.gflop_s);
        let shown = |figure: Option<f64>, digits: usize| {
            figure.map_or("-".into(), |f| format!("{f:.digits$}"))
        };
        let mut row = |name: &str, figures: &TimeFigures, of_matmul: Option<f64>| {
            let seconds = |seconds: f64| format!("{seconds:.3}");
            rows.push(vec![
                name.to_string(),
                seconds(figures.median_s),
                seconds(figures.min_s),
                format!("{:.3}-{:.3}", figures.lower_quartile_s, figures.upper_quartile_s),
                seconds(figures.max_s),
                shown(figures.gflop_s, 1),
                of_matmul.map_or("-".into(), |part| format!("{:.1} %", 100.0 * part)),
                shown(figures.peak_rss_mib, 0),
            ]);
        };
        row(name, &self.figures, self.of_matmul);
        if let Some(against) = &self.against {
            let part = against.gflop_s.zip(peak_speed).map(|(speed, peak)| speed / peak);
            row("against", against, part);
        }
        if let Some(matmul) = &self.matmul {
            row("matmul", matmul, None);
        }
        let mut text = aligned(&rows);
        if let Some(time) = self.time_ratio {
            let memory = self.memory_ratio.map_or("not known".into(), |part| format!("{part:.3}"));
            text += &format!("of the other program: time {time:.3}, peak memory {memory}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn process(seconds: &[f64], peak_mib: Option<u64>) -> TimedRun {
        let peak_process_bytes = peak_mib.map(|mib| mib << 20);
        TimedRun::of_process(
            ProcessTiming { seconds: seconds.to_vec(), peak_process_bytes },
            Some(60.0),
        )
    }

    fn other(median_s: f64, gflop_s: Option<f64>) -> TimedRun {
        OtherFigures { median_s, peak_rss_mib: Some(400.0), gflop_s }.into()
    }

    fn report() -> TimeReport {
        let ours = [process(&[2.0, 3.0, 4.0], Some(100)), process(&[5.0, 5.0, 6.0], Some(300))];
        let matmul = vec![process(&[1.0], Some(50)), process(&[0.5], Some(50))];
        let against = vec![other(8.0, Some(7.5)), other(8.0, Some(7.5))];
        TimeReport::new(
            TimeFigures::of(ours.to_vec()).unwrap(),
            Some(60.0),
            TimeFigures::of(matmul),
            TimeFigures::of(against),
        )
    }

    #[test]
    fn medians_are_of_processes_and_the_spread_is_of_all_iterations() {
        let TimeReport { figures, .. } = report();
        assert_eq!((figures.median_s, figures.min_s, figures.max_s), (4.0, 2.0, 6.0));
        assert_eq!((figures.lower_quartile_s, figures.upper_quartile_s), (3.25, 5.0));
        // Speeds are 60 / 3 and 60 / 5.
        assert_eq!((figures.gflop_s, figures.peak_rss_mib), (Some(16.0), Some(200.0)));
        assert_eq!(TimeFigures::of(Vec::new()), None);
    }

    #[test]
    fn ratios_are_of_medians() {
        let report = report();
        assert_eq!((report.time_ratio, report.memory_ratio), (Some(0.5), Some(0.5)));
        // 60 / 1 and 60 / 0.5: 90.
        assert_eq!(report.of_matmul, Some(16.0 / 90.0));
        let alone = TimeReport::new(report.figures, None, None, None);
        assert_eq!((alone.time_ratio, alone.memory_ratio, alone.of_matmul), (None, None, None));
    }

    #[test]
    fn what_one_process_does_not_know_is_not_known() {
        let runs = vec![process(&[1.0], None), process(&[1.0], Some(5))];
        assert_eq!(TimeFigures::of(runs).unwrap().peak_rss_mib, None);
        let runs = vec![other(1.0, None), other(1.0, Some(3.0))];
        assert_eq!(TimeFigures::of(runs).unwrap().gflop_s, None);
    }

    #[test]
    fn the_table_has_a_row_for_each_and_the_ratios() {
        let table = report().table("block");
        let lines: Vec<&str> = table.lines().collect();
        for (line, told) in [(1, "block"), (2, "against"), (3, "matmul")] {
            assert!(lines[line].starts_with(told), "{table}");
        }
        assert!(lines[1].contains("3.250-5.000") && lines[1].contains("17.8 %"), "{table}");
        assert!(lines[2].contains("8.3 %") && lines[2].contains("400"), "{table}");
        assert_eq!(lines[4], "of the other program: time 0.500, peak memory 0.500");
    }

    #[test]
    fn a_report_can_be_what_another_one_is_compared_with() {
        let read: OtherFigures =
            serde_json::from_str(&serde_json::to_string(&report()).unwrap()).unwrap();
        let expected =
            OtherFigures { median_s: 4.0, peak_rss_mib: Some(200.0), gflop_s: Some(16.0) };
        assert_eq!(read, expected);
    }
}
