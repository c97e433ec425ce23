//! What holds for services and rules of the mesh that say nothing themselves.

use crate::{
    H2Upgrade, LocalityLb, Path,
    decode::{Context, Fields},
    export_to::check_export_to,
};

/// Fields of `MeshConfig` that resources lay their own over.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MeshDefaults {
    /// `localityLbSetting`: where a DestinationRule has none of its own.
    pub locality_lb: Option<LocalityLb>,
    /// `h2UpgradePolicy`: whether HTTP ports are spoken to in HTTP/2 where a DestinationRule leaves it to the mesh.
    pub h2_upgrade: H2Upgrade,
    /// Who sees resources without `exportTo`.
    pub export_to: DefaultExportTo,
}

/// Namespaces that see resources without `exportTo`, as it would write them; empty is everybody.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DefaultExportTo {
    /// `defaultServiceExportTo`: of Services and ServiceEntries.
    pub services: Vec<String>,
    /// `defaultVirtualServiceExportTo`.
    pub virtual_services: Vec<String>,
    /// `defaultDestinationRuleExportTo`.
    pub destination_rules: Vec<String>,
}

impl MeshDefaults {
    pub(super) fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            locality_lb: fields.optional("localityLbSetting"),
            h2_upgrade: fields.or_default("h2UpgradePolicy"),
            export_to: DefaultExportTo {
                services: fields.or_default("defaultServiceExportTo"),
                virtual_services: fields.or_default("defaultVirtualServiceExportTo"),
                destination_rules: fields.or_default("defaultDestinationRuleExportTo"),
            },
        }
    }

    pub(super) fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let DefaultExportTo { services, virtual_services, destination_rules } = &self.export_to;
        for (name, namespaces) in [
            ("defaultServiceExportTo", services),
            ("defaultVirtualServiceExportTo", virtual_services),
            ("defaultDestinationRuleExportTo", destination_rules),
        ] {
            check_export_to(namespaces, true, &at.field(name), context);
        }
    }
}
