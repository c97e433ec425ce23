//! The dump as the tables that istioctl users know.

use std::{
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use snapshot::Validity;

/// `ADDRESSES PORT MATCH DESTINATION`, a row for each filter chain.
pub(super) fn listeners(listeners: &[&Value]) -> String {
    let mut rows = Vec::new();
    for listener in listeners {
        let socket = &listener["address"]["socket_address"];
        let (address, port) = (text(&socket["address"]), number(&socket["port_value"]));
        let chains = listener["filter_chains"].as_array().into_iter().flatten();
        for chain in chains.chain(listener.get("default_filter_chain")) {
            let row = [address.to_owned(), port.to_string(), chain_match(chain), chain_destination(chain)];
            rows.push((address.to_owned(), port, row));
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

fn address(address: &Value) -> String {
    let socket = &address["socket_address"];
    let (ip, port) = (text(&socket["address"]), number(&socket["port_value"]));
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// `RESOURCE NAME TYPE STATUS VALID CERT SERIAL NUMBER NOT AFTER NOT BEFORE`, as things stand at `now`, and below a line
/// for each certificate that somebody has to see to.
pub(super) fn secrets(secrets: &[&Value], now: SystemTime) -> String {
    let mut rows: Vec<_> = secrets.iter().map(|secret| secret_row(secret, now)).collect();
    rows.sort();
    let mut warnings: Vec<_> = secrets.iter().filter_map(|secret| secret_warning(secret, now)).collect();
    warnings.sort();
    let columns =
        ["RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"];
    warnings.into_iter().fold(print(columns, rows), |table, warning| table + &warning)
}

fn secret_warning(secret: &Value, now: SystemTime) -> Option<String> {
    let seconds = |time: SystemTime| i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok();
    let date = |name: &str| seconds(humantime::parse_rfc3339(secret["certificate"][name].as_str()?).ok()?);
    let validity = Validity::at(date("valid_from")?, date("expiration_time")?, seconds(now)?);
    Some(format!("warning: {} {}\n", text(&secret["name"]), validity.warning()?))
}

fn secret_row(secret: &Value, now: SystemTime) -> [String; 7] {
    let is_chain = secret["secret"].get("tls_certificate").is_some();
    let certificate = &secret["certificate"];
    let (from, until) = (text(&certificate["valid_from"]), text(&certificate["expiration_time"]));
    let time = |text| humantime::parse_rfc3339(text).ok();
    let is_valid = time(from).zip(time(until)).is_some_and(|(from, until)| from <= now && now <= until);
    [
        text(&secret["name"]),
        if is_chain { "Cert Chain" } else { "CA" },
        text(&secret["status"]),
        if is_valid { "true" } else { "false" },
        text(&certificate["serial_number"]),
        until,
        from,
    ]
    .map(str::to_owned)
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
    fn a_secret_is_valid_between_its_dates_only() {
        let secret = json!({
            "name": "kubernetes://a",
            "status": "ACTIVE",
            "secret": {"name": "kubernetes://a", "tls_certificate": {}},
            "certificate": {
                "serial_number": "0a",
                "valid_from": "2026-01-01T00:00:00Z",
                "expiration_time": "2026-02-01T00:00:00Z",
            },
        });
        let row = |now: &str| secret_row(&secret, humantime::parse_rfc3339(now).unwrap());
        let valid = row("2026-01-15T00:00:00Z");
        assert_eq!(valid[..5], ["kubernetes://a", "Cert Chain", "ACTIVE", "true", "0a"]);
        assert_eq!(valid[5..], ["2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z"]);
        assert_eq!(row("2026-03-01T00:00:00Z")[3], "false");
        let table = |now: &str| secrets(&[&secret], humantime::parse_rfc3339(now).unwrap());
        let warning = |now: &str| table(now).lines().nth(2).map(str::to_owned);
        assert_eq!(warning("2026-01-15T00:00:00Z"), None);
        let soon = warning("2026-01-30T00:00:00Z").unwrap();
        assert_eq!(soon, "warning: kubernetes://a expires in less than 3 days");
        assert_eq!(warning("2026-03-01T00:00:00Z").unwrap(), "warning: kubernetes://a has expired");
        let broken = json!({"name": "kubernetes://b-cacert", "status": "WARMING", "secret": {}});
        assert_eq!(secret_row(&broken, SystemTime::now())[1..4], ["CA", "WARMING", "false"]);
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
