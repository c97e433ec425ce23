//! How proxies of the mesh introduce themselves to each other: `x-envoy-peer-metadata`, a protobuf `Struct` in base64.

mod protobuf;

use std::{collections::BTreeMap, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use snapshot::Workload;

use self::protobuf::{Reader, Value, bytes, string};
use super::head::FieldSink;

/// Tells who has sent a message.
pub(crate) const PEER_METADATA: &str = "x-envoy-peer-metadata";
/// Tells the sender's name, and asks for the receiver's metadata in the answer.
pub(crate) const PEER_METADATA_ID: &str = "x-envoy-peer-metadata-id";

/// What this proxy says of its workload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerMetadata {
    /// The name of the proxy (Envoy's node id).
    id: String,
    /// The encoded `Struct`.
    value: String,
}

impl PeerMetadata {
    /// The metadata of a workload, as Istio's proxies write it. `id` is `sidecar~<address>~<pod>.<namespace>~<domain>`.
    pub fn new(workload: &Workload, id: impl Into<String>) -> Self {
        let labels = [
            ("app", &workload.app),
            (CANONICAL_NAME, &workload.canonical_service),
            (CANONICAL_REVISION, &workload.canonical_revision),
            ("version", &workload.version),
        ];
        let mut inner = Vec::new();
        for (name, value) in labels.into_iter().filter(|(_, value)| !value.is_empty()) {
            protobuf::field(&mut inner, name, &string(value));
        }
        let fields = [
            ("CLUSTER_ID", string(&workload.cluster)),
            ("LABELS", bytes(protobuf::STRUCT_VALUE, &inner)),
            ("NAMESPACE", string(&workload.namespace)),
            ("WORKLOAD_NAME", string(&workload.name)),
        ];
        let mut whole = Vec::new();
        for (name, value) in fields {
            protobuf::field(&mut whole, name, &value);
        }
        Self { id: id.into(), value: STANDARD.encode(whole) }
    }

    /// Writes both fields into a head.
    pub(super) fn write(&self, sink: &mut impl FieldSink) {
        sink.field(PEER_METADATA_ID, self.id.as_bytes());
        sink.field(PEER_METADATA, self.value.as_bytes());
    }

    /// Who a peer says it is, or `None` when that cannot be understood.
    pub(crate) fn read(value: &[u8]) -> Option<Workload> {
        let decoded = STANDARD.decode(Some(value).filter(|value| value.len() <= MAX_LENGTH)?).ok()?;
        let (mut name, mut namespace, mut cluster) = ("", "", "");
        let mut labels = BTreeMap::new();
        for field in Reader::fields(&decoded) {
            match field? {
                ("WORKLOAD_NAME", Value::String(text)) => name = text,
                ("NAMESPACE", Value::String(text)) => namespace = text,
                ("CLUSTER_ID", Value::String(text)) => cluster = text,
                ("LABELS", Value::Struct(fields)) => {
                    for label in fields {
                        if let (name, Value::String(text)) = label?
                            && LABELS.contains(&name)
                        {
                            labels.insert(name.to_owned(), text.to_owned());
                        }
                    }
                }
                _ => {}
            }
        }
        let workload = Workload { cluster, ..Workload::of_labels(name, namespace, &labels) };
        let all = [name, namespace, cluster, workload.app, workload.version, workload.canonical_service];
        let fits = |text: &&str| text.len() <= MAX_NAME && !text.contains(char::is_control);
        all.iter()
            .all(fits)
            .then(|| workload.to_owned())
            .filter(|workload| fits(&&*workload.canonical_revision))
    }
}

/// What is longer is not read: Istio's proxies write some hundred bytes.
const MAX_LENGTH: usize = 16 * 1024;
/// The longest name that Kubernetes allows.
const MAX_NAME: usize = 253;

const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";
/// Labels that names follow from.
const LABELS: [&str; 6] = [
    "app",
    "version",
    CANONICAL_NAME,
    CANONICAL_REVISION,
    "app.kubernetes.io/name",
    "app.kubernetes.io/version",
];

