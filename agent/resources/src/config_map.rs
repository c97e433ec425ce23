//! Kubernetes ConfigMap: text by key. Istio keeps its mesh-wide settings in one.

use std::collections::BTreeMap;

use crate::decode::{Fields, Shape};

/// Contents of a ConfigMap.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConfigMap {
    /// Texts by key.
    pub data: BTreeMap<String, String>,
}

impl Shape for ConfigMap {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore(&["apiVersion", "kind", "metadata", "binaryData", "immutable"]);
        Self { data: fields.unused("data").unwrap_or_default() }
    }
}

impl ConfigMap {
    /// The text of the mesh-wide settings, which [`crate::MeshConfig::read`] takes; in Istio's own ConfigMap only.
    pub fn mesh(&self) -> Option<&str> {
        self.data.get("mesh").map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use crate::{MeshConfig, OutboundTrafficPolicy, Resource, testing};

    #[test]
    fn the_mesh_wide_settings_are_a_text_inside() {
        let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
                    data:\n  meshNetworks: 'networks: {}'\n  mesh: |-\n    outboundTrafficPolicy:\n      mode: REGISTRY_ONLY\n";
        let Resource::ConfigMap(map) = testing::valid(text) else { panic!("no ConfigMap") };
        let (config, findings) = MeshConfig::read("mesh", map.spec.mesh().unwrap());
        assert_eq!(config.unwrap().outbound_traffic_policy, OutboundTrafficPolicy::RegistryOnly);
        assert!(findings.is_empty(), "{findings:?}");
    }

    #[test]
    fn other_values_than_text_are_refused() {
        let text =
            |data: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {data}\n");
        testing::assert_complaints(
            &[("{a: 1}", "data[a]: has the wrong type (found `1`; expected text; put it in quotes)")],
            text,
        );
    }
}
