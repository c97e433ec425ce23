//! Certificates by the names that Gateways and rules have for them, and what is done with them.

mod before;
mod doubts;
mod load;
mod outdated;
mod pairs;
mod parameters;
mod pem;
mod source;
mod stored;
mod unusable;
mod upstream;

use std::collections::{BTreeSet, HashMap};

use base64::{Engine, engine::general_purpose::STANDARD};
use resources::{
    CertificateFiles, ClientTls, Finding, Problem, ResourceSet, Rule, ServerTls, Severity, TlsMode,
};
use snapshot::{
    Authority, Certificate, CertificateFacts, ClientCertificates, Credential, HostPattern, NameMatch,
    PeerRules, Snapshot, TlsContext, TlsContextId, TlsParameters, TrustBundle,
};

use crate::{
    draft::DraftBuilder,
    proxy::{Proxy, ProxyKind, WorkloadIdentity},
};
use before::Before;
use load::Loader;
pub(crate) use pairs::doubtful as doubtful_pairs;
pub(crate) use source::{AuthoritySource, CredentialSource};
pub(crate) use unusable::Unusable;
pub(crate) use upstream::UpstreamPort;

/// What translation needs for certificates beside the resources. It stays pure: the files have been read before, and
/// what was good the last time is handed in.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'c> {
    /// Contents of the files that Gateways name. `None` says that nobody can look: files and Secrets that are not
    /// among the resources are taken to be where they are needed.
    pub files: Option<&'c CertificateFiles>,
    /// The snapshot before: when a credential is missing or broken, what it had stays.
    pub last_good: Option<&'c Snapshot>,
    /// Seconds since 1970, to judge the dates of certificates by. `None` leaves them unjudged.
    pub now: Option<i64>,
    /// Tells whether a certificate and its key can serve, or why not.
    pub check_certificate: fn(&Certificate) -> Result<(), String>,
    /// Tells whether others can be verified with an authority, or why not.
    pub check_authority: fn(&TrustBundle) -> Result<(), String>,
}

impl Credentials<'_> {
    /// For a look at resources alone.
    pub const UNSEEN: Self = Self {
        files: None,
        last_good: None,
        now: None,
        check_certificate: |_| Ok(()),
        check_authority: |_| Ok(()),
    };
}

/// Paths of the files that a proxy needs for TLS.
pub fn certificate_paths(resources: &ResourceSet, proxy: &Proxy) -> BTreeSet<String> {
    let mut paths = match proxy.kind {
        ProxyKind::Router => resources.gateway_certificate_paths(),
        // Gateways are for others; a sidecar has no use for their keys.
        ProxyKind::Sidecar => resources.sidecar_certificate_paths(),
    };
    paths.extend(resources.client_certificate_paths());
    paths.extend(proxy.mesh.outbound_tls.iter().flat_map(ClientTls::paths).map(str::to_owned));
    paths.extend(proxy.identity.iter().flat_map(WorkloadIdentity::paths).map(str::to_owned));
    paths
}

/// Makes TLS contexts, each once.
pub(crate) struct Contexts<'c> {
    loader: Loader<'c>,
    before: Before<'c>,
    proxy: &'c Proxy,
    /// By the names of their credentials.
    made: HashMap<String, Vec<(TlsContext, TlsContextId)>>,
}

impl<'c> Contexts<'c> {
    pub(crate) fn new(
        resources: &'c ResourceSet,
        credentials: &'c Credentials<'c>,
        proxy: &'c Proxy,
    ) -> Self {
        Self {
            loader: Loader::new(resources, credentials, proxy),
            before: Before::of(credentials.last_good),
            proxy,
            made: HashMap::new(),
        }
    }

    /// When contexts come to be others by the time alone, in seconds since 1970.
    pub(crate) fn changes_at(&self) -> Option<i64> {
        self.loader.changes_at()
    }

