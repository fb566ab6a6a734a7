//! How large the networks of a config may be, so that nonsense is refused before work, memory or arithmetic meets it.

/// The largest width, vocabulary or length in a config. Our choice: the largest in use (a vocabulary of 250,112) is a
/// quarter of it, and the elements of a convolution's kernel between two such widths still fit a machine word.
pub(crate) const LARGEST_WIDTH: usize = 1 << 20;

/// The most layers in a config. Our choice: Open-Sora's transformer has 28 pairs of blocks; a thousand are listed in
/// milliseconds, before the checkpoint is found to lack them.
pub(crate) const MOST_LAYERS: usize = 1000;

/// Whether each width is 1 to [`LARGEST_WIDTH`]; the error names the first field that is not.
pub(crate) fn check_widths(fields: &[(&str, usize)]) -> Result<(), String> {
    check(fields, LARGEST_WIDTH)
}

/// Whether each number of layers is 1 to [`MOST_LAYERS`]; the error names the first field that is not.
pub(crate) fn check_layers(fields: &[(&str, usize)]) -> Result<(), String> {
    check(fields, MOST_LAYERS)
}

fn check(fields: &[(&str, usize)], most: usize) -> Result<(), String> {
    match fields.iter().find(|(_, found)| !(1..=most).contains(found)) {
        Some((name, found)) => Err(format!("{name} is {found}, expected 1 to {most}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_within_and_the_first_beyond_is_named() {
        assert_eq!(check_widths(&[("a", 1), ("b", LARGEST_WIDTH)]), Ok(()));
        assert_eq!(check_layers(&[("a", 1), ("b", MOST_LAYERS)]), Ok(()));
        assert_eq!(check_layers(&[("a", 1), ("b", 0)]), Err("b is 0, expected 1 to 1000".into()));
        let error = check_widths(&[("a", LARGEST_WIDTH + 1), ("b", 0)]);
        assert_eq!(error, Err("a is 1048577, expected 1 to 1048576".into()));
    }
}
