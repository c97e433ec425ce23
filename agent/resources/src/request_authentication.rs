//! `security.istio.io` RequestAuthentication: which tokens requests may carry, and how they are verified.

use std::time::Duration;

use crate::{
    Path, PolicyScope,
    decode::{Context, Fields, Interval, Shape},
    finding::{Problem, Rule},
    yaml::{self, Node, Value},
};

/// Spec of a RequestAuthentication.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RequestAuthentication {
    /// Whom the policy is for.
    pub scope: PolicyScope,
    /// Tokens that are accepted, any one of these.
    pub jwt_rules: Vec<JwtRule>,
}

impl Shape for RequestAuthentication {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self { scope: PolicyScope::read(fields), jwt_rules: fields.or_default("jwtRules") }
    }
}

/// A kind of JSON Web Token (`JWTRule`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct JwtRule {
    /// Who must have issued the token.
    pub issuer: Option<String>,
    /// For whom it must be meant, any one of these; empty means it is not asked.
    pub audiences: Vec<String>,
    /// Where the keys are fetched from, `http://` or `https://`.
    pub jwks_uri: Option<String>,
    /// The keys themselves, a JSON Web Key Set.
    pub jwks: Option<String>,
    /// Headers that may hold the token.
    pub from_headers: Vec<JwtHeader>,
    /// Query parameters that may hold the token.
    pub from_params: Vec<String>,
    /// Cookies that may hold the token.
    pub from_cookies: Vec<String>,
    /// Header that tells the application the verified payload, in base64.
    pub output_payload_to_header: Option<String>,
    /// Headers that tell the application single claims.
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// Whether the token is sent on.
    pub forward_original_token: bool,
    /// Longest time fetching the keys may take; 5 s when absent.
    pub timeout: Option<Duration>,
    /// Claims whose text is a list of words, besides `scope` and `permission`.
    pub space_delimited_claims: Vec<String>,
}

impl Shape for JwtRule {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let timeout: Option<Interval> = fields.optional("timeout");
        let old_uri: Option<String> = fields.optional("jwks_uri");
        Self {
            issuer: fields.optional("issuer"),
            audiences: fields.or_default("audiences"),
            jwks_uri: fields.optional("jwksUri").or(old_uri),
            jwks: fields.optional("jwks"),
            from_headers: fields.or_default("fromHeaders"),
            from_params: fields.or_default("fromParams"),
            from_cookies: fields.or_default("fromCookies"),
            output_payload_to_header: fields.optional("outputPayloadToHeader"),
            output_claim_to_headers: fields.or_default("outputClaimToHeaders"),
            forward_original_token: fields.or_default("forwardOriginalToken"),
            timeout: timeout.map(Interval::get),
            space_delimited_claims: fields.or_default("spaceDelimitedClaims"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let is_written = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        if !is_written(&self.issuer) && !is_written(&self.jwks_uri) {
            let problem = Problem::new("has neither `issuer` nor `jwksUri`");
            context.error(at, problem.expected("at least one, to know whose tokens are meant"));
        }
        if is_written(&self.jwks) && is_written(&self.jwks_uri) {
            context.error(at, Problem::new("has both `jwks` and `jwksUri`").expected("one of them"));
        }
        self.check_keys(at, context);
        let lists = [
            ("audiences", &self.audiences),
            ("fromParams", &self.from_params),
            ("fromCookies", &self.from_cookies),
            ("spaceDelimitedClaims", &self.space_delimited_claims),
        ];
        for (name, list) in lists {
            check_none_empty(list, &at.field(name), context);
        }
    }
}

impl JwtRule {
    fn check_keys(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if let Some(uri) = self.jwks_uri.as_ref().filter(|uri| !uri.is_empty() && !is_http_uri(uri)) {
            let problem = Problem::new("is not a URL to fetch keys from").found(uri);
            context
                .error(&at.field("jwksUri"), problem.expected("`https://host/path` or `http://host/path`"));
        }
        let at = at.field("jwks");
        let Some(jwks) = self.jwks.as_ref().filter(|jwks| !jwks.is_empty()) else { return };
        match key_set(jwks) {
            None => {
                let expected = "JSON such as `{\"keys\": [{\"kty\": \"RSA\", …}]}`";
                context.error(&at, Problem::new("is not a JSON Web Key Set").expected(expected));
            }
            Some(KeySet { holds_private_key: true }) => {
                let problem =
                    Problem::new("holds a private key, and tokens are verified with public ones only");
                context.warning(
                    Rule::Invalid,
                    &at,
                    problem.remedy("publish the public key and replace this one"),
                );
            }
            Some(_) => {}
        }
    }
}

/// Reports empty texts in a list that means to name something.
pub(crate) fn check_none_empty(list: &[String], at: &Path<'_>, context: &mut Context<'_>) {
    for (index, _) in list.iter().enumerate().filter(|(_, text)| text.is_empty()) {
        context.error(&at.index(index), Problem::new("is empty").expected("some text"));
    }
}

fn is_http_uri(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    host.is_some_and(|host| !host.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control()))
}