    /// How a server terminated TLS before, by the name of its filter chain and its names; none stands for every name.
    pub(crate) fn before(&self, chain: &str, names: &[HostPattern]) -> Option<&'c TlsContext> {
        self.before.server(chain, names)
    }

    /// The context of a server that terminates TLS, and what is wrong with it. There is always one: without a
    /// certificate it refuses handshakes, so that the names of its server do not fall to another server. What cannot be
    /// used is what the server had `before`.
    pub(crate) fn of_server(
        &mut self,
        tls: &ServerTls,
        before: Option<&TlsContext>,
        draft: &mut DraftBuilder,
    ) -> (TlsContextId, Vec<Unusable>) {
        if tls.mode == TlsMode::IstioMutual {
            let (context, unusable) = self.of_mesh();
            return (self.add(context, draft), unusable);
        }
        let mut unusable = Vec::new();
        let mut credentials = self.credentials_of_server(tls, before, &mut unusable);
        let clients = self.clients(tls, before, &mut unusable);
        let parameters = self.parameters_of_server(tls, before, &mut unusable).unwrap_or_else(|| {
            credentials.iter_mut().for_each(|credential| credential.certificate = None);
            TlsParameters::default()
        });
        let name =
            credentials.iter().map(|credential| credential.name.as_str()).collect::<Vec<_>>().join(",");
        let alpn = ALPN.map(str::to_owned).to_vec();
        let context = TlsContext { name, credentials, missing: None, clients, alpn, parameters };
        (self.add(with_what_is_missing(context, &unusable), draft), unusable)
    }

    /// What clients will hold against the certificates of a server that can serve, and which are in a wrong place.
    pub(crate) fn doubts_about(&mut self, tls: &ServerTls, hosts: &[&str]) -> Vec<Unusable> {
        let sources = CredentialSource::of_server(tls);
        let mut told: Vec<_> =
            sources.iter().filter_map(|source| self.loader.stored().misplaced(*source)).collect();
        let asks_clients = matches!(tls.mode, TlsMode::Mutual | TlsMode::OptionalMutual);
        let authority = AuthoritySource::of_server(tls).filter(|_| asks_clients && !tls.insecure_skip_verify);
        told.extend(authority.and_then(|source| self.loader.stored().misplaced_authority(source)));
        told.extend(authority.into_iter().flat_map(|source| self.dates_of_authority(source)));
        let Some(now) = self.loader.now() else { return told };
        for source in sources {
            let (credential, _) = self.loader.credential(source);
            let Some(facts) = credential.certificate.as_ref().and_then(facts) else { continue };
            told.extend(doubts::doubts(&facts, (source.field(), &source.shown()), hosts, now));
        }
        told
    }

    /// What peers will hold against the dates of a certificate that is good otherwise.
    fn dates_of(&self, credential: &Credential, named: (&'static str, &str)) -> Option<Unusable> {
        doubts::dates(&facts(credential.certificate.as_ref()?)?, named, self.loader.now()?)
    }

    /// What the dates of authorities will keep from being believed.
    fn dates_of_authority(&mut self, source: AuthoritySource<'_>) -> Vec<Unusable> {
        let (authority, _) = self.loader.authority(source);
        let (Some(bundle), Some(now)) = (authority.bundle, self.loader.now()) else { return Vec::new() };
        doubts::dates_of_authorities(&bundle, (source.field(), &source.shown()), now)
    }

    /// The context of inbound connections from the mesh, if the workload has an identity.
    pub(crate) fn of_inbound(&mut self, draft: &mut DraftBuilder) -> (TlsContextId, Vec<Unusable>) {
        let (context, unusable) = self.of_mesh();
        (self.add(context, draft), unusable)
    }

    /// What is wrong with the certificate that a gateway was given to be known by in the mesh: it serves without.
    pub(crate) fn doubts_about_own(&mut self) -> Vec<Finding> {
        if self.proxy.identity.is_none() {
            return Vec::new();
        }
        let (_, unusable) = self.of_mesh();
        let finding = |wrong: Unusable| Finding {
            severity: Severity::Warning,
            rule: wrong.rule,
            place: None,
            resource: None,
            path: "the gateway's own certificate".to_owned(),
            problem: wrong.problem,
        };
        unusable.into_iter().map(finding).collect()
    }

    /// The workload's own certificate, shown to peers of the same trust domain and asked of them.
    fn of_mesh(&mut self) -> (TlsContext, Vec<Unusable>) {
        let alpn = ALPN.map(str::to_owned).to_vec();
        let name = TlsContext::WORKLOAD.to_owned();
        let Some(identity) = self.proxy.identity.as_ref() else {
            let context = TlsContext { name, alpn, ..TlsContext::default() };
            // Whoever looks at resources alone has no workload, and so no place where its identity could be.
            let missed =
                self.loader.stored().looks_at_files().then(no_identity).into_iter().collect::<Vec<_>>();
            return (with_what_is_missing(context, &missed), missed);
        };
        let (mut credential, wrong) = self.loader.credential(CredentialSource::Workload(identity));
        let (authority, wrong_authority) = self.loader.authority(AuthoritySource::Workload(identity));
        let domains = self.proxy.mesh.trust_domains();
        let names = domains.iter().map(|domain| NameMatch::Prefix(format!("spiffe://{domain}/"))).collect();
        let clients = ClientCertificates::Required(PeerRules { authority, names, ..PeerRules::default() });
        let dates = self.dates_of(&credential, ("mode", &CredentialSource::Workload(identity).shown()));
        let mut unusable: Vec<_> = wrong.into_iter().chain(wrong_authority).chain(dates).collect();
        unusable.extend(self.dates_of_authority(AuthoritySource::Workload(identity)));
        let parameters = self.mesh_parameters(&mut credential, &mut unusable);
        let credentials = vec![credential];
        let context = TlsContext { name, credentials, missing: None, clients, alpn, parameters };
        (with_what_is_missing(context, &unusable), unusable)
    }

    /// Versions and algorithms of the mesh's own TLS; when they leave nothing, nothing is shown.
    fn mesh_parameters(&self, credential: &mut Credential, unusable: &mut Vec<Unusable>) -> TlsParameters {
        parameters::of_mesh(&self.proxy.mesh.mesh_mtls, "meshMTLS").unwrap_or_else(|wrong| {
            credential.certificate = None;
            unusable.push(wrong);
            TlsParameters::default()
        })
    }

    fn clients(
        &mut self,
        tls: &ServerTls,
        before: Option<&TlsContext>,
        unusable: &mut Vec<Unusable>,
    ) -> ClientCertificates {
        let required = match tls.mode {
            TlsMode::Mutual | TlsMode::IstioMutual => true,
            TlsMode::OptionalMutual => false,
            TlsMode::Simple | TlsMode::Passthrough | TlsMode::AutoPassthrough => {
                return ClientCertificates::NotAsked;
            }
        };
        if tls.insecure_skip_verify {
            return ClientCertificates::Unverified { required };
        }
        let rules = PeerRules {
            authority: Authority::default(),
            names: tls.subject_alt_names.iter().cloned().map(NameMatch::Exact).collect(),
            public_keys: tls.verify_certificate_spki.iter().filter_map(|text| base64_digest(text)).collect(),
            certificates: tls.verify_certificate_hash.iter().filter_map(|text| hex_digest(text)).collect(),
        };
        let rules = match AuthoritySource::of_server(tls) {
            Some(source) => self.rules_of_server(source, rules, before, unusable),
            None => rules,
        };
        if required { ClientCertificates::Required(rules) } else { ClientCertificates::Optional(rules) }
    }

    /// Adds a context unless the same is there; where another has its name, its own gets a number.
    fn add(&mut self, mut context: TlsContext, draft: &mut DraftBuilder) -> TlsContextId {
        let alike = self.made.entry(context.name.clone()).or_default();
        if let Some((_, id)) = alike.iter().find(|(made, _)| *made == context) {
            return *id;
        }
        let made = context.clone();
        if !alike.is_empty() {
            context.name = format!("{}#{}", context.name, alike.len() + 1);
        }
        let id = draft.add_tls_context(context);
        alike.push((made, id));
        id
    }
}

