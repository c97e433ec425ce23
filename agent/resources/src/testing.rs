//! Shared by the tests of the kinds.

use std::sync::Arc;

use crate::{Document, Gateway, Object, ReadDefaults, Resource, VirtualService, read};

pub(crate) fn document(text: &str) -> Document {
    read("test.yaml", text, &ReadDefaults::default())
}

/// The findings as they are printed.
pub(crate) fn findings(text: &str) -> Vec<String> {
    document(text).findings.iter().map(ToString::to_string).collect()
}

/// The only resource of a text that has nothing to complain about.
pub(crate) fn valid(text: &str) -> Resource {
    let document = document(text);
    assert_eq!(document.findings, []);
    let [resource] = <[Resource; 1]>::try_from(document.resources).expect("one resource");
    resource
}

pub(crate) fn gateway(text: &str) -> Gateway {
    let Resource::Gateway(object) = valid(text) else { panic!("no Gateway") };
    object.spec.clone()
}

pub(crate) fn virtual_service(text: &str) -> Arc<Object<VirtualService>> {
    let Resource::VirtualService(object) = valid(text) else { panic!("no VirtualService") };
    object
}

/// What is complained of in a resource of a kind that has no effect yet, besides that.
pub(crate) fn complaints(text: &str) -> Vec<String> {
    let mut findings = findings(text);
    findings.retain(|finding| !is_no_effect(finding));
    findings
}

/// Exactly one complaint about each text, which contains what stands beside it.
pub(crate) fn assert_complaints(cases: &[(&str, &str)], text: impl Fn(&str) -> String) {
    for (case, wrong) in cases {
        let complaints = complaints(&text(case));
        assert_eq!(complaints.len(), 1, "{case}: {complaints:#?}");
        assert!(complaints[0].contains(wrong), "{case}: {complaints:#?}");
    }
}

/// The only resource of a text of which nothing is said but, once, that it has no effect yet.
pub(crate) fn valid_without_effect(text: &str) -> Resource {
    let document = document(text);
    let findings: Vec<_> = document.findings.iter().map(ToString::to_string).collect();
    assert!(matches!(&findings[..], [only] if is_no_effect(only)), "{text}\n{findings:#?}");
    let [resource] = <[Resource; 1]>::try_from(document.resources).expect("one resource");
    resource
}

fn is_no_effect(finding: &str) -> bool {
    finding.contains("is not enforced yet: ")
        || finding.contains(": is not supported yet and has no effect (")
}