struct KeySet {
    holds_private_key: bool,
}

/// What matters of a key set (RFC 7517), or of a single key; `None` when the text is neither.
fn key_set(text: &str) -> Option<KeySet> {
    let mut documents = yaml::documents(text);
    let root = documents.next()?.ok()?;
    let is_key = |node: &Node<'_>| node.member("kty").is_some();
    let keys = match root.member("keys").map(|keys| &keys.value.value) {
        Some(Value::List(keys)) => keys.as_slice(),
        None if is_key(&root) => std::slice::from_ref(&root),
        _ => return None,
    };
    let is_secret = |key: &Node<'_>| {
        let kind = key.member("kty").and_then(|kty| kty.value.text());
        key.member("d").is_some() || kind == Some("oct")
    };
    let well_formed = documents.next().is_none() && keys.iter().all(is_key);
    well_formed.then(|| KeySet { holds_private_key: keys.iter().any(is_secret) })
}

/// A header that may hold a token (`JWTHeader`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct JwtHeader {
    /// Name of the header.
    pub name: String,
    /// What stands before the token, such as `Bearer `.
    pub prefix: Option<String>,
}

impl Shape for JwtHeader {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self { name: fields.required("name"), prefix: fields.optional("prefix") }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if self.name.is_empty() {
            context.error(&at.field("name"), Problem::new("is empty").expected("the name of a header"));
        }
    }
}

/// A claim that the application is told in a header (`ClaimToHeader`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClaimToHeader {
    /// Name of the header.
    pub header: String,
    /// Name of the claim; `.` leads into nested ones.
    pub claim: String,
}

