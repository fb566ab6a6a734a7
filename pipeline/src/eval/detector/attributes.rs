//! What a prompt names, and whether a clip shows it.

use serde::{Deserialize, Serialize};

use super::{Background, Colour, Detection, Motion, Shape, Size};

/// What a prompt names; `None` is what it leaves open.
///
/// In JSON an open attribute is absent, and an unknown one is an error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Attributes {
    /// Colour of the shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub colour: Option<Colour>,
    /// Colour behind the shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background: Option<Background>,
    /// The shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
    /// How large the shape is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// What the shape does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub motion: Option<Motion>,
}

/// For each attribute whether the clip shows what the prompt names; `None` where it names nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// Colour of the shape.
    pub colour: Option<bool>,
    /// Colour behind the shape.
    pub background: Option<bool>,
    /// The shape.
    pub shape: Option<bool>,
    /// How large the shape is.
    pub size: Option<bool>,
    /// What the shape does.
    pub motion: Option<bool>,
}

impl Agreement {
    /// Whether all that the prompt names of colour, background, shape and motion is right; `None`
    /// if it names none of the four.
    ///
    /// Size is left out: "small" and "large" have no meaning without a comparison.
    pub fn all(&self) -> Option<bool> {
        let four = [self.colour, self.background, self.shape, self.motion];
        four.into_iter().flatten().reduce(|all, right| all && right)
    }
}

impl Detection {
    /// Compares what a clip shows with what its prompt names. What is unclear counts as wrong.
    pub fn agrees(&self, wanted: &Attributes) -> Agreement {
        Agreement {
            colour: is_right(self.colour, wanted.colour),
            background: is_right(self.background, wanted.background),
            shape: is_right(self.shape, wanted.shape),
            size: is_right(self.size, wanted.size),
            motion: is_right(self.motion, wanted.motion),
        }
    }
}

fn is_right<T: PartialEq>(seen: Option<T>, wanted: Option<T>) -> Option<bool> {
    wanted.is_some().then(|| seen == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: Detection = Detection {
        colour: Some(Colour::Red),
        background: Some(Background::Black),
        shape: None,
        size: Some(Size::Small),
        motion: Some(Motion::Left),
    };

    #[test]
    fn only_what_is_named_is_judged() {
        let wanted = Attributes {
            colour: Some(Colour::Red),
            motion: Some(Motion::Right),
            ..Attributes::default()
        };
        let expected =
            Agreement { colour: Some(true), motion: Some(false), ..Agreement::default() };
        assert_eq!(SEEN.agrees(&wanted), expected);
        assert_eq!(SEEN.agrees(&Attributes::default()), Agreement::default());
    }

    #[test]
    fn unclear_is_wrong() {
        let wanted = Attributes { shape: Some(Shape::Circle), ..Attributes::default() };
        assert_eq!(SEEN.agrees(&wanted).shape, Some(false));
    }

    #[test]
    fn all_needs_one_of_four_and_ignores_the_size() {
        let all = |wanted: Attributes| SEEN.agrees(&wanted).all();
        let wrong_size = Attributes { size: Some(Size::Large), ..Attributes::default() };
        assert_eq!(all(Attributes::default()), None);
        assert_eq!(all(wrong_size), None);
        let right = Attributes {
            colour: SEEN.colour,
            background: SEEN.background,
            motion: SEEN.motion,
            ..wrong_size
        };
        assert_eq!(all(right), Some(true));
        assert_eq!(all(Attributes { background: Some(Background::Pink), ..right }), Some(false));
    }

    #[test]
    fn json_names_what_is_wanted_and_nothing_else() {
        let text = r#"{"colour":"red","size":"small","motion":"grow"}"#;
        let wanted: Attributes = serde_json::from_str(text).unwrap();
        assert_eq!(
            wanted,
            Attributes {
                colour: Some(Colour::Red),
                size: Some(Size::Small),
                motion: Some(Motion::Grow),
                ..Attributes::default()
            }
        );
        assert_eq!(serde_json::to_string(&wanted).unwrap(), text);
        for wrong in [r#"{"color":"red"}"#, r#"{"colour":"Red"}"#, r#"{"shape":"unclear"}"#] {
            assert!(serde_json::from_str::<Attributes>(wrong).is_err(), "{wrong}");
        }
    }
}
