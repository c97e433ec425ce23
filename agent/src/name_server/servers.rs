//! The name servers of the pod.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::system_conf::parse_resolv_conf;

use super::ask::{Transport, ask};

use crate::bounds;

/// Replaces the name servers of `/etc/resolv.conf`, for `postern-init` as well.
pub(crate) const DNS_SERVERS: &str = "POSTERN_DNS_SERVERS";

/// Whom questions about other names than those of services are passed on to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Servers {
    addresses: Vec<SocketAddr>,
    /// What the workload's resolver adds to short names first, with a dot before it.
    search: Option<String>,
}

impl Servers {
    /// Those of a text in the form of `/etc/resolv.conf`, or those that `instead` lists: `ADDR[:PORT]`, by commas.
    ///
    /// # Errors
    /// Either has a mistake: a whole sentence for the user.
    pub(crate) fn read(resolv_conf: &str, instead: Option<&str>) -> Result<Self, String> {
        let (config, _) = parse_resolv_conf(resolv_conf).map_err(|error| {
            format!("cannot read /etc/resolv.conf: {error}; expected lines such as `nameserver 10.96.0.10`")
        })?;
        let mut search = config.search().iter().map(|name| name.to_ascii().to_ascii_lowercase());
        let search = search.next().map(|name| format!(".{}", name.trim_matches('.')));
        let addresses: Vec<SocketAddr> = match instead {
            Some(list) => {
                list.split(',').filter(|item| !item.is_empty()).map(server).collect::<Result<_, _>>()?
            }
            None => config.name_servers().iter().map(|server| SocketAddr::new(server.ip, DNS)).collect(),
        };
        Ok(Self { addresses, search })
    }

    /// What the workload's resolver adds to short names first, with a dot before it.
    pub(super) fn search(&self) -> Option<&str> {
        self.search.as_deref()
    }

    /// The answer of the first that gives one.
    pub(super) async fn ask(&self, asked: &[u8], over: Transport) -> Option<Vec<u8>> {
        for server in self.addresses.iter().take(bounds::DNS_SERVERS) {
            match tokio::time::timeout(bounds::DNS_PATIENCE, ask(*server, asked, over)).await {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(error)) => tracing::debug!(%server, %error, "a name server cannot be asked"),
                Err(_) => tracing::debug!(%server, "a name server does not answer"),
            }
        }
        None
    }
}

const DNS: u16 = 53;

fn server(text: &str) -> Result<SocketAddr, String> {
    let address = text.trim().parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS));
    address.or_else(|_| text.trim().parse()).map_err(|_| {
        format!("invalid name server `{text}` in {DNS_SERVERS}: expected an address such as `10.96.0.10`, or with a port")
    })
}
