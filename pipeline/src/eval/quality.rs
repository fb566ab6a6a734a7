//! `docs/quality.md`: the standard comparison of shortcuts, with its figures.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::chart::{Chart, ChartError, Point, Series};
use super::comparison_sheet::{ComparisonSheet, SheetError};
use super::report::{Report, SettingReport};
use super::runner::Judged;
use super::setting::EvalSetting;
use super::table::markdown_table;
use crate::whole_file::replace;

/// The page's text, with places for tables.
const TEMPLATE: &str = include_str!("quality.md");

/// The run that all others are compared with.
const FULL: &str = "default";

/// What the paper's LPL is compared with, from a third to two thirds of the full run's evaluations; "evaluations" are those of a fixed leap at n plus one.
const LEAPS: &[&str] = &["lpl=fixed:9", "lpl=fixed:14", "lpl=dynamic", "lpl=fixed:19"];
const FEWER_STEPS: &[&str] = &["steps=8", "steps=10", "steps=15", "steps=18", "steps=20"];
const COASTING: &[&str] = &["coast=6", "coast=8", "coast=10", "coast=15", "coast=20"];

/// Token merging by the reference's rule, and by the rule that keeps the last frame.
const MERGING: [&[&str]; 2] = [
    &["tdtm=10", "tdtm=15", "tdtm=all"],
    &["tdtm=10,keep-last", "tdtm=15,keep-last", "tdtm=all,keep-last"],
];

/// Shortcuts together.
const TOGETHER: &[&str] = &["lpl=dynamic tdtm=all", "coast=10 tdtm=all,keep-last"];

/// Settings in the sheet of pictures, from top to bottom.
const PICTURED: &[&str] = &[
    FULL,
    "lpl=fixed:9",
    "lpl=dynamic",
    "steps=10",
    "coast=10",
    "tdtm=all",
    "tdtm=all,keep-last",
    "lpl=dynamic tdtm=all",
    "coast=10 tdtm=all,keep-last",
];

/// The standard comparison.
pub struct QualityReport;

/// Why the page could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QualityError {
    /// A figure that the page needs was not measured.
    #[error("`{setting}` was not evaluated: the page needs all of the standard comparison")]
    Missing {
        /// The setting.
        setting: String,
    },

    /// The operating system refused to write.
    #[error("cannot write {}: {source}", target.display())]
    Io {
        /// The file or folder.
        target: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },

    /// A chart could not be drawn.
    #[error(transparent)]
    Chart(#[from] ChartError),

    /// The pictures could not be put together.
    #[error(transparent)]
    Sheet(#[from] SheetError),
}

impl QualityReport {
    /// Prompts whose clips the sheet of pictures shows.
    pub const PICTURED_PROMPTS: usize = 2;

    /// All settings of the comparison, the full run first.
    pub fn settings() -> Vec<EvalSetting> {
        let names = [FULL].into_iter().chain(Self::shortcuts());
        names.map(|name| name.parse().expect("invariant: the settings above are valid")).collect()
    }

    fn shortcuts() -> impl Iterator<Item = &'static str> {
        let merging = MERGING.iter().copied();
        let groups = [LEAPS, FEWER_STEPS, COASTING].into_iter().chain(merging).chain([TOGETHER]);
        groups.flatten().copied()
    }

    /// Makes the folders that the page and its pictures go into, and returns that of the pictures.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn prepare(folder: &Path) -> Result<PathBuf, QualityError> {
        let pictures = folder.join("quality");
        fs::create_dir_all(&pictures)
            .map_err(|source| QualityError::Io { target: pictures.clone(), source })?;
        Ok(pictures)
    }

    /// Writes `quality.md` in `folder`, and its pictures in `folder/quality`.
    ///
    /// # Errors
    /// A setting was not evaluated, or a file cannot be written.
    pub fn write(
        folder: &Path,
        model: &str,
        report: &Report,
        judged: &Judged,
    ) -> Result<(), QualityError> {
        let pictures = Self::prepare(folder)?;
        draw_charts(&pictures, report)?;
        draw_sheets(&pictures, report, judged)?;
        let target = folder.join("quality.md");
        replace(&target, page(model, report)?.as_bytes())
            .map_err(|source| QualityError::Io { target, source })
    }
}

