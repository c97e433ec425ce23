//! What names of services stand for, where the proxy answers its workload's questions about names (DNS).

use std::net::IpAddr;

use crate::{HostName, HostPattern, HostTable};

/// Names of services with the addresses that clients reach them at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NameTable {
    index: HostTable<u32>,
    addresses: Vec<Box<[IpAddr]>>,
}

impl NameTable {
    /// Adds the names of a service. Names that are known already stay what they are.
    pub fn add(&mut self, names: impl IntoIterator<Item = HostPattern>, addresses: &[IpAddr]) {
        let Ok(position) = u32::try_from(self.addresses.len()) else { return };
        self.addresses.push(addresses.into());
        for name in names {
            self.index.insert(&name, position);
        }
    }

    /// The addresses of both families that a name stands for; `None` when no service has it.
    pub fn addresses(&self, name: &str) -> Option<&[IpAddr]> {
        let position = self.index.find(&HostName::of_authority(name))?;
        Some(&self.addresses[position as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_service_of_a_name_has_it_and_wildcards_cover_the_rest() {
        let mut table = NameTable::default();
        let [one, two]: [IpAddr; 2] = ["10.0.0.1", "fd00::2"].map(|ip| ip.parse().unwrap());
        table.add(["web".parse().unwrap(), "*.a.com".parse().unwrap()], &[one]);
        table.add(["web".parse().unwrap(), "b.a.com".parse().unwrap()], &[two]);
        for (name, addresses) in [("Web.", one), ("x.a.com", one), ("b.a.com", two)] {
            assert_eq!(table.addresses(name), Some(&[addresses][..]), "{name}");
        }
        assert_eq!(table.addresses("a.com"), None);
    }
}
