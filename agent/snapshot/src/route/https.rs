//! Where `httpsRedirect` sends clients: the ports at which a gateway speaks TLS, by host.

use crate::{
    hosts::{HostName, HostPattern, HostTable},
    request::RequestHead,
    split_port,
};

/// The HTTPS servers of a gateway, by the ports that its clients dial.
#[derive(Clone, Debug, Default)]
pub struct HttpsPorts {
    servers: Vec<(HostPattern, u16)>,
    clear_text: Vec<u16>,
    by_host: HostTable<u16>,
}

impl HttpsPorts {
    /// Makes the table. The first port of a pattern counts; `clear_text` are the ports at which nobody speaks TLS.
    pub fn new(mut servers: Vec<(HostPattern, u16)>, clear_text: Vec<u16>) -> Self {
        let mut by_host = HostTable::default();
        servers.retain(|(host, port)| by_host.insert(host, *port));
        Self { servers, clear_text, by_host }
    }

    /// The hosts served over TLS, each with its port.
    pub fn servers(&self) -> &[(HostPattern, u16)] {
        &self.servers
    }

    /// The same over https, or `None` when the client named no host.
    ///
    /// A port that the client wrote stays unless it is one of clear text, as `own_port` is, by which the request came:
    /// it may be a load balancer's, which is not known here.
    pub fn location(&self, request: &impl RequestHead, own_port: u16) -> Option<String> {
        let (authority, path) = (request.authority(), request.path_and_query());
        let (host, port) = split_port(authority);
        let is_clear_text = |port: &str| {
            port.parse().is_ok_and(|port| port == 80 || port == own_port || self.clear_text.contains(&port))
        };
        let port = match port {
            Some(port) if !is_clear_text(port) => format!(":{port}"),
            _ => match self.by_host.find(&HostName::of_authority(authority)) {
                None | Some(443) => String::new(),
                Some(port) => format!(":{port}"),
            },
        };
        // `OPTIONS *` has no path.
        let path = if path.starts_with('/') { path } else { "/" };
        (!host.is_empty()).then(|| format!("https://{host}{port}{path}"))
    }
}

// The table of hosts follows from the servers.
impl PartialEq for HttpsPorts {
    fn eq(&self, other: &Self) -> bool {
        self.servers == other.servers && self.clear_text == other.clear_text
    }
}

impl Eq for HttpsPorts {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::testing::Get;

    #[test]
    fn redirects_keep_host_path_and_foreign_ports() {
        let to = |authority, path| HttpsPorts::default().location(&Get(authority, path), 8080).unwrap();
        assert_eq!(to("a.com", "/b?c=d"), "https://a.com/b?c=d");
        assert_eq!(to("a.com:80", "/"), "https://a.com/");
        assert_eq!(to("a.com:8080", "/"), "https://a.com/");
        assert_eq!(to("a.com:30080", "/"), "https://a.com:30080/");
        assert_eq!(to("[fd00::80]", "/"), "https://[fd00::80]/");
        assert_eq!(to("[fd00::1]:8080", "*"), "https://[fd00::1]/");
        assert_eq!(HttpsPorts::default().location(&Get("", "/"), 8080), None);
    }

    #[test]
    fn the_port_of_the_most_specific_https_server_is_written_unless_it_is_443() {
        let server = |host: &str, port| (host.parse().unwrap(), port);
        let servers = vec![
            server("a.com", 8443),
            server("a.com", 9443),
            server("*.b.com", 9443),
            server("x.b.com", 443),
            server("[fd00::1]", 8443),
        ];
        let ports = HttpsPorts::new(servers, vec![8081]);
        let to = |authority| ports.location(&Get(authority, "/p"), 8080).unwrap();
        assert_eq!(to("a.com"), "https://a.com:8443/p");
        assert_eq!(to("A.com:80"), "https://A.com:8443/p");
        assert_eq!(to("a.com:8081"), "https://a.com:8443/p");
        assert_eq!(to("a.com:30080"), "https://a.com:30080/p");
        assert_eq!(to("[fd00::1]:8080"), "https://[fd00::1]:8443/p");
        assert_eq!(to("y.b.com"), "https://y.b.com:9443/p");
        assert_eq!(to("x.b.com"), "https://x.b.com/p");
        assert_eq!(to("elsewhere.com:8081"), "https://elsewhere.com/p");
    }
}
