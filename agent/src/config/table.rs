//! The dump as the tables that istioctl users know.

mod secrets;

use std::fmt::Write;

use serde_json::Value;

pub(super) use secrets::secrets;

/// `ADDRESSES PORT MATCH DESTINATION`, a row for each filter chain.
pub(super) fn listeners(listeners: &[&Value]) -> String {
    let mut rows = Vec::new();
    for listener in listeners {
        let socket = &listener["address"]["socket_address"];
        let port = number(&socket["port_value"]);
        let address = match &listener["address"]["pipe"] {
            Value::Null => text(&socket["address"]).to_owned(),
            _ => address(&listener["address"]),
        };
        let chains = listener["filter_chains"].as_array().into_iter().flatten();
        for chain in chains.chain(listener.get("default_filter_chain")) {
            let row = [address.clone(), port.to_string(), chain_match(chain), chain_destination(chain)];
            rows.push((address.clone(), port, row));
        }
    }
    // Chains keep the order in which they are tried.
    rows.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    print(["ADDRESSES", "PORT", "MATCH", "DESTINATION"], rows.into_iter().map(|(.., row)| row).collect())
}

fn chain_match(chain: &Value) -> String {
    let conditions = &chain["filter_chain_match"];
    let mut parts = Vec::new();
    let names = texts(&conditions["server_names"]);
    if !names.is_empty() {
        parts.push(format!("SNI: {}", names.join(",")));
    }
    if let Some(transport) = conditions["transport_protocol"].as_str() {
        parts.push(format!("Trans: {transport}"));
    }
    let applications = texts(&conditions["application_protocols"]);
    if !applications.is_empty() {
        parts.push(format!("App: {}", application_name(&applications)));
    }
    let ranges = conditions["prefix_ranges"].as_array().into_iter().flatten();
    let ranges =
        ranges.map(|range| format!("{}/{}", text(&range["address_prefix"]), number(&range["prefix_len"])));
    let ranges: Vec<_> = ranges.collect();
    match (ranges.as_slice(), conditions["destination_port"].as_u64()) {
        ([], None) => {}
        ([], Some(port)) => parts.push(format!("Addr: *:{port}")),
        (ranges, None) => parts.push(format!("Addr: {}", ranges.join(","))),
        (ranges, Some(port)) => parts.push(format!("Addr: {}:{port}", ranges.join(","))),
    }
    if parts.is_empty() { "ALL".to_owned() } else { parts.join("; ") }
}

/// istioctl's short names for the lists that Istio uses.
fn application_name(protocols: &[&str]) -> String {
    match protocols {
        ["http/1.1", "h2c"] | ["http/1.0", "http/1.1", "h2c"] => "HTTP".to_owned(),
        ["istio-http/1.0", "istio-http/1.1", "istio-h2"] => "HTTP TLS".to_owned(),
        ["istio-peer-exchange", "istio"] => "TCP TLS".to_owned(),
        ["istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"]
        | ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"] => {
            "Istio HTTP Plain".to_owned()
        }
        others => others.join(","),
    }
}

fn chain_destination(chain: &Value) -> String {
    let Some(filter) = chain["filters"].as_array().and_then(|filters| filters.last()) else {
        return "Non-HTTP/Non-TCP".to_owned();
    };
    let config = &filter["typed_config"];
    if let Some(name) = config["rds"]["route_config_name"].as_str() {
        return format!("Route: {name}");
    }
    if let Some(clusters) = config["weighted_clusters"]["clusters"].as_array() {
        let clusters: Vec<_> = clusters.iter().map(|cluster| text(&cluster["name"])).collect();
        return format!("Cluster: {}", clusters.join(","));
    }
    match text(&config["cluster"]) {
        "" | "BlackHoleCluster" => "Non-HTTP/Non-TCP".to_owned(),
        // Istio's own clusters need no introduction.
        own if !own.contains('|') => own.to_owned(),
        cluster => format!("Cluster: {cluster}"),
    }
}

