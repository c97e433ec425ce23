//! Paths and names that stand for certificates and keys.

use super::{Context, Decode, Fields};
use crate::{Path, finding::Problem, yaml::Node};

/// The path of a file, or the name of a Secret. Names are shown to everybody, so a key that is pasted in the place of one
/// must not become one.
#[derive(Default)]
struct Elsewhere(String);

impl Decode for Elsewhere {
    const FORM: &'static str = String::FORM;

    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let text = String::decode(node, at, context);
        if !holds_what_it_should_name(&text) {
            return Self(text);
        }
        let problem = Problem::new("holds a certificate or key itself");
        let problem = problem.expected("the path of a file, or the name of a Secret, that holds it");
        context.error(at, problem.remedy("take a key that others have seen out of use"));
        Self::default()
    }
}

/// Whether this is PEM, or PEM as it stands in a Secret's `data`, whose base64 begins like that of `-----BEGIN`.
fn holds_what_it_should_name(text: &str) -> bool {
    let text = text.trim();
    text.contains("-----BEGIN") || text.contains('\n') || text.starts_with("LS0tLS1CRUdJT")
}

impl Fields<'_, '_, '_> {
    /// Where a certificate or key is.
    pub(crate) fn elsewhere(&mut self, name: &'static str) -> Option<String> {
        self.optional::<Elsewhere>(name).map(|found| found.0)
    }

    /// The same where it must be written.
    pub(crate) fn required_elsewhere(&mut self, name: &'static str) -> Option<String> {
        self.required_some::<Elsewhere>(name).map(|found| found.0)
    }

    /// Where several are.
    pub(crate) fn list_elsewhere(&mut self, name: &'static str) -> Vec<String> {
        self.or_default::<Vec<Elsewhere>>(name).into_iter().map(|found| found.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::{ReadDefaults, read};

    const KEY: &str = "\"-----BEGIN PRIVATE KEY-----\\nMIGHAgEA\\n-----END PRIVATE KEY-----\\n\"";

    #[test]
    fn a_key_in_the_place_of_its_path_or_secret_is_refused_and_not_shown() {
        let server = |tls: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec: {{servers: [{{port: \
                 {{number: 443, name: a, protocol: HTTPS}}, hosts: ['*'], tls: {{mode: SIMPLE, {tls}}}}}]}}\n"
            )
        };
        let client = |tls: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: dr}}\nspec: {{host: a, \
                 trafficPolicy: {{tls: {{mode: MUTUAL, {tls}}}}}}}\n"
            )
        };
        let encoded = "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1JR0hBZ0VB";
        for (text, field) in [
            (server(&format!("credentialName: {encoded}")), "tls.credentialName"),
            (server(&format!("serverCertificate: /a.crt, privateKey: {KEY}")), "tls.privateKey"),
            (server(&format!("credentialName: {KEY}")), "tls.credentialName"),
            (server(&format!("credentialNames: [a, {KEY}]")), "tls.credentialNames[1]"),
            (
                server(&format!("tlsCertificates: [{{serverCertificate: /a.crt, privateKey: {KEY}}}]")),
                "tls.tlsCertificates[0].privateKey",
            ),
            (client(&format!("clientCertificate: /a.crt, privateKey: {KEY}")), "tls.privateKey"),
            (client(&format!("credentialName: {KEY}")), "tls.credentialName"),
        ] {
            let document = read("a.yaml", &text, &ReadDefaults::default());
            assert_eq!((document.resources.len(), document.refused.len()), (0, 1), "{field}");
            let told: Vec<String> = document.findings.iter().map(ToString::to_string).collect();
            let wanted = format!("{field}: holds a certificate or key itself (expected the path of a file,");
            assert!(told.iter().any(|told| told.contains(&wanted)), "{told:?}");
            let shown = format!("{told:?}{:?}", document.stand_ins);
            assert!(!shown.contains("MIGH") && !shown.contains("LS0t"), "{told:?}");
        }
    }
}
