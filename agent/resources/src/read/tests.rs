use super::*;
use crate::testing::{document, findings, valid};

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {}\n";

fn names(text: &str) -> Vec<String> {
    document(text).resources.iter().map(|resource| resource.id().to_string()).collect()
}

#[test]
fn many_documents_and_lists_are_read() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: b}, spec: {}}\n";
    let typed =
        "apiVersion: v1\nkind: ServiceList\nitems:\n- {metadata: {name: c, namespace: ns}, spec: {}}\n";
    let found = names(&format!("{SERVICE}---\n{list}---\n"));
    assert_eq!(found, ["Service default/web", "Service default/b"]);
    assert_eq!(names(typed), ["Service ns/c"]);
    assert_eq!(findings(typed), Vec::<String>::new());
    assert_eq!(findings("apiVersion: v1\nkind: List\nitems:\n"), Vec::<String>::new());
    let expected = "test.yaml:3:8: the `items` of a list have the wrong type (found `an object`; expected a list of resources)";
    assert_eq!(findings("apiVersion: v1\nkind: List\nitems: {}\n"), [expected]);
}

#[test]
fn json_is_read_with_positions() {
    let json = "{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"Service\",\n  \"metadata\": {\"name\": \"web\"},\n  \
                \"spec\": {\"ports\": [{\"port\": 0}]}\n}\n";
    assert!(
        findings(json)[0]
            .starts_with("test.yaml:5:31: Service default/web: spec.ports[0].port: is out of range")
    );
}

#[test]
fn the_default_namespace_is_the_callers() {
    let defaults = ReadDefaults { namespace: "prod".into() };
    let document = read("a.yaml", SERVICE, &defaults);
    assert_eq!(document.resources[0].id().to_string(), "Service prod/web");
    let namespace = valid("apiVersion: v1\nkind: Namespace\nmetadata: {name: prod}\n");
    assert_eq!(namespace.id().to_string(), "Namespace prod");
}

#[test]
fn a_broken_document_costs_only_itself() {
    let text =
        format!("{SERVICE}---\nkind: [\n---\n- a\n---\nmetadata: {{}}\n---\n{}", SERVICE.replace("web", "b"));
    let document = document(&text);
    assert_eq!(document.resources.len(), 2);
    assert!(document.has_nameless);
    let messages: Vec<_> = document.findings.iter().map(ToString::to_string).collect();
    assert_eq!(messages.len(), 3, "{messages:#?}");
    assert!(messages[0].starts_with("test.yaml:6:7: is not valid YAML"), "{messages:#?}");
    assert!(
        messages[1].starts_with("test.yaml:8:1: a document is no resource (found `a list`"),
        "{messages:#?}"
    );
    assert!(messages[2].starts_with("test.yaml:10:1: a document has no `kind`"), "{messages:#?}");
}

#[test]
fn an_unknown_version_is_one_message() {
    let text =
        "apiVersion: networking.istio.io/vlbeta1\nkind: Gateway\nmetadata: {name: gw}\nspec: {apps: 1}\n";
    let document = document(text);
    assert_eq!(document.findings.len(), 1);
    assert_eq!(
        document.findings[0].to_string(),
        "test.yaml:1:13: Gateway default/gw: apiVersion: is not a known version (found `networking.istio.io/vlbeta1`; \
         expected `networking.istio.io/v1` or `networking.istio.io/v1beta1` or `networking.istio.io/v1alpha3`; \
         did you mean `networking.istio.io/v1beta1`?)"
    );
    assert_eq!(document.refused.len(), 1);
}

#[test]
fn all_versions_of_a_group_are_one_schema() {
    for version in ["v1", "v1beta1", "v1alpha3"] {
        let text = format!(
            "apiVersion: networking.istio.io/{version}\nkind: ServiceEntry\nmetadata: {{name: a}}\nspec: {{hosts: [a.com]}}\n"
        );
        assert_eq!(names(&text), ["ServiceEntry default/a"]);
    }
}

#[test]
fn a_missing_version_is_a_warning() {
    let text = SERVICE.replace("apiVersion: v1\n", "");
    assert_eq!(names(&text), ["Service default/web"]);
    let expected = "test.yaml:1:1: Service default/web: apiVersion: is missing (expected `v1`; it is read as if it were there)";
    assert_eq!(findings(&text), [expected]);
    let misspelt = SERVICE.replace("apiVersion", "apiversion");
    let expected = "test.yaml:1:1: Service default/web: apiversion: is not a field of this object (did you mean `apiVersion`?)";
    assert_eq!(findings(&misspelt), [expected]);
}

