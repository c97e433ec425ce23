//! What stands in for a refused DestinationRule that asks for TLS.
//!
//! Without it calls would go out in clear text that its author wanted encrypted. Whom the rule is for is read as far as
//! it can be; how TLS is to be spoken nobody knows.

use std::sync::Arc;

use super::{Reader, Resource, kinds::read_kind, read_metadata};
use crate::{
    Kind,
    decode::{Context, Findings},
    meta::Object,
    yaml::{Node, Value},
};

impl Reader<'_> {
    /// Puts something in the place of a refused resource, if it must not be missed.
    pub(super) fn stand_in(&mut self, kind: Kind, node: &Node<'_>) {
        if kind != Kind::DestinationRule || !node.member("spec").is_some_and(|spec| asks_for_tls(&spec.value))
        {
            return;
        }
        // What is wrong has been told.
        let mut told = Findings::default();
        let mut context = Context::new(&self.file, &mut told, node.position);
        let metadata = read_metadata(kind, node, self.defaults, &mut context);
        let place = self.whole().at(node.position);
        let Resource::DestinationRule(rule) = read_kind(kind, node, metadata, place, &mut context) else {
            return;
        };
        let Object { meta, spec } = Arc::unwrap_or_clone(rule);
        self.document
            .stand_ins
            .push(Resource::DestinationRule(Arc::new(Object { meta, spec: spec.unreadable() })));
    }
}

/// Whether there are any `tls` settings, at whatever level, that may mean something else than clear text.
fn asks_for_tls(node: &Node<'_>) -> bool {
    match &node.value {
        Value::Object(members) => members.iter().any(|member| match &*member.key {
            "tls" => !is_disabled(&member.value),
            _ => asks_for_tls(&member.value),
        }),
        Value::List(items) => items.iter().any(asks_for_tls),
        Value::Scalar { .. } => false,
    }
}

fn is_disabled(tls: &Node<'_>) -> bool {
    tls.is_null() || tls.member("mode").and_then(|mode| mode.value.text()) == Some("DISABLE")
}
