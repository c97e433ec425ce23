//! Translating again with what is known from before comes to what translating anew comes to.

use proptest::prelude::*;
use resources::{Files, ReadDefaults, ResourceSet};
use snapshot::{RouteList, Snapshot};
use translate::{Credentials, Proxy, ProxyKind, Translation, Translator, translate};

use crate::{
    robust::{Mangling, mangled, mangling},
    support,
};

/// One thing that happens to the resources; every document is a file of its own.
#[derive(Clone, Debug)]
enum Change {
    /// A document of any scenario comes, in place of the one in that file.
    Put(prop::sample::Index, String),
    Remove(prop::sample::Index),
    Edit(prop::sample::Index, Vec<(prop::sample::Index, Mangling)>),
}

fn documents() -> Vec<String> {
    let all = support::scenarios();
    let of = |text: &String| text.split("---\n").skip(1).map(str::to_owned).collect::<Vec<_>>();
    all.iter().flat_map(of).collect()
}

fn change() -> impl Strategy<Value = Change> {
    let put = (any::<prop::sample::Index>(), prop::sample::select(documents()));
    let edit = (any::<prop::sample::Index>(), prop::collection::vec(mangling(), 1..3));
    prop_oneof![
        2 => put.prop_map(|(at, document)| Change::Put(at, document)),
        1 => any::<prop::sample::Index>().prop_map(Change::Remove),
        3 => edit.prop_map(|(at, manglings)| Change::Edit(at, manglings)),
    ]
}

/// Files of one document each, which may be gone.
struct Documents {
    texts: Vec<String>,
    files: Files,
}

impl Documents {
    fn new(scenario: &str) -> Self {
        let texts: Vec<String> = scenario.split("---\n").map(str::to_owned).collect();
        let mut documents = Self { texts, files: Files::new(ReadDefaults::default()) };
        (0..documents.texts.len()).for_each(|at| documents.write(at));
        documents
    }

    fn take(&mut self, change: Change) {
        let number = self.texts.len();
        match change {
            Change::Put(at, document) => {
                let at = at.index(number + 1);
                self.texts.resize(number.max(at + 1), String::new());
                self.texts[at] = document;
                self.write(at);
            }
            Change::Remove(at) => self.files.remove_file(&name(at.index(number))),
            Change::Edit(at, manglings) => {
                let at = at.index(number);
                self.texts[at] = mangled(&self.texts[at], &manglings);
                self.write(at);
            }
        }
    }

    fn write(&mut self, at: usize) {
        self.files.replace_file(&name(at), &self.texts[at]);
    }

    fn set(&self) -> ResourceSet {
        self.files.resources().0
    }
}

fn name(at: usize) -> String {
    format!("{at:04}.yaml")
}

fn assert_alike(one: &Translation, other: &Translation) {
    let (a, b) = (&one.snapshot, &other.snapshot);
    assert_eq!(support::text(a), support::text(b));
    assert_eq!(a.listeners(), b.listeners());
    assert_eq!(a.route_configs(), b.route_configs());
    assert_eq!(a.clusters(), b.clusters());
    assert_eq!(a.tls_contexts(), b.tls_contexts());
    let findings = |translation: &Translation| -> Vec<String> {
        translation.findings.iter().map(ToString::to_string).collect()
    };
    assert_eq!(findings(one), findings(other));
}

proptest! {
    #[test]
    fn a_warm_translator_makes_what_a_new_one_makes(
        scenario in prop::sample::select(support::scenarios()),
        changes in prop::collection::vec(change(), 1..8),
    ) {
        let mut documents = Documents::new(&scenario);
        let own = support::proxy(scenario.lines().next().unwrap());
        let kinds = [ProxyKind::Sidecar, ProxyKind::Router];
        let mut warm = kinds.map(|kind| (Proxy { kind, ..own.clone() }, Translator::default()));
        for change in std::iter::once(None).chain(changes.into_iter().map(Some)) {
            change.into_iter().for_each(|change| documents.take(change));
            let set = documents.set();
            for (proxy, translator) in &mut warm {
                let certificates = support::certificate_files(&set, proxy);
                let credentials = support::credentials(&certificates);
                let anew = translate(&set, &credentials, proxy);
                assert_alike(&translator.translate(&set, &credentials, proxy), &anew);
            }
        }
    }
}

const SERVICES: [&str; 2] = ["a", "b"];

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n"
    )
}

fn rules(name: &str, prefix: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec: {{hosts: [{name}], http: \
         [{{match: [{{uri: {{prefix: {prefix}}}}}], route: [{{destination: {{host: {name}}}}}]}}]}}\n"
    )
}

fn two_services() -> Documents {
    let texts = SERVICES.map(|name| format!("{}---\n{}", service(name), rules(name, "/old"))).join("---\n");
    Documents::new(&texts)
}

fn lists(snapshot: &Snapshot) -> Vec<RouteList> {
    let hosts = snapshot.route_configs()[0].virtual_hosts();
    SERVICES.map(|name| hosts.iter().find(|host| host.name.starts_with(name)).unwrap().routes.clone()).into()
}

/// Of which services the routes are the very same after the change.
fn shared_after(change: impl FnOnce(&mut Documents)) -> Vec<bool> {
    let (mut documents, mut translator) = (two_services(), Translator::default());
    let proxy = Proxy::new(ProxyKind::Sidecar, "default");
    let mut lists_now = |documents: &Documents| {
        lists(&translator.translate(&documents.set(), &Credentials::UNSEEN, &proxy).snapshot)
    };
    let before = lists_now(&documents);
    change(&mut documents);
    let after = lists_now(&documents);
    before.iter().zip(&after).map(|(before, after)| before.is_shared_with(after)).collect()
}

#[test]
fn routes_are_made_again_only_where_something_changed() {
    assert_eq!(shared_after(|_| {}), [true, true]);
    let rules_of_a = |documents: &mut Documents| documents.files.replace_file(&name(1), &rules("a", "/new"));
    assert_eq!(shared_after(rules_of_a), [false, true]);
    let endpoints = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: b, labels: \
                     {kubernetes.io/service-name: b}}\naddressType: IPv4\nports: [{name: http, port: 80}]\nendpoints: \
                     [{addresses: [10.0.0.1]}]\n";
    assert_eq!(shared_after(|documents| documents.files.replace_file("e.yaml", endpoints)), [true, true]);
    // A new service moves the clusters of others.
    assert_eq!(
        shared_after(|documents| documents.files.replace_file("s.yaml", &service("aa"))),
        [false, false]
    );
}