/// `NAME VHOST NAME DOMAINS MATCH VIRTUAL SERVICE`, a row for each route.
pub(super) fn routes(tables: &[&Value]) -> String {
    let mut rows = Vec::new();
    for table in tables {
        for host in table["virtual_hosts"].as_array().into_iter().flatten() {
            // Requests for hosts nobody knows: the same everywhere, so istioctl leaves them out.
            if host["name"] == "allow_any" {
                continue;
            }
            let start = [text(&table["name"]).to_owned(), text(&host["name"]).to_owned(), domains(host)];
            let routes = host["routes"].as_array().map(Vec::as_slice).unwrap_or_default();
            if routes.is_empty() {
                let [name, host, domains] = start.clone();
                rows.push([name, host, domains, "/*".to_owned(), "404".to_owned()]);
            }
            for route in routes {
                let [name, host, domains] = start.clone();
                rows.push([name, host, domains, path_match(&route["match"]), owner(route)]);
            }
        }
    }
    rows.sort_by(|a, b| (natural(&a[0]), &a[1]).cmp(&(natural(&b[0]), &b[1])));
    print(["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"], rows)
}

/// Numbers in front of texts, by value.
fn natural(name: &str) -> (bool, u64, &str) {
    match name.parse() {
        Ok(number) => (false, number, ""),
        Err(_) => (true, 0, name),
    }
}

fn domains(host: &Value) -> String {
    match texts(&host["domains"]).as_slice() {
        [first, second, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second} + {} more...", rest.len())
        }
        few => few.join(", "),
    }
}

fn path_match(conditions: &Value) -> String {
    match (conditions["prefix"].as_str(), conditions["path"].as_str()) {
        (Some(prefix), _) => format!("{prefix}*"),
        (_, Some(path)) => path.to_owned(),
        _ => format!("regex {}", text(&conditions["safe_regex"]["regex"])),
    }
}

/// `name.namespace` of the resource an object was made from.
fn owner(object: &Value) -> String {
    let config = text(&object["metadata"]["filter_metadata"]["istio"]["config"]);
    let mut parts = config.rsplit('/');
    match (parts.next(), parts.nth(1)) {
        (Some(name), Some(namespace)) => format!("{name}.{namespace}"),
        _ => String::new(),
    }
}

/// `SERVICE FQDN PORT SUBSET DIRECTION TYPE DESTINATION RULE`.
pub(super) fn clusters(clusters: &[&Value]) -> String {
    let mut rows: Vec<_> = clusters.iter().map(|cluster| cluster_row(cluster)).collect();
    rows.sort();
    print(["SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"], rows)
}

fn cluster_row(cluster: &Value) -> [String; 6] {
    let name = text(&cluster["name"]);
    let kind = [&cluster["type"], &cluster["cluster_type"]["name"]].map(text).concat();
    let dash = || "-".to_owned();
    let or_dash = |text: &str| if text.is_empty() { dash() } else { text.to_owned() };
    match name.split('|').collect::<Vec<_>>().as_slice() {
        [direction, port, subset, host] => [
            (*host).to_owned(),
            (*port).to_owned(),
            or_dash(subset),
            (*direction).to_owned(),
            kind,
            owner(cluster),
        ],
        _ => [name.to_owned(), dash(), dash(), dash(), kind, owner(cluster)],
    }
}

/// `NAME STATUS LOCALITY CLUSTER`.
pub(super) fn endpoints(assignments: &[&Value]) -> String {
    let mut rows = Vec::new();
    for assignment in assignments {
        for group in assignment["endpoints"].as_array().into_iter().flatten() {
            let locality = &group["locality"];
            let places = [text(&locality["region"]), text(&locality["zone"]), text(&locality["sub_zone"])];
            let place = places.into_iter().filter(|place| !place.is_empty()).collect::<Vec<_>>().join("/");
            for endpoint in group["lb_endpoints"].as_array().into_iter().flatten() {
                let address = address(&endpoint["endpoint"]["address"]);
                let status = text(&endpoint["health_status"]).to_owned();
                rows.push([address, status, place.clone(), text(&assignment["cluster_name"]).to_owned()]);
            }
        }
    }
    rows.sort();
    print(["NAME", "STATUS", "LOCALITY", "CLUSTER"], rows)
}