/// Both fields, as lines of an HTTP/1 head.
impl fmt::Display for PeerMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PEER_METADATA_ID}: {}\r\n{PEER_METADATA}: {}\r\n", self.id, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> Workload {
        let [name, namespace, app, version] = ["web-v1", "prod", "web", "v1"].map(str::to_owned);
        let (canonical_service, canonical_revision) = (app.clone(), "r2".to_owned());
        let cluster = "Kubernetes".to_owned();
        Workload { name, namespace, app, version, canonical_service, canonical_revision, cluster }
    }

    #[test]
    fn what_is_written_is_read() {
        let written = PeerMetadata::new(&workload(), "id");
        assert_eq!(PeerMetadata::read(written.value.as_bytes()), Some(workload()));
        let nameless = Workload { app: String::new(), version: String::new(), ..workload() };
        let written = PeerMetadata::new(&nameless, "id");
        assert_eq!(PeerMetadata::read(written.value.as_bytes()), Some(nameless));
    }

    /// Made by the protobuf runtime of Python from what an Istio proxy says of itself.
    const BY_PROTOBUF: &str = "\
        Ch4KDkFQUF9DT05UQUlORVJTEgwyCgoDGgFhCgMaAWIKGQoKQ0xVU1RFUl9JRBILGgljbHVzdGVyLTEKqAEKBkxBQkVMUxKd\
        ASqaAQoQCgNhcHASCRoHcmV2aWV3cwoaChFwb2QtdGVtcGxhdGUtaGFzaBIFGgM2ZDQKLAofc2VydmljZS5pc3Rpby5pby9j\
        YW5vbmljYWwtbmFtZRIJGgdyZXZpZXdzCisKI3NlcnZpY2UuaXN0aW8uaW8vY2Fub25pY2FsLXJldmlzaW9uEgQaAnYyCg8K\
        B3ZlcnNpb24SBBoCdjIKFgoJTkFNRVNQQUNFEgkaB2RlZmF1bHQKHAoETkFNRRIUGhJyZXZpZXdzLXYyLTZkNC1hYmMKCgoE\
        Tk9ORRICCAAKTgoFT1dORVISRRpDa3ViZXJuZXRlczovL2FwaXMvYXBwcy92MS9uYW1lc3BhY2VzL2RlZmF1bHQvZGVwbG95\
        bWVudHMvcmV2aWV3cy12MgoRCgRQT1JUEgkRAAAAAAC8wUAKCwoFUkVBRFkSAiABCh0KDVdPUktMT0FEX05BTUUSDBoKcmV2\
        aWV3cy12Mg==";

    #[test]
    fn what_other_proxies_write_is_read() {
        let read = PeerMetadata::read(BY_PROTOBUF.as_bytes()).unwrap();
        assert_eq!((read.name.as_str(), read.namespace.as_str()), ("reviews-v2", "default"));
        assert_eq!((read.canonical_service.as_str(), read.canonical_revision.as_str()), ("reviews", "v2"));
        assert_eq!((read.app.as_str(), read.cluster.as_str()), ("reviews", "cluster-1"));
    }

    #[test]
    fn what_makes_no_sense_is_nothing() {
        let encoded = |bytes: &[u8]| STANDARD.encode(bytes);
        let of = |value: &str| PeerMetadata::read(value.as_bytes());
        let whole = STANDARD.decode(PeerMetadata::new(&workload(), "id").value).unwrap();
        for length in 1..whole.len() {
            // Cut between two fields it is whole again.
            _ = of(&encoded(&whole[..length]));
        }
        assert_eq!(of("%%%"), None);
        assert_eq!(of(&encoded(&whole[..whole.len() - 1])), None);
        assert_eq!(of(&encoded(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])), None);
        let long = Workload { name: "a".repeat(MAX_NAME + 1), ..workload() };
        assert_eq!(of(&PeerMetadata::new(&long, "id").value), None);
        let forged = Workload { name: "a\nb".to_owned(), ..workload() };
        assert_eq!(of(&PeerMetadata::new(&forged, "id").value), None);
        assert_eq!(of(&"A".repeat(2 * MAX_LENGTH)), None);
    }
}
