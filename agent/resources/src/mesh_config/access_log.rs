//! How access log lines are written.

use crate::{
    Path,
    decode::{Context, Decode, word_of},
    finding::Place,
    yaml::Node,
};

/// How access log lines are written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AccessLogEncoding {
    /// Lines of text (`TEXT`).
    #[default]
    Text,
    /// A JSON object per line (`JSON`).
    Json,
}

impl Decode for AccessLogEncoding {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word_of(node, &[("TEXT", Self::Text), ("JSON", Self::Json)], at, context)
    }
}

/// How the user wants access log lines.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AccessLogFormat {
    /// Text with operators, or a JSON object of such texts.
    pub text: String,
    /// Where it stands.
    pub place: Place,
}

impl Decode for AccessLogFormat {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let place = Place::whole(context.file().clone()).at(node.position);
        Self { text: String::decode(node, at, context), place }
    }
}
