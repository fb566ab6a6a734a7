//! Figures as tables: for a terminal and for Markdown.

use super::report::{SettingReport, Share};
use super::statistics::Mean;
use crate::aligned::aligned;

/// A column: its head, and its cell for a setting.
struct Column {
    head: &'static str,
    cell: fn(&SettingReport) -> Option<String>,
}

/// What a figure that was not measured reads.
const ABSENT: &str = "-";

const COLUMNS: &[Column] = &[
    Column { head: "evaluations", cell: |of| of.evaluations.map(|mean| short(mean.mean)) },
    Column { head: "seconds", cell: |of| of.seconds.map(|seconds| format!("{seconds:.2}")) },
    Column { head: "colour %", cell: |of| of.accuracy.colour.map(percent) },
    Column { head: "background %", cell: |of| of.accuracy.background.map(percent) },
    Column { head: "shape %", cell: |of| of.accuracy.shape.map(percent) },
    Column { head: "size %", cell: |of| of.accuracy.size.map(percent) },
    Column { head: "motion %", cell: |of| of.accuracy.motion.map(percent) },
    Column { head: "all %", cell: |of| of.accuracy.all.map(percent_with_interval) },
    Column { head: "PSNR dB", cell: |of| of.psnr_db.map(|mean| with_interval(mean, 1)) },
    Column { head: "SSIM", cell: |of| of.ssim.map(|mean| format!("{:.4}", mean.mean)) },
    Column {
        head: "flickering",
        cell: |of| of.temporal_flickering.map(|m| format!("{:.4}", m.mean)),
    },
    Column {
        head: "difference",
        cell: |of| of.mean_frame_difference.map(|m| format!("{:.2}", m.mean)),
    },
    Column {
        head: "sharpness",
        cell: |of| of.high_frequency_energy.map(|m| format!("{:.0}", m.mean)),
    },
];

/// The table of some settings in aligned columns, for a terminal; columns without any figure are left out.
pub fn text_table(settings: &[&SettingReport]) -> String {
    aligned(&rows(settings))
}

/// The table of some settings in Markdown.
pub(super) fn markdown_table(settings: &[&SettingReport]) -> String {
    let rows = rows(settings);
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        text += &line(row);
        if index == 0 {
            let ruler = |column| if column == 0 { "---".to_string() } else { "---:".to_string() };
            text += &line(&(0..row.len()).map(ruler).collect::<Vec<_>>());
        }
    }
    text
}

/// Head and rows, without columns that nobody has a figure for.
fn rows(settings: &[&SettingReport]) -> Vec<Vec<String>> {
    let used = |column: &&Column| settings.iter().any(|of| (column.cell)(of).is_some());
    let columns: Vec<_> = COLUMNS.iter().filter(used).collect();
    let head = columns.iter().map(|column| column.head.to_string());
    let mut rows = vec![std::iter::once("setting".to_string()).chain(head).collect::<Vec<_>>()];
    for of in settings {
        let cells = columns.iter().map(|column| (column.cell)(of).unwrap_or(ABSENT.into()));
        rows.push(std::iter::once(of.setting.clone()).chain(cells).collect());
    }
    rows
}

fn percent(share: Share) -> String {
    format!("{:.1}", 100.0 * share.share)
}

fn percent_with_interval(share: Share) -> String {
    let interval = share.interval;
    format!("{} ({:.0}-{:.0})", percent(share), 100.0 * interval.low, 100.0 * interval.high)
}

fn with_interval(mean: Mean, digits: usize) -> String {
    let half = mean.interval.map(|interval| (interval.high - interval.low) / 2.0);
    match half {
        Some(half) => format!("{:.digits$} ± {half:.digits$}", mean.mean),
        None => format!("{:.digits$}", mean.mean),
    }
}

/// A whole number as one, others with a digit behind the point.
fn short(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use sora_models::rflow::SamplingSettings;

    use super::super::report::Accuracy;
    use super::super::statistics::Proportion;
    use super::*;

    fn report(setting: &str, right: usize) -> SettingReport {
        let counts = Proportion { right, asked: 10 };
        let share =
            Share { counts, share: counts.share().unwrap(), interval: counts.interval().unwrap() };
        SettingReport {
            setting: setting.into(),
            sampling: SamplingSettings::default(),
            accuracy: Accuracy {
                colour: Some(share),
                background: None,
                shape: None,
                size: None,
                motion: None,
                all: Some(share),
            },
            psnr_db: (right < 10).then(|| Mean::of(&[30.0, 32.0]).unwrap()),
            ssim: None,
            temporal_flickering: None,
            mean_frame_difference: None,
            high_frequency_energy: None,
            evaluations: Mean::of(&[17.0, 18.0]),
            seconds: None,
            drift_cosines: Vec::new(),
        }
    }

    #[test]
    fn columns_line_up_and_empty_ones_are_left_out() {
        let (full, leap) = (report("default", 10), report("lpl=dynamic", 9));
        let text = text_table(&[&full, &leap]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(
            lines.iter().all(|line| line.chars().count() == lines[0].chars().count()),
            "{text}"
        );
        assert!(!text.contains("SSIM") && !text.contains("shape"), "{text}");
        assert!(lines[1].trim_end().ends_with('-'), "{text}");
        assert!(lines[2].contains("90.0 (60-98)") && lines[2].contains("31.0 ± 12.7"), "{text}");
        assert!(lines[2].contains("17.5"), "{text}");
    }

    #[test]
    fn markdown_has_a_ruler_below_its_head() {
        let text = markdown_table(&[&report("default", 10)]);
        assert_eq!(
            text,
            "| setting | evaluations | colour % | all % |\n| --- | ---: | ---: | ---: |\n\
             | default | 17.5 | 100.0 | 100.0 (72-100) |\n"
        );
    }
}