#[test]
fn unknown_kinds_are_named_and_skipped() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n";
    assert_eq!(
        findings(deployment),
        [
            "test.yaml:1:1: Deployment a: the kind of apps is not known and is skipped (nothing to do if no proxy needs it)"
        ]
    );
    let misspelt = SERVICE.replace("kind: Service", "kind: Servise");
    let expected =
        "test.yaml:1:1: Servise web: the kind is not known and is skipped (did you mean `Service`?)";
    assert_eq!(findings(&misspelt), [expected]);
    assert_eq!(document(&misspelt).findings[0].severity, Severity::Error);
    let filter =
        "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: lua, namespace: ns}\n";
    let document = document(filter);
    assert_eq!(document.findings[0].rule, Rule::NotSupported);
    let wanted = "test.yaml:1:1: EnvoyFilter ns/lua: the kind of networking.istio.io is not supported by Postern and is skipped (there is no Envoy to patch: use the fields of Istio's kinds)";
    assert_eq!(document.findings[0].to_string(), wanted);
    let other_group = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: a}\n";
    assert_eq!(
        findings(other_group),
        [
            "test.yaml:1:1: Gateway a: the kind of gateway.networking.k8s.io is not supported by Postern and is skipped (write a Gateway of networking.istio.io)"
        ]
    );
}

#[test]
fn kinds_without_effect_say_so_where_it_matters() {
    let other = |kind: &str, spec: &str| {
        findings(&format!("kind: {kind}\nmetadata: {{name: a}}\napiVersion: {}\nspec: {spec}\n", {
            let kind = Kind::named(kind).unwrap();
            let group = if kind.group().is_empty() { String::new() } else { format!("{}/", kind.group()) };
            group + kind.versions()[0]
        }))
    };
    assert_eq!(other("Pod", "{x: 1}"), Vec::<String>::new());
    assert!(
        other("AuthorizationPolicy", "{}")[0]
            .contains("is not enforced yet: requests it would deny are let through (")
    );
    assert_eq!(other("Telemetry", "{}"), Vec::<String>::new());
}

#[test]
fn metadata_is_checked() {
    for (metadata, wrong) in [
        ("{}", "metadata.name: is missing"),
        ("{name: Web}", "metadata.name: is not a resource name (found `Web`"),
        ("{name: 5}", "metadata.name: has the wrong type (found `5`; expected text; put it in quotes)"),
        ("{name: a, namespace: a/b}", "metadata.namespace: is not a namespace name"),
        ("{name: a, labels: {version: 1}}", "metadata.labels[version]: has the wrong type (found `1`"),
        ("{name: a, labels: {'a b': c}}", "metadata.labels[a b]: is not a label name"),
        ("{name: a, labels: {b: 'c*'}}", "metadata.labels[b]: is not a label value"),
        ("{name: a, creationTimestamp: yesterday}", "metadata.creationTimestamp: is not a timestamp"),
        ("{name: a, lables: {}}", "did you mean `labels`?"),
        (
            "{name: a, ~: b}",
            "metadata.~: has no name: YAML reads nothing, `~` and `null` as null (put the name of",
        ),
    ] {
        let findings = findings(&SERVICE.replace("{name: web}", metadata));
        assert_eq!(findings.len(), 1, "{metadata}: {findings:#?}");
        assert!(findings[0].contains(wrong), "{metadata}: {findings:#?}");
    }
    assert!(findings("apiVersion: v1\nkind: Service\nspec: {}\n")[0].contains("metadata: is missing"));
}

#[test]
fn findings_are_bounded() {
    let bad: String = (0..3_000).map(|_| "a\n---\n").collect();
    let document = document(&bad);
    assert_eq!(document.findings.len(), Findings::MOST + 1);
    assert!(document.findings.last().unwrap().to_string().contains("2000 more findings are not shown"));
}

