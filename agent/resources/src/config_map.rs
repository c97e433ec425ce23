//! Kubernetes ConfigMap: text by key. Istio keeps its mesh-wide settings in one.

use std::collections::BTreeMap;

use crate::{
    MeshConfig, MeshReading, Object, Path, Place,
    decode::{Fields, Shape},
};

/// Contents of a ConfigMap.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConfigMap {
    /// Texts by key.
    pub data: BTreeMap<String, String>,
}

impl Shape for ConfigMap {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.ignore(&["apiVersion", "kind", "metadata", "binaryData", "immutable"]);
        Self { data: fields.or_default("data") }
    }
}

/// The key under which Istio's own ConfigMap has the mesh-wide settings.
const MESH: &str = "mesh";

impl MeshConfig {
    /// The mesh-wide settings in Istio's own ConfigMap, as [`MeshConfig::read`] reads them; `None` when it has none.
    /// Findings name the place in the file of the ConfigMap.
    pub fn of_config_map(map: &Object<ConfigMap>) -> Option<MeshReading> {
        let text = map.spec.data.get(MESH)?;
        let data = Path::ROOT.field("data");
        let start = map.meta.place_of(&data.key(MESH));
        let mut reading = Self::read(&start.file, text);
        for finding in &mut reading.findings {
            finding.place = finding.place.as_ref().map(|place| within(&start, place));
            finding.resource = Some(map.meta.id.clone());
            let separator = if finding.path.is_empty() { "" } else { ": " };
            finding.path = format!("data[{MESH}]{separator}{}", finding.path);
        }
        if let Some(format) = &mut reading.config.access_log_format {
            format.place = within(&start, &format.place);
        }
        Some(reading)
    }
}

/// The place of something in a block of text that begins at `start`, all lines of which are indented alike.
fn within(start: &Place, place: &Place) -> Place {
    Place {
        file: start.file.clone(),
        line: (start.line + place.line).saturating_sub(1),
        column: (start.column + place.column).saturating_sub(1),
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
        let reading = MeshConfig::of_config_map(&map).unwrap();
        assert_eq!(reading.config.outbound_traffic_policy, OutboundTrafficPolicy::RegistryOnly);
        assert!(reading.findings.is_empty(), "{:?}", reading.findings);
    }

    #[test]
    fn mistakes_in_them_are_where_they_stand_in_the_file() {
        let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
                    data:\n  mesh: |-\n    accessLogFile: ''\n    outboundTrafficPolicy:\n      mode: NONE\n";
        let Resource::ConfigMap(map) = testing::valid(text) else { panic!("no ConfigMap") };
        let reading = MeshConfig::of_config_map(&map).unwrap();
        assert_eq!(reading.whole(), None);
        let told = reading.findings[0].to_string();
        let expected =
            "test.yaml:8:13: ConfigMap istio-system/istio: data[mesh]: outboundTrafficPolicy.mode:";
        assert!(told.starts_with(expected), "{told}");
    }

    #[test]
    fn without_them_there_are_none() {
        let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio}\ndata: {a: b}\n";
        let Resource::ConfigMap(map) = testing::valid(text) else { panic!("no ConfigMap") };
        assert_eq!(MeshConfig::of_config_map(&map), None);
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