/// `ENDPOINT STATUS OUTLIER CHECK CLUSTER`, from Envoy's statuses of clusters.
pub(super) fn live_endpoints(statuses: &[&Value]) -> String {
    let mut rows = Vec::new();
    for cluster in statuses {
        for host in cluster["host_statuses"].as_array().into_iter().flatten() {
            let health = &host["health_status"];
            let outlier = if health["failed_outlier_check"] == true { "FAILED" } else { "OK" };
            let status = text(&health["eds_health_status"]);
            rows.push([
                address(&host["address"]),
                status.into(),
                outlier.into(),
                text(&cluster["name"]).into(),
            ]);
        }
    }
    rows.sort();
    print(["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"], rows)
}

/// As istioctl prints it.
fn address(address: &Value) -> String {
    if let Some(path) = address["pipe"]["path"].as_str() {
        return format!("unix://{path}");
    }
    let socket = &address["socket_address"];
    let (ip, port) = (text(&socket["address"]), number(&socket["port_value"]));
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// Columns at least five blanks apart.
fn print<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) -> String {
    let header = header.map(str::to_owned);
    let mut widths = [0; N];
    for row in std::iter::once(&header).chain(&rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for row in std::iter::once(header).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            _ = write!(line, "{cell:width$}     ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_at_least_five_blanks_apart() {
        let rows = vec![["a".to_owned(), "b".to_owned()], ["longer".to_owned(), String::new()]];
        assert_eq!(print(["X", "Y"], rows), "X          Y\na          b\nlonger\n");
    }

    #[test]
    fn generated_clusters_have_dashes() {
        let named = json!({"name": "outbound|80||a.b", "type": "EDS"});
        let own = json!({"name": "PassthroughCluster", "type": "ORIGINAL_DST"});
        assert_eq!(cluster_row(&named)[..5], ["a.b", "80", "-", "outbound", "EDS"]);
        assert_eq!(cluster_row(&own)[..5], ["PassthroughCluster", "-", "-", "-", "ORIGINAL_DST"]);
    }

    #[test]
    fn the_owner_is_read_from_istios_metadata() {
        let config = "/apis/networking.istio.io/v1/namespaces/prod/virtual-service/reviews";
        let route = json!({"metadata": {"filter_metadata": {"istio": {"config": config}}}});
        assert_eq!(owner(&route), "reviews.prod");
        assert_eq!(owner(&json!({})), "");
    }

    #[test]
    fn listeners_at_unix_sockets_have_their_path_for_an_address() {
        let listener = json!({"address": {"pipe": {"path": "@a"}}, "filter_chains": [{}]});
        assert!(listeners(&[&listener]).lines().nth(1).unwrap().starts_with("unix://@a     0 "));
    }

    #[test]
    fn many_domains_are_cut() {
        assert_eq!(domains(&json!({"domains": ["a", "b", "c", "d"]})), "a, b + 2 more...");
        assert_eq!(domains(&json!({"domains": ["a", "b"]})), "a, b");
    }

    #[test]
    fn matches_are_said_in_istioctls_words() {
        let chain = json!({"filter_chain_match": {
            "server_names": ["a.com", "b.com"],
            "transport_protocol": "tls",
            "application_protocols": ["istio-peer-exchange", "istio"],
            "destination_port": 15006,
        }});
        assert_eq!(chain_match(&chain), "SNI: a.com,b.com; Trans: tls; App: TCP TLS; Addr: *:15006");
        assert_eq!(chain_match(&json!({})), "ALL");
    }
}
