//! What is done to paths before they are matched (`pathNormalization`).

use crate::{
    Path,
    decode::{Context, Decode, Fields, Shape, word},
    yaml::Node,
};

/// What is done to the path of a request before it is matched.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PathNormalization {
    /// Nothing.
    None,
    /// Segments `.` and `..` are resolved and `\` becomes `/` (also `DEFAULT`).
    #[default]
    Base,
    /// Also, several `/` become one.
    MergeSlashes,
    /// Also, escaped slashes become plain ones first.
    DecodeAndMergeSlashes,
}

#[derive(Default)]
pub(super) struct Normalization(pub(super) PathNormalization);

impl Shape for Normalization {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self(fields.or_default("normalization"))
    }
}

impl Decode for PathNormalization {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let words = ["DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"];
        word(node, &words, at, context)
    }
}

impl std::str::FromStr for PathNormalization {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "DEFAULT" | "BASE" => Ok(Self::Base),
            "NONE" => Ok(Self::None),
            "MERGE_SLASHES" => Ok(Self::MergeSlashes),
            "DECODE_AND_MERGE_SLASHES" => Ok(Self::DecodeAndMergeSlashes),
            _ => Err(()),
        }
    }
}
