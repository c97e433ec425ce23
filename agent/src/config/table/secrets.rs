//! The table of certificates.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use snapshot::Validity;

use super::{print, text};

/// `RESOURCE NAME TYPE STATUS VALID CERT SERIAL NUMBER NOT AFTER NOT BEFORE`, as things stand at `now`, and below a line
/// for each certificate that somebody has to see to.
pub(in crate::config) fn secrets(secrets: &[&Value], now: SystemTime) -> String {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
}
