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