impl Shape for ClaimToHeader {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self { header: fields.required("header"), claim: fields.required("claim") }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if self.header.is_empty() || !self.header.chars().all(is_letter) {
            let problem = Problem::new("is not a header name").found(&self.header);
            context.error(&at.field("header"), problem.expected("letters, digits, `-` and `_`"));
        }
        if self.claim.is_empty() {
            context.error(&at.field("claim"), Problem::new("is empty").expected("the name of a claim"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Resource, testing};

    fn text(spec: &str) -> String {
        format!(
            "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: jwt}}\nspec: {spec}\n"
        )
    }

    fn rule(fields: &str) -> String {
        text(&format!("{{jwtRules: [{{{fields}}}]}}"))
    }

    fn policy(text: &str) -> RequestAuthentication {
        let resource = testing::valid_without_effect(text);
        let Resource::RequestAuthentication(object) = resource else { panic!("no RequestAuthentication") };
        object.spec.clone()
    }

    #[test]
    fn every_field_of_a_rule_is_read() {
        let read = policy(&rule(
            "issuer: https://a.com, audiences: [web], jwksUri: 'https://a.com/keys', fromHeaders: [{name: x-jwt, \
             prefix: 'JWT '}], fromParams: [token], fromCookies: [session], outputPayloadToHeader: x-payload, \
             outputClaimToHeaders: [{header: x-sub, claim: sub}], forwardOriginalToken: true, timeout: 3s, \
             spaceDelimitedClaims: [roles]",
        ));
        let rule = &read.jwt_rules[0];
        assert_eq!(rule.issuer.as_deref(), Some("https://a.com"));
        assert_eq!(rule.jwks_uri.as_deref(), Some("https://a.com/keys"));
        assert_eq!(rule.from_headers[0].prefix.as_deref(), Some("JWT "));
        assert_eq!(rule.output_claim_to_headers[0].claim, "sub");
        assert_eq!(rule.timeout, Some(Duration::from_secs(3)));
        assert!(rule.forward_original_token);
        assert_eq!((rule.from_params.len(), rule.from_cookies.len(), rule.audiences.len()), (1, 1, 1));
    }

    #[test]
    fn keys_may_be_written_in_place() {
        for jwks in ["{\"keys\": [{\"kty\": \"RSA\", \"n\": \"x\"}]}", "{\"kty\": \"EC\"}", "{\"keys\": []}"]
        {
            policy(&rule(&format!("issuer: a, jwks: '{jwks}'")));
        }
        policy(&rule("issuer: a, jwks_uri: 'http://a.com'"));
        for spec in ["", "{}", "{selector: {matchLabels: {app: a}}}"] {
            assert!(policy(&text(spec)).jwt_rules.is_empty());
        }
    }

    #[test]
    fn mistakes_are_one_message_each() {
        let cases = [
            ("audiences: [a]", "spec.jwtRules[0]: has neither `issuer` nor `jwksUri`"),
            ("issuer: ''", "spec.jwtRules[0]: has neither `issuer` nor `jwksUri`"),
            ("issuer: a, audiences: ['']", "spec.jwtRules[0].audiences[0]: is empty"),
            ("jwksUri: 'ftp://a.com'", "jwksUri: is not a URL to fetch keys from (found `ftp://a.com`"),
            ("jwksUri: 'https:///keys'", "jwksUri: is not a URL to fetch keys from"),
            ("jwksUri: 'https://a.com', jwks: '{\"keys\": []}'", "has both `jwks` and `jwksUri`"),
            ("issuer: a, jwks: keys", "spec.jwtRules[0].jwks: is not a JSON Web Key Set"),
            ("issuer: a, jwks: '{\"keys\": [{}]}'", "jwks: is not a JSON Web Key Set"),
            ("issuer: a, fromHeaders: [{prefix: a}]", "fromHeaders[0].name: is missing"),
            ("issuer: a, fromHeaders: [{name: ''}]", "fromHeaders[0].name: is empty"),
            ("issuer: a, fromParams: ['']", "fromParams[0]: is empty"),
            ("issuer: a, fromCookies: ['']", "fromCookies[0]: is empty"),
            ("issuer: a, outputClaimToHeaders: [{header: x}]", "outputClaimToHeaders[0].claim: is missing"),
            ("issuer: a, outputClaimToHeaders: [{header: 'x y', claim: a}]", "header: is not a header name"),
            ("issuer: a, timeout: 0s", "timeout: is too short (found `0s`; expected at least `1ms`)"),
            ("issuer: a, jwksUrl: b", "did you mean `jwksUri`?"),
        ];
        testing::assert_complaints(&cases, rule);
    }

    #[test]
    fn private_keys_are_warned_about_and_not_shown() {
        for key in ["{\"kty\": \"RSA\", \"d\": \"hidden\"}", "{\"kty\": \"oct\", \"k\": \"hidden\"}"] {
            let text = rule(&format!("issuer: a, jwks: '{{\"keys\": [{key}]}}'"));
            let complaints = testing::complaints(&text);
            assert_eq!(complaints.len(), 1, "{complaints:#?}");
            assert!(complaints[0].contains("jwks: holds a private key") && !complaints[0].contains("hidden"));
            assert_eq!(testing::document(&text).resources.len(), 1);
        }
    }

    #[test]
    fn a_policy_says_in_one_way_whom_it_is_for() {
        let service = "targetRefs: [{group: '', kind: Service, name: web}]";
        assert_eq!(policy(&text(&format!("{{{service}}}"))).scope.target_refs[0].kind, "Service");
        let gateway = "targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: gw}";
        assert_eq!(policy(&text(&format!("{{{gateway}}}"))).scope.target_refs[0].name, "gw");
        let both = format!("{{selector: {{matchLabels: {{a: b}}}}, {service}}}");
        testing::assert_complaints(
            &[
                (&both, "spec: says in several ways whom it is for (found `selector, targetRefs`"),
                (
                    "{targetRefs: [{kind: Pod, name: a}]}",
                    "spec.targetRefs[0]: is nothing a policy can refer to (found `Pod`; expected \
                     `gateway.networking.k8s.io/Gateway`, `gateway.networking.k8s.io/GatewayClass`, `Service`, \
                     `networking.istio.io/ServiceEntry`)",
                ),
                ("{targetRefs: [{kind: Service}]}", "spec.targetRefs[0].name: is missing"),
                ("{targetRefs: [{kind: Service, name: ''}]}", "targetRefs[0].name: is not a resource name"),
                ("{targetRefs: [{kind: Service, name: a, namespace: b}]}", "namespace: names a namespace"),
            ],
            text,
        );
    }
}
