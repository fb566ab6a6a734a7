//! The colours that the demo model knows by name.

use serde::{Deserialize, Serialize};

/// Red, green and blue in 8-bit levels, with fractions.
pub(super) type Rgb = [f64; 3];

/// A colour of a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Colour {
    /// Red.
    Red,
    /// Orange.
    Orange,
    /// Yellow.
    Yellow,
    /// Green.
    Green,
    /// Cyan.
    Cyan,
    /// Blue.
    Blue,
    /// Purple.
    Purple,
    /// White.
    White,
}

impl Colour {
    /// All colours; of two that are equally near, the first one is named.
    pub const ALL: [Self; 8] = [
        Self::Red,
        Self::Orange,
        Self::Yellow,
        Self::Green,
        Self::Cyan,
        Self::Blue,
        Self::Purple,
        Self::White,
    ];

    /// The colour that the demo model was taught, in 8-bit levels.
    pub fn rgb(self) -> [u8; 3] {
        match self {
            Self::Red => [220, 30, 30],
            Self::Orange => [245, 140, 20],
            Self::Yellow => [240, 220, 40],
            Self::Green => [30, 160, 60],
            Self::Cyan => [40, 210, 220],
            Self::Blue => [40, 70, 220],
            Self::Purple => [140, 50, 180],
            Self::White => [245, 245, 245],
        }
    }
}

/// A colour behind a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Background {
    /// Almost black.
    Black,
    /// The colours' white.
    White,
    /// Gray.
    Gray,
    /// The colours' blue.
    Blue,
    /// The colours' green.
    Green,
    /// Pink.
    Pink,
}

impl Background {
    /// All backgrounds; of two that are equally near, the first one is named.
    pub const ALL: [Self; 6] =
        [Self::Black, Self::White, Self::Gray, Self::Blue, Self::Green, Self::Pink];

    /// The colour that the demo model was taught, in 8-bit levels.
    pub fn rgb(self) -> [u8; 3] {
        match self {
            Self::Black => [15, 15, 15],
            Self::White => Colour::White.rgb(),
            Self::Gray => [128, 128, 128],
            Self::Blue => Colour::Blue.rgb(),
            Self::Green => Colour::Green.rgb(),
            Self::Pink => [245, 160, 190],
        }
    }
}

/// The background with the smallest RGB distance.
pub(super) fn nearest_background(rgb: Rgb) -> Option<Background> {
    Background::ALL.into_iter().min_by(|a, b| closer(rgb, a.rgb(), b.rgb()))
}

/// The colour with the smallest RGB distance that is not the one of `background`: a shape in the
/// colour of its background could not be seen.
pub(super) fn nearest_colour(rgb: Rgb, background: Option<Background>) -> Option<Colour> {
    let hidden = background.map(Background::rgb);
    Colour::ALL
        .into_iter()
        .filter(|colour| Some(colour.rgb()) != hidden)
        .min_by(|a, b| closer(rgb, a.rgb(), b.rgb()))
}

/// Euclidean distance of two colours, in 8-bit levels.
pub(super) fn distance(a: Rgb, b: Rgb) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

fn closer(rgb: Rgb, a: [u8; 3], b: [u8; 3]) -> std::cmp::Ordering {
    distance(rgb, a.map(f64::from)).total_cmp(&distance(rgb, b.map(f64::from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_colour_is_nearest_to_itself() {
        for colour in Colour::ALL {
            assert_eq!(nearest_colour(colour.rgb().map(f64::from), None), Some(colour));
        }
        for background in Background::ALL {
            assert_eq!(nearest_background(background.rgb().map(f64::from)), Some(background));
        }
    }

    #[test]
    fn the_background_is_no_colour_of_the_shape() {
        let nearly_white = [230.0, 235.0, 240.0];
        assert_eq!(nearest_colour(nearly_white, Some(Background::Black)), Some(Colour::White));
        assert_eq!(nearest_colour(nearly_white, Some(Background::White)), Some(Colour::Cyan));
    }

    #[test]
    fn the_first_of_two_equally_near_colours_is_named() {
        let (black, gray) = (Background::Black.rgb(), Background::Gray.rgb());
        let between = [0, 1, 2].map(|c| (f64::from(black[c]) + f64::from(gray[c])) / 2.0);
        assert_eq!(nearest_background(between), Some(Background::Black));
    }

    #[test]
    fn names_are_those_of_the_training_code() {
        let names = |value: serde_json::Value| value.to_string();
        assert_eq!(
            names(serde_json::json!(Colour::ALL)),
            r#"["red","orange","yellow","green","cyan","blue","purple","white"]"#
        );
        assert_eq!(
            names(serde_json::json!(Background::ALL)),
            r#"["black","white","gray","blue","green","pink"]"#
        );
    }
}