fn page(model: &str, report: &Report) -> Result<String, QualityError> {
    let table = |groups: &[&[&str]]| -> Result<String, QualityError> {
        let names = [FULL].into_iter().chain(groups.iter().copied().flatten().copied());
        let settings = names.map(|name| found(report, name)).collect::<Result<Vec<_>, _>>()?;
        Ok(markdown_table(&settings))
    };
    let rows = PICTURED.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    Ok(TEMPLATE
        .replace("{model}", model)
        .replace("{prompts}", &report.prompts.to_string())
        .replace("{seed}", &report.first_seed.to_string())
        .replace("{leaps}", &table(&[LEAPS, FEWER_STEPS, COASTING])?)
        .replace("{merging}", &table(&MERGING)?)
        .replace("{together}", &table(&[TOGETHER])?)
        .replace("{pictured}", &rows))
}

fn found<'a>(report: &'a Report, name: &str) -> Result<&'a SettingReport, QualityError> {
    report.setting(name).ok_or_else(|| QualityError::Missing { setting: name.to_string() })
}

fn draw_charts(folder: &Path, report: &Report) -> Result<(), QualityError> {
    let full = found(report, FULL)?;
    let points = full.drift_cosines.iter().map(|drift| Point::at(drift.step as f64, drift.mean));
    let drift =
        Series { name: format!("mean of {} clips", report.prompts), points: points.collect() };
    Chart {
        title: "Drift cosine: how alike consecutive velocities are",
        x_label: "step",
        y_label: "cosine",
        series: &[drift],
    }
    .draw_svg(&folder.join("drift.svg"))?;

    let groups = [("LPL", LEAPS), ("fewer steps", FEWER_STEPS), ("coasting", COASTING)];
    let psnr = series_of(report, &groups, |of| {
        let mean = of.psnr_db?;
        Some((mean.mean, mean.interval.map(|interval| (interval.low, interval.high))))
    })?;
    Chart {
        title: "Likeness to the full run",
        x_label: "evaluations of the model",
        y_label: "PSNR in dB",
        series: &psnr,
    }
    .draw_svg(&folder.join("likeness.svg"))?;
    let accuracy = series_of(report, &groups, |of| {
        let share = of.accuracy.all?;
        Some((100.0 * share.share, Some((100.0 * share.interval.low, 100.0 * share.interval.high))))
    })?;
    Chart {
        title: "Clips that show all that their prompt names",
        x_label: "evaluations of the model",
        y_label: "percent",
        series: &accuracy,
    }
    .draw_svg(&folder.join("accuracy.svg"))?;
    Ok(())
}

/// A value with its interval, where there is one.
type Measured = (f64, Option<(f64, f64)>);

fn series_of(
    report: &Report,
    groups: &[(&str, &[&str])],
    value: impl Fn(&SettingReport) -> Option<Measured>,
) -> Result<Vec<Series>, QualityError> {
    let series = groups.iter().map(|(name, settings)| {
        let mut points = Vec::new();
        for setting in *settings {
            let of = found(report, setting)?;
            if let (Some(evaluations), Some((y, interval))) = (of.evaluations, value(of)) {
                points.push(Point { interval, ..Point::at(evaluations.mean, y) });
            }
        }
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        Ok(Series { name: name.to_string(), points })
    });
    series.collect()
}

fn draw_sheets(folder: &Path, report: &Report, judged: &Judged) -> Result<(), QualityError> {
    for (number, clips) in judged.clips.iter().enumerate() {
        let index_of = |name: &&str| report.settings.iter().position(|of| of.setting == **name);
        let rows: Vec<_> =
            PICTURED.iter().filter_map(index_of).map(|index| &clips[index]).collect();
        let Some(first) = rows.first() else { continue };
        let sheet = ComparisonSheet {
            width_px: first.width_px(),
            height_px: first.height_px(),
            columns: 9,
            scale: 1,
        };
        let frames: Vec<_> = rows.iter().map(|clip| clip.frames()).collect();
        sheet.write(&folder.join(format!("clips-{}.png", number + 1)), &frames)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_valid_and_there_once() {
        let settings = QualityReport::settings();
        let mut names: Vec<_> = settings.iter().map(EvalSetting::name).collect();
        assert_eq!(names[0], FULL);
        assert!(PICTURED.iter().all(|name| names.contains(name)));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), settings.len());
    }

    #[test]
    fn the_template_has_a_place_for_everything() {
        let mut text = TEMPLATE.to_string();
        for place in ["model", "prompts", "seed", "leaps", "merging", "together", "pictured"] {
            let place = format!("{{{place}}}");
            assert!(text.contains(&place), "{place} is not in the template");
            text = text.replace(&place, "");
        }
        assert!(!text.contains(['{', '}']), "something else stands in braces");
    }
}
