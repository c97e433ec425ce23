//! Kubernetes Secret: certificates and keys. Its values never reach a message, a log or a dump.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    Path,
    decode::{Context, Decode, Fields, Shape},
    finding::Problem,
    yaml::{Node, Value},
};

/// Contents of a Secret.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Secret {
    /// `kubernetes.io/tls` and the like; any type may hold a credential.
    pub secret_type: Option<String>,
    /// Values by key, decoded; those of `stringData` win.
    pub data: BTreeMap<String, SecretBytes>,
}

impl Shape for Secret {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore(&["apiVersion", "kind", "metadata", "immutable"]);
        let mut data: BTreeMap<String, SecretBytes> = fields.or_default("data");
        let text: BTreeMap<String, SecretText> = fields.or_default("stringData");
        data.extend(text.into_iter().map(|(key, text)| (key, text.0)));
        Self { secret_type: fields.optional("type"), data }
    }
}

/// A value that is not shown: Debug prints its size only.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// The value itself, for use, not for show.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

impl Decode for SecretBytes {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let text = secret_text(node, at, context).unwrap_or_default();
        let compact: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        Self(STANDARD.decode(compact).unwrap_or_else(|_| {
            let problem =
                Problem::new("is not base64").remedy("encode it, or move it to `stringData` as it is");
            context.error(at, problem);
            Vec::new()
        }))
    }
}

#[derive(Default)]
struct SecretText(SecretBytes);

impl Decode for SecretText {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        Self(SecretBytes(secret_text(node, at, context).unwrap_or_default().as_bytes().to_vec()))
    }
}

/// Like reading text, but without the value in the message.
fn secret_text<'n>(node: &'n Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Option<&'n str> {
    match &node.value {
        Value::Scalar { .. } => node.text(),
        _ => {
            context.error(at, Problem::new("has the wrong type").expected("text"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Resource, testing};

    fn text(contents: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: cert}}\ntype: kubernetes.io/tls\n{contents}\n"
        )
    }

    #[test]
    fn values_are_decoded_and_never_shown() {
        let text = text("data: {tls.crt: aGVsbG8=, tls.key: aGVsbG8=}\nstringData: {tls.key: topsecret}");
        let Resource::Secret(secret) = testing::valid(&text) else { panic!("no Secret") };
        assert_eq!(secret.spec.data["tls.crt"].expose(), b"hello");
        assert_eq!(secret.spec.data["tls.key"].expose(), b"topsecret");
        let shown = format!("{secret:?}");
        assert!(!shown.contains("hello") && !shown.contains("topsecret"), "{shown}");
        assert!(shown.contains("[9 bytes]"));
    }

    #[test]
    fn broken_values_are_refused_without_being_shown() {
        for contents in [
            "data: {tls.key: '!topsecret!'}",
            "data: {tls.key: [topsecret]}",
            "stringData: {tls.key: {a: topsecret}}",
            "data: topsecret",
            "data: [topsecret]",
            "immutable: true\ntype2: topsecret",
            "stringData:\n  password:topsecret\n  other: a",
            "stringData:\n  password: topsecret\n    other: a",
            "stringData:\n  password: 'topsecret\n",
            "stringData: {a: topsecret, a: topsecret}",
        ] {
            let findings = testing::findings(&text(contents));
            assert_eq!(findings.len(), 1, "{contents}: {findings:#?}");
            assert!(!findings[0].contains("topsecret"), "{findings:#?}");
        }
        let bare = testing::findings("topsecret\n---\n- topsecret\n");
        assert!(bare.iter().all(|finding| !finding.contains("topsecret")), "{bare:#?}");
    }
}
