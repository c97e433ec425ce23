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

impl DefaultExportTo {
    const SERVICES: &'static str = "defaultServiceExportTo";
    const VIRTUAL_SERVICES: &'static str = "defaultVirtualServiceExportTo";
    const DESTINATION_RULES: &'static str = "defaultDestinationRuleExportTo";

    /// Lets everybody see what a list that cannot be used was to show to some.
    pub(super) fn leave_out(&mut self, is_wrong: impl Fn(&str) -> bool) {
        for (name, namespaces) in [
            (Self::SERVICES, &mut self.services),
            (Self::VIRTUAL_SERVICES, &mut self.virtual_services),
            (Self::DESTINATION_RULES, &mut self.destination_rules),
        ] {
            if is_wrong(name) {
                namespaces.clear();
            }
        }
    }
}

impl MeshDefaults {
    pub(super) fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            locality_lb: fields.optional("localityLbSetting"),
            h2_upgrade: fields.or_default("h2UpgradePolicy"),
            export_to: DefaultExportTo {
                services: fields.or_default(DefaultExportTo::SERVICES),
                virtual_services: fields.or_default(DefaultExportTo::VIRTUAL_SERVICES),
                destination_rules: fields.or_default(DefaultExportTo::DESTINATION_RULES),
            },
        }
    }

    pub(super) fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let DefaultExportTo { services, virtual_services, destination_rules } = &self.export_to;
        for (name, namespaces) in [
            (DefaultExportTo::SERVICES, services),
            (DefaultExportTo::VIRTUAL_SERVICES, virtual_services),
            (DefaultExportTo::DESTINATION_RULES, destination_rules),
        ] {
            check_export_to(namespaces, true, &at.field(name), context);
        }
    }
}