fn facts(certificate: &Certificate) -> Option<CertificateFacts> {
    CertificateFacts::of(certificate.chain().first()?).ok()
}

/// The context, with what it lacks to serve at all.
fn with_what_is_missing(context: TlsContext, unusable: &[Unusable]) -> TlsContext {
    let has_certificate = context.credentials.iter().any(|credential| credential.certificate.is_some());
    let can_judge = context.clients.authority().is_none_or(|authority| authority.bundle.is_some());
    let told: Vec<String> =
        unusable.iter().map(|wrong| format!("{}: {}", wrong.field, wrong.problem)).collect();
    let missing = (!has_certificate || !can_judge).then(|| told.join("; "));
    TlsContext { missing: missing.filter(|told| !told.is_empty()), ..context }
}

fn no_identity() -> Unusable {
    let problem = Problem::new("needs the workload's own certificate, and there is none");
    let problem = problem.expected("`cert-chain.pem`, `key.pem` and `root-cert.pem`");
    let problem = problem.remedy("mount them, and name their directory with --identity-dir");
    Unusable { rule: Rule::UnknownReference, field: "mode", problem }.refusing()
}

/// Protocols that servers offer.
const ALPN: [&str; 2] = ["h2", "http/1.1"];

fn base64_digest(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

fn hex_digest(text: &str) -> Option<[u8; 32]> {
    let digits = text.replace(':', "");
    let byte = |at: usize| u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok();
    let bytes: Vec<u8> = (0..32).map_while(byte).collect();
    bytes.try_into().ok().filter(|_| digits.len() == 64)
}