/// Each mistake is told with its place; that must not make a large file of mistakes take for ever.
#[test]
fn many_mistakes_take_no_longer_than_their_text() {
    let begin = std::time::Instant::now();
    let lists = |items: &str| items.repeat(60_000);
    for spec in [
        format!(
            "hosts: [a.com]\n  tls: [{{match: [{{sniHosts: [{}]}}], route: [{{destination: {{host: b}}}}]}}]",
            lists("b.com, ")
        ),
        format!("hosts: [{}]\n  http: []", lists("'a b', ")),
    ] {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\nspec:\n  {spec}\n"
        );
        let findings = document(&text).findings;
        assert!(findings.len() > 1, "{findings:#?}");
    }
    assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
}

#[test]
fn huge_texts_are_refused() {
    let text = " ".repeat(MAX_BYTES + 1);
    let document = document(&text);
    assert!(document.findings[0].to_string().starts_with("test.yaml: is too large"));
    assert!(document.has_nameless);
}

proptest::proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "(?s).{0,400}") {
        document(&text);
    }

    #[test]
    fn arbitrary_yaml_under_a_known_kind_never_panics(spec in "[a-z0-9:{}\\[\\]\",\n *&<!|>%@-]{0,300}") {
        for kind in Kind::ALL {
            document(&format!("kind: {kind}\nmetadata: {{name: a}}\nspec: {{{spec}}}\nendpoints: {spec}\ndata:\n  {spec}\n"));
        }
    }
}

#[test]
fn long_texts_come_to_the_same_in_any_number_of_pieces() {
    let service = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}]}}\n"
        )
    };
    let text = format!(
        "{}---\nbroken: é: twice\n---\n%YAML 1.2\n---\n{}--- # a comment\n{}---not a marker: 1\n---\nkind: Nothing\n---\r\n{}---",
        service("a"),
        service("b"),
        service("c-d"),
        service("e").replace('\n', "\r\n"),
    );
    let file: Arc<str> = "long.yaml".into();
    let of = |pieces: &[Piece<'_>]| format!("{:?}", read_in_pieces(&file, pieces, &ReadDefaults::default()));
    let whole = of(&[Piece::from(text.as_str())]);
    assert!(whole.contains("not valid YAML") && whole.contains("c-d"), "{whole}");
    for most in 1..=text.len() {
        let pieces = Piece::several(&text, most);
        assert!(pieces.len() <= most);
        assert_eq!(of(&pieces), whole, "in {} pieces", pieces.len());
    }
}

#[test]
fn what_can_be_no_name_is_not_repeated_with_every_mistake() {
    let (long, hosts) = ("x".repeat(1 << 20), ["'!'"; 500].join(", "));
    let texts = [
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {{name: {long}}}, spec: {{servers: [{{hosts: [{hosts}]}}]}}}}"
        ),
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {{name: a, namespace: {long}}}, spec: {{servers: [{{hosts: [{hosts}]}}]}}}}"
        ),
        format!("{{apiVersion: networking.istio.io/v1, kind: {long}, metadata: {{name: {long}}}}}"),
        format!("{{apiVersion: {long}/v1, kind: Gateway, metadata: {{name: a}}}}"),
        format!("{{apiVersion: networking.istio.io/{long}, kind: Gateway, metadata: {{name: a}}}}"),
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {{name: a}}, spec: {{{long}: 1}}}}"
        ),
        format!("{{apiVersion: v1, kind: Pod, metadata: {{name: a, labels: {{{long}: '{long}'}}}}}}"),
    ];
    for text in texts {
        let findings = read("a.yaml", &text, &ReadDefaults::default()).findings;
        assert!(!findings.is_empty(), "{}", &text[..80]);
        let longest = findings.iter().map(|finding| finding.to_string().len()).max();
        assert!(longest < Some(5_000), "{longest:?} bytes for {}", &text[..80]);
    }
}

#[test]
fn names_are_as_long_as_kubernetes_takes_them() {
    let long = "a".repeat(200);
    let of = |kind: &str, name: &str| {
        findings(&format!("{kind}\nmetadata: {{name: {name}}}\nspec: {{host: a.com}}\n"))
    };
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule";
    for good in [&long, "a.b-c.0", &"a".repeat(253)] {
        assert_eq!(of(rule, good), Vec::<String>::new(), "{good}");
    }
    for bad in ["a..b", "a.", ".a", "-a", "a-", "a_b", "A", &"a".repeat(254)] {
        assert!(of(rule, bad)[0].contains("metadata.name: is not a resource name"), "{bad}");
    }
    let told = of("apiVersion: v1\nkind: Service", &long);
    assert!(told[0].contains("metadata.name: is too long for the name of a Service (found "), "{told:?}");
}
