//! Reading a page of metrics again: what Prometheus does with it, for those who have none.

/// One line of a page: a series and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample<'a> {
    /// The series' name: a metric's, or a histogram's with `_bucket`, `_sum` or `_count` behind it.
    pub name: &'a str,
    /// Names and values of its labels.
    pub labels: Vec<(&'a str, String)>,
    /// The value.
    pub value: f64,
}

impl Sample<'_> {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| value.as_str())
    }
}

/// All samples of a page in the text format that [`crate::MetricsPage::render`] writes. What is no sample is skipped.
pub fn samples(page: &str) -> impl Iterator<Item = Sample<'_>> {
    page.lines().filter(|line| !line.starts_with('#')).filter_map(sample)
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    match series.split_once('{') {
        None => Some(Sample { name: series, labels: Vec::new(), value }),
        Some((name, rest)) => {
            Some(Sample { name, labels: labels(rest.strip_suffix('}')?)?, value })
        }
    }
}

/// `name="value",…`, where a backslash keeps a quote from ending the value.
fn labels(mut rest: &str) -> Option<Vec<(&str, String)>> {
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (name, quoted) = rest.split_once("=\"")?;
        let (value, end) = unquoted(quoted)?;
        labels.push((name, value));
        rest = quoted.get(end..)?.trim_start_matches(',');
    }
    Some(labels)
}

/// The value up to its closing quote, and where what follows begins.
fn unquoted(text: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return Some((value, place + 1)),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn samples_are_read_as_they_were_written() {
        let page = "# HELP a Something.\n# TYPE a counter\na 3\n\n\
                    b{x=\"1\",y=\"say \\\"no, \\\\no\\\"\"} 2.5e3\nbroken{x=\"1} 2\nnothing\n";
        let found: Vec<_> = samples(page).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!((found[0].name, found[0].value), ("a", 3.0));
        assert_eq!((found[1].name, found[1].value), ("b", 2500.0));
        assert_eq!(found[1].label("x"), Some("1"));
        assert_eq!(found[1].label("y"), Some("say \"no, \\no\""));
        assert_eq!(found[1].label("z"), None);
    }
}
