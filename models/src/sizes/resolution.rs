//! Resolutions and aspect ratios by name.

use super::PictureSize;
use super::table::{ASPECT_RATIOS, RESOLUTIONS, Resolution};
use crate::error::{ModelError, Result};

/// The picture that Open-Sora means by a resolution (`240p`) and an aspect ratio (`9:16`).
///
/// The aspect ratio is height to width: `9:16` is a wide picture, as in Open-Sora.
///
/// # Errors
/// [`ModelError::BadInput`] listing what would be accepted.
///
/// # Source
/// `get_image_size` of Open-Sora's `datasets/aspect.py`.
pub fn picture_size(resolution: &str, aspect_ratio: &str) -> Result<PictureSize> {
    let found = find(resolution)?;
    aspect_ratio_key(aspect_ratio)?;
    let size = found.sizes.iter().find(|(name, ..)| *name == aspect_ratio);
    let &(_, height_px, width_px) = size.ok_or_else(|| {
        let names: Vec<_> = found.sizes.iter().map(|(name, ..)| *name).collect();
        ModelError::bad_input(format!(
            "resolution {resolution} has no aspect ratio {aspect_ratio}: expected one of {}",
            names.join(", ")
        ))
    })?;
    Ok(PictureSize { height_px, width_px })
}

/// How many pixels a resolution stands for, about.
///
/// # Errors
/// [`ModelError::BadInput`] listing the resolutions.
pub fn pixel_count(resolution: &str) -> Result<usize> {
    Ok(find(resolution)?.pixels)
}

/// An aspect ratio (`9:16`, height to width) as Open-Sora's tables have it (`0.56`).
///
/// # Errors
/// [`ModelError::BadInput`] listing the aspect ratios.
pub fn aspect_ratio_key(aspect_ratio: &str) -> Result<&'static str> {
    let found = ASPECT_RATIOS.iter().find(|(name, _)| *name == aspect_ratio);
    found.map(|(_, key)| *key).ok_or_else(|| {
        ModelError::bad_input(format!(
            "aspect ratio `{aspect_ratio}` is not known: expected height:width, one of {}",
            ASPECT_RATIOS.map(|(name, _)| name).join(", ")
        ))
    })
}

fn find(name: &str) -> Result<&'static Resolution> {
    RESOLUTIONS.iter().find(|resolution| resolution.name == name).ok_or_else(|| {
        let names: Vec<_> = RESOLUTIONS.iter().map(|resolution| resolution.name).collect();
        ModelError::bad_input(format!(
            "resolution `{name}` is not known: expected one of {}",
            names.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_aspect_ratio_is_height_to_width() {
        let wide = picture_size("240p", "9:16").unwrap();
        assert_eq!((wide.height_px, wide.width_px), (240, 426));
        let tall = picture_size("240p", "16:9").unwrap();
        assert_eq!((tall.height_px, tall.width_px), (426, 240));
    }

    #[test]
    fn unknown_names_are_answered_with_the_known_ones() {
        for (resolution, aspect_ratio, known) in
            [("250p", "9:16", "240p"), ("240p", "9:15", "9:16"), ("256", "9:16", "1:1")]
        {
            let error = picture_size(resolution, aspect_ratio).unwrap_err().to_string();
            assert!(error.contains(known), "{error}");
        }
    }

    #[test]
    fn every_picture_has_about_its_resolutions_pixels() {
        for resolution in RESOLUTIONS {
            for &(name, height, width) in resolution.sizes {
                assert!(aspect_ratio_key(name).is_ok(), "{name}");
                let ratio = (height * width) as f64 / resolution.pixels as f64;
                assert!((0.9..1.1).contains(&ratio), "{} {name}: {ratio}", resolution.name);
            }
        }
    }
}
