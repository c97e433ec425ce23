//! The last valid version of what every file holds.

mod age;
mod heirs;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use self::age::News;

use crate::{
    ReadDefaults, Refused, Resource, ResourceId, ResourceSet, Timestamp,
    finding::{Finding, Place, Problem, Rule, Severity},
    read::{Document, read},
    set,
};

/// Files and the resources in force from each.
///
/// A file is read whole each time it changes. While anything in it is refused, everything it held and holds no more
/// stays in force: a file that is being written looks like one whose end was cut off. So it is with a file that is
/// suddenly empty.
#[derive(Clone, Debug, Default)]
pub struct Files {
    defaults: ReadDefaults,
    files: BTreeMap<Arc<str>, FileContents>,
    news: News,
    /// What was stood in for, of files that were read again or have gone in this look.
    stood_in: HashSet<ResourceId>,
    /// Whether all files have been looked at once.
    has_begun: bool,
    /// When something new came that did not come soon after something else, and what it counts as.
    stamped: Option<(Timestamp, Timestamp)>,
}

/// Seconds within which resources come at the same time: looks at files are 2 seconds apart, and volumes of the pods of
/// a node are written one after the other.
const ALIKE: i64 = 10;

#[derive(Clone, Debug, Default)]
struct FileContents {
    resources: Vec<Resource>,
    findings: Vec<Finding>,
    /// What is written there and was refused.
    refused: Vec<Refused>,
    /// Documents that have the name of another in the file, which was in force before them.
    left_out: Vec<Resource>,
    /// What stands in for some of that, where there was no valid version when all began. Later a new resource that is
    /// wrong changes nothing for those who do without it already.
    stand_ins: Vec<Resource>,
}

impl Files {
    /// No files yet.
    pub fn new(defaults: ReadDefaults) -> Self {
        Self { defaults, ..Self::default() }
    }

    /// Takes in the text of a new or changed file.
    pub fn replace_file(&mut self, name: &str, text: &str) {
        let Document { mut resources, refused, mut stand_ins, has_nameless, mut findings } =
            read(name, text, &self.defaults);
        let FileContents { resources: before, stand_ins: stood_in, left_out, .. } =
            self.take_out(name).unwrap_or_default();
        let left_out = heirs::take_out_others(&mut resources, &refused, &before, &left_out);
        age::inherit(&before, &mut resources);
        keep_unchanged(&before, &mut resources);
        let present: HashSet<&ResourceId> = resources.iter().map(Resource::id).collect();
        let is_emptied = text.trim().is_empty() && !(before.is_empty() && stood_in.is_empty());
        let is_doubtful = has_nameless || !refused.is_empty() || is_emptied;
        let stays = |resource: &Resource| is_doubtful && !present.contains(resource.id());
        let (kept, gone): (Vec<_>, Vec<_>) = before.iter().cloned().partition(stays);
        self.news.read(name, &before, (&resources, &gone));
        if is_emptied {
            findings.push(emptied(name));
        }
        findings.extend(kept.iter().map(|resource| still_in_force(name, resource)));
        resources.extend(kept);
        stand_ins.retain(|one| !self.has_begun || self.is_stood_in(one.id()));
        let stays = |one: &Resource| is_doubtful && stand_ins.iter().all(|new| new.id() != one.id());
        stand_ins.extend(stood_in.into_iter().filter(stays).collect::<Vec<_>>());
        stand_ins.retain(|one| resources.iter().all(|valid| valid.id() != one.id()));
        for other in &left_out {
            let in_force = resources.iter().find(|one| one.id() == other.id());
            findings.extend(in_force.map(|one| set::duplicate(other, one)));
        }
        let refused = refused.into_iter().map(|id| Refused::new(id, name, &findings)).collect();
        self.files.insert(name.into(), FileContents { resources, findings, refused, left_out, stand_ins });
    }

    /// Forgets a file and everything it held.
    pub fn remove_file(&mut self, name: &str) {
        if let Some(contents) = self.take_out(name) {
            self.news.read(name, &contents.resources, (&[], &contents.resources));
        }
    }

    fn take_out(&mut self, name: &str) -> Option<FileContents> {
        let contents = self.files.remove(name)?;
        self.stood_in.extend(contents.stand_ins.iter().map(|one| one.id().clone()));
        Some(contents)
    }

    /// Whether something stood in for a resource when this look began, in whatever file.
    fn is_stood_in(&self, id: &ResourceId) -> bool {
        let mut others = self.files.values().flat_map(|file| &file.stand_ins);
        self.stood_in.contains(id) || others.any(|one| one.id() == id)
    }

    /// Takes note that a file could not be read this time; what it held stays in force.
    pub fn mark_unreadable(&mut self, name: &str, reason: impl std::fmt::Display) {
        let contents = self.files.entry(name.into()).or_default();
        let problem = Problem::new(format!("cannot be read: {reason}"));
        let problem = match contents.resources.len() {
            0 => problem.expected("a readable file of UTF-8 text"),
            count => problem.remedy(format!("its {count} resources stay in force as last read")),
        };
        contents.findings = vec![Finding {
            severity: Severity::Error,
            rule: Rule::Unreadable,
            place: Some(Place::whole(name)),
            resource: None,
            path: String::new(),
            problem,
        }];
    }

    /// Ends a look at all files. What is new since the last counts as created `now`, or later, so that it is younger
    /// than everything that was there; with `None`, at the first, nothing does. What has moved to another file keeps its
    /// age. What comes within 10 seconds counts as created at the same time, so that several proxies agree about it
    /// whose looks fall between different files.
    pub fn date(&mut self, now: Option<Timestamp>) {
        self.has_begun = true;
        self.stood_in.clear();
        let news = std::mem::take(&mut self.news);
        if let Some(now) = now.filter(|_| !news.is_empty()) {
            let stamp = self.stamp(now);
            for (name, contents) in &mut self.files {
                news.date(name, &mut contents.resources, stamp);
            }
        }
    }

    /// What is new now counts as created then.
    fn stamp(&mut self, now: Timestamp) -> Timestamp {
        let is_alike = |since: Timestamp| (since.0..since.0.saturating_add(ALIKE)).contains(&now.0);
        if let Some((_, stamp)) = self.stamped.filter(|(since, _)| is_alike(*since)) {
            return stamp;
        }
        let all = self.files.values().flat_map(|file| &file.resources);
        let youngest = all.filter_map(|one| one.meta().age().0).max();
        let stamp = youngest.map_or(now, |youngest| now.max(Timestamp(youngest.0.saturating_add(1))));
        self.stamped = Some((now, stamp));
        stamp
    }

    /// The names of the files taken in, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(|name| &**name)
    }

    /// Everything in force, and every finding there is now, by file.
    pub fn resources(&self) -> (ResourceSet, Vec<Finding>) {
        let mut resources: Vec<Resource> =
            self.files.values().flat_map(|file| file.resources.iter().cloned()).collect();
        for one in self.files.values().flat_map(|file| &file.stand_ins) {
            if resources.iter().all(|other| other.id() != one.id()) {
                resources.push(one.clone());
            }
        }
        let (set, duplicates) = ResourceSet::new(resources);
        let set = set.without(self.files.values().flat_map(|file| file.refused.iter().cloned()).collect());
        let mut of_file: HashMap<&str, Vec<Finding>> = HashMap::new();
        for finding in duplicates {
            let file = finding.place.as_ref().and_then(|place| self.files.get_key_value(&place.file));
            of_file.entry(file.map_or("", |(name, _)| name)).or_default().push(finding);
        }
        let mut findings = Vec::new();
        for (name, file) in &self.files {
            findings.extend(file.findings.iter().cloned());
            findings.extend(of_file.remove(&**name).into_iter().flatten());
        }
        (set, findings)
    }
}

/// Puts the resources from before in the place of those that are just like them: what was made of them is found by
/// where they are in memory.
fn keep_unchanged(before: &[Resource], now: &mut [Resource]) {
    let before: HashMap<&ResourceId, &Resource> =
        before.iter().map(|resource| (resource.id(), resource)).collect();
    for resource in now {
        if let Some(same) = before.get(resource.id()).filter(|before| **before == &*resource) {
            *resource = Resource::clone(same);
        }
    }
}

fn emptied(name: &str) -> Finding {
    let problem = Problem::new("is now empty: what it held stays in force");
    Finding {
        severity: Severity::Warning,
        rule: Rule::LastValid,
        place: Some(Place::whole(name)),
        resource: None,
        path: String::new(),
        problem: problem.remedy("restore its contents, or remove the file to remove its resources"),
    }
}

fn still_in_force(name: &str, resource: &Resource) -> Finding {
    Finding {
        severity: Severity::Warning,
        rule: Rule::LastValid,
        place: Some(Place::whole(name)),
        resource: Some(resource.id().clone()),
        path: String::new(),
        problem: Problem::new("the last valid version stays in force").remedy("fix the errors of this file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, port: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n---\n"
        )
    }

    fn ports(files: &Files) -> Vec<String> {
        let (set, _) = files.resources();
        set.services().iter().map(|s| format!("{}:{}", s.meta.name(), s.spec.ports[0].port)).collect()
    }

    fn findings(files: &Files) -> Vec<String> {
        files.resources().1.iter().map(ToString::to_string).collect()
    }

    fn files(text: &str) -> Files {
        let mut files = Files::default();
        files.replace_file("a.yaml", text);
        files
    }

    #[test]
    fn a_file_that_is_being_written_loses_nothing() {
        let whole = service("a", "80") + &service("b", "81") + &service("c", "82");
        let mut files = files(&whole);
        for length in (0..=whole.len()).rev().chain(0..whole.len()) {
            let cut = &whole[..length];
            files.replace_file("a.yaml", cut);
            let refused = findings(&files);
            // A cut at the end of a resource cannot be told from its removal, nor one in its kind from another kind.
            if !refused.iter().any(|finding| finding.contains("stays in force")) {
                assert!(
                    cut.ends_with("---\n") || !refused.iter().any(|f| !f.contains("kind")),
                    "{length}: {refused:?}"
                );
                files.replace_file("a.yaml", &whole);
            }
            assert_eq!(ports(&files), ["a:80", "b:81", "c:82"], "{length}: {refused:?}");
        }
        files.remove_file("a.yaml");
        assert!(ports(&files).is_empty());
    }

    #[test]
    fn a_refused_resource_keeps_its_last_valid_version() {
        let mut files = files(&(service("a", "80") + &service("b", "81")));
        files.replace_file("a.yaml", &(service("a", "0") + &service("b", "82")));
        assert_eq!(ports(&files), ["a:80", "b:82"]);
        let findings = findings(&files);
        assert_eq!(findings.len(), 2);
        assert!(
            findings[0].starts_with("a.yaml:4:23: Service default/a: spec.ports[0].port: is out of range"),
            "{findings:?}"
        );
        assert_eq!(
            findings[1],
            "a.yaml: Service default/a: the last valid version stays in force (fix the errors of this file)"
        );
    }

    #[test]
    fn a_file_that_does_not_parse_keeps_all_it_held() {
        let mut files = files(&(service("a", "80") + &service("b", "81")));
        files.replace_file("a.yaml", &(service("a", "90") + "kind: [\n"));
        assert_eq!(ports(&files), ["a:90", "b:81"]);
        files.replace_file("a.yaml", &service("a", "91"));
        assert_eq!(ports(&files), ["a:91"]);
        assert_eq!(findings(&files), Vec::<String>::new());
    }

    #[test]
    fn a_kind_or_group_that_is_misspelt_removes_nothing() {
        let mut files = files(&gateway("a", ""));
        let typing_errors = [("Gateway", "Gatway"), ("networking.istio.io", "networking.istio.oi")];
        for (right, wrong) in typing_errors {
            files.replace_file("a.yaml", &gateway("a", "").replace(right, wrong));
            assert_eq!(gateways(&files), ["a@a.yaml"]);
            assert_eq!(findings(&files).len(), 2, "{:?}", findings(&files));
        }
        // Kinds of other programs leave what is written in their place.
        let route = "apiVersion: example.com/v1\nkind: Gateway\nmetadata: {name: a}\n";
        files.replace_file("a.yaml", route);
        assert!(gateways(&files).is_empty());
    }

    #[test]
    fn what_stays_the_same_stays_where_it_is() {
        let mut files = files(&(service("a", "80") + &service("b", "81") + &service("c", "82")));
        let before = files.resources().0;
        files.replace_file("a.yaml", &(service("a", "80") + &service("b", "91") + &service("c", "82")));
        let now = files.resources().0;
        let same = |at: usize| Arc::ptr_eq(&before.services()[at], &now.services()[at]);
        assert_eq!([0, 1, 2].map(same), [true, false, true]);
        // Moved by a line it is another: findings must name the right place.
        files.replace_file("a.yaml", &("\n".to_owned() + &service("a", "80")));
        assert_eq!(files.resources().0.services()[0].meta.place().to_string(), "a.yaml:2:1");
    }

    #[test]
    fn last_valid_versions_survive_several_bad_ones() {
        let mut files = files(&service("a", "80"));
        files.replace_file("a.yaml", &service("a", "0"));
        files.replace_file("a.yaml", &service("a", "-1"));
        assert_eq!(ports(&files), ["a:80"]);
    }

    #[test]
    fn a_removed_file_takes_its_resources_along() {
        let mut files = files(&service("a", "80"));
        files.remove_file("a.yaml");
        assert!(files.resources().0.is_empty());
    }

    #[test]
    fn an_unreadable_file_keeps_what_it_held() {
        let mut files = files(&service("a", "80"));
        files.mark_unreadable("a.yaml", "permission denied");
        assert_eq!(ports(&files), ["a:80"]);
        let expected =
            "a.yaml: cannot be read: permission denied (its 1 resources stay in force as last read)";
        assert_eq!(findings(&files), [expected]);
    }

    /// Gateways in the order in which they count.
    fn gateways(files: &Files) -> Vec<String> {
        let (set, _) = files.resources();
        set.gateways().iter().map(|one| format!("{}@{}", one.meta.name(), one.meta.place().file)).collect()
    }

    fn gateway(name: &str, created: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}{created}}}\n\
             spec: {{servers: [{{port: {{number: 80, name: a, protocol: HTTP}}, hosts: ['*']}}]}}\n---\n"
        )
    }

    #[test]
    fn what_comes_later_is_younger_however_it_is_called() {
        let mut files = files(&(gateway("m", "") + &gateway("n", "")));
        files.date(None);
        assert_eq!(gateways(&files), ["m@a.yaml", "n@a.yaml"]);
        files.replace_file("b.yaml", &(gateway("c", "") + &gateway("b", "")));
        files.date(Some(Timestamp(100)));
        files.replace_file("c.yaml", &gateway("a", ""));
        files.date(Some(Timestamp(110)));
        let in_order = ["m@a.yaml", "n@a.yaml", "b@b.yaml", "c@b.yaml", "a@c.yaml"];
        assert_eq!(gateways(&files), in_order);
        // Neither an edit nor a broken version of it nor a look without news makes anything younger.
        files.replace_file("b.yaml", &("# edited\n".to_owned() + &gateway("b", "") + "kind: [\n"));
        files.date(Some(Timestamp(900)));
        files.replace_file("a.yaml", &("\n".to_owned() + &gateway("m", "") + &gateway("n", "")));
        files.date(Some(Timestamp(901)));
        files.date(Some(Timestamp(902)));
        assert_eq!(gateways(&files), in_order);
        // Who moves to another file stays as old, in whatever order the two are read.
        files.replace_file("0.yaml", &gateway("n", ""));
        files.replace_file("a.yaml", &gateway("m", ""));
        files.remove_file("c.yaml");
        files.replace_file("z.yaml", &gateway("a", ""));
        files.date(Some(Timestamp(903)));
        assert_eq!(gateways(&files), ["m@a.yaml", "n@0.yaml", "b@b.yaml", "c@b.yaml", "a@z.yaml"]);
        // Who goes and comes again is new.
        files.remove_file("a.yaml");
        files.date(Some(Timestamp(904)));
        files.replace_file("a.yaml", &gateway("m", ""));
        files.date(Some(Timestamp(905)));
        assert_eq!(gateways(&files).last().unwrap(), "m@a.yaml");
    }

    #[test]
    fn what_comes_at_nearly_the_same_time_is_in_the_order_of_names_however_it_is_looked_at() {
        let later = ["c.yaml", "b.yaml"].map(|file| (file, gateway(&file[..1], "")));
        for looks in [[100, 109], [109, 109]] {
            let mut files = files(&gateway("m", ""));
            files.date(None);
            for ((file, text), look) in later.iter().zip(looks) {
                files.replace_file(file, text);
                files.date(Some(Timestamp(look)));
            }
            assert_eq!(gateways(&files), ["m@a.yaml", "b@b.yaml", "c@c.yaml"]);
            files.replace_file("d.yaml", &gateway("a", ""));
            files.date(Some(Timestamp(119)));
            assert_eq!(gateways(&files).last().unwrap(), "a@d.yaml");
        }
    }

    #[test]
    fn a_time_that_is_written_counts_and_what_comes_later_is_younger_than_it() {
        let mut files = files(&gateway("z", ", creationTimestamp: '2090-01-01T00:00:00Z'"));
        files.date(None);
        files.replace_file("b.yaml", &gateway("a", ""));
        files.date(Some(Timestamp(100)));
        assert_eq!(gateways(&files), ["z@a.yaml", "a@b.yaml"]);
        files.replace_file("c.yaml", &gateway("b", ", creationTimestamp: '2020-01-01T00:00:00Z'"));
        files.date(Some(Timestamp(101)));
        assert_eq!(gateways(&files), ["b@c.yaml", "z@a.yaml", "a@b.yaml"]);
    }

    #[test]
    fn a_second_document_of_a_name_does_not_take_the_place_of_what_was_there() {
        let mut files = Files::default();
        files.replace_file("b.yaml", &service("a", "80"));
        files.date(None);
        files.replace_file("a.yaml", &service("a", "81"));
        files.date(Some(Timestamp(100)));
        assert_eq!(ports(&files), ["a:80"]);
        let expected = "a.yaml:1:1: Service default/a: is written a second time and left out; b.yaml:1:1 is in force, \
                        for it was there first; after a restart this one is (remove or rename one of the two)";
        assert_eq!(findings(&files), [expected]);
        files.remove_file("b.yaml");
        files.date(Some(Timestamp(101)));
        assert_eq!(ports(&files), ["a:81"]);
    }

    #[test]
    fn a_document_in_force_stays_so_wherever_others_of_its_name_are_written() {
        let mut files = files(&service("a", "80"));
        files.date(None);
        let left_out = "a.yaml:1:1: Service default/a: is written a second time and left out; a.yaml:6:1 is in force, for \
                        it was there first; after a restart this one is (remove or rename one of the two)";
        // However often it is read, and though it is edited.
        for ports in [["81", "80"], ["81", "80"], ["81", "82"], ["83", "82"]] {
            files.replace_file("a.yaml", &(service("a", ports[0]) + &service("a", ports[1])));
            files.date(Some(Timestamp(100)));
            assert_eq!(self::ports(&files), [format!("a:{}", ports[1])]);
            assert_eq!(findings(&files), [left_out]);
        }
        // Nor does another take over where it cannot be read any more.
        for ports in [["83", "none"], ["83", "82"]] {
            files.replace_file("a.yaml", &(service("a", ports[0]) + &service("a", ports[1])));
            assert_eq!(self::ports(&files), ["a:82"], "{ports:?}: {:?}", findings(&files));
        }
        files.replace_file("a.yaml", &(service("a", "83") + &service("b", "84")));
        assert_eq!(ports(&files), ["a:83", "b:84"]);
        assert_eq!(findings(&files), Vec::<String>::new());
    }

    #[test]
    fn a_duplicate_that_is_mended_takes_over_when_the_winner_goes() {
        let mut files = files(&service("a", "80"));
        files.replace_file("b.yaml", &service("a", "81"));
        assert_eq!(ports(&files), ["a:80"]);
        files.remove_file("a.yaml");
        assert_eq!(ports(&files), ["a:81"]);
    }

    fn rule(name: &str, policy: &str) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}}}\n\
             spec: {{host: a, {policy}}}\n---\n"
        )
    }

    /// The names of DestinationRules in force, in brackets those that only stand in for one.
    fn rules(files: &Files) -> Vec<String> {
        let (set, _) = files.resources();
        let name = |rule: &Arc<crate::Object<crate::DestinationRule>>| match rule.spec.is_unreadable() {
            true => format!("({})", rule.meta.name()),
            false => rule.meta.name().to_owned(),
        };
        set.destination_rules().iter().map(name).collect()
    }

    #[test]
    fn a_rule_that_asks_for_tls_and_cannot_be_read_is_stood_in_for() {
        let bad = "loadBalancer: {simple: RANDUM}";
        let tls = "tls: {mode: SIMPLE}";
        for (policy, expected) in [
            ("trafficPolicy: {tls: {mode: SIMPEL}}".to_owned(), &["(r)"][..]),
            (format!("trafficPolicy: {{{bad}, {tls}}}"), &["(r)"]),
            (
                format!("trafficPolicy: {{{bad}, portLevelSettings: [{{port: {{number: 1}}, {tls}}}]}}"),
                &["(r)"],
            ),
            (format!("trafficPolicy: {{{bad}}}, subsets: [{{name: b, trafficPolicy: {{{tls}}}}}]"), &["(r)"]),
            (format!("trafficPolicy: {{{bad}}}"), &[]),
            (format!("trafficPolicy: {{{bad}, tls: {{mode: DISABLE}}}}"), &[]),
        ] {
            let files = files(&rule("r", &policy));
            assert_eq!(rules(&files), expected, "{policy}");
        }
        let files = files(&rule("r", &format!("trafficPolicy: {{{tls}}}")).replace("io/v1", "io/v7"));
        assert_eq!(rules(&files), ["(r)"]);
    }

    #[test]
    fn what_stands_in_stays_while_its_file_is_written_and_where_it_moves() {
        let wrong = rule("r", "trafficPolicy: {tls: {mode: SIMPEL}}");
        let mut files = files(&wrong);
        files.date(None);
        let cuts = (0..wrong.len()).map(|length| &wrong[..length]);
        for between in cuts.filter(|cut| !cut.ends_with("---")).chain([": ["]) {
            files.replace_file("a.yaml", between);
            files.date(Some(Timestamp(1)));
            let told = findings(&files);
            // A cut in the kind cannot be told from another kind.
            if !told.iter().any(|told| told.contains("kind")) {
                assert_eq!(rules(&files), ["(r)"], "{between:?}: {told:?}");
            }
            files = self::files(&wrong);
            files.date(None);
        }
        files.remove_file("a.yaml");
        files.replace_file("b.yaml", &wrong);
        files.date(Some(Timestamp(2)));
        assert_eq!(rules(&files), ["(r)"]);
        files.replace_file("a.yaml", &wrong);
        files.replace_file("b.yaml", &service("a", "80"));
        files.date(Some(Timestamp(3)));
        assert_eq!(rules(&files), ["(r)"]);
        files.remove_file("a.yaml");
        files.date(Some(Timestamp(4)));
        assert!(rules(&files).is_empty());
    }

    #[test]
    fn only_what_is_wrong_from_the_beginning_is_stood_in_for() {
        let wrong = rule("r", "trafficPolicy: {tls: {mode: SIMPEL}}");
        let mut files = files(&wrong);
        files.date(None);
        // As long as it is wrong, however often it is read.
        files.replace_file("a.yaml", &("# edited\n".to_owned() + &wrong));
        files.date(Some(Timestamp(1)));
        assert_eq!(rules(&files), ["(r)"]);
        // What comes later is new to those who do without it.
        files.replace_file("b.yaml", &wrong.replace("name: r", "name: s"));
        assert_eq!(rules(&files), ["(r)"]);
        // A valid version is the last valid one from then on, whatever file it is in.
        let right = wrong.replace("SIMPEL", "SIMPLE");
        files.replace_file("c.yaml", &right);
        assert_eq!(rules(&files), ["r"]);
        files.remove_file("c.yaml");
        assert_eq!(rules(&files), ["(r)"]);
        files.replace_file("a.yaml", &right);
        files.replace_file("a.yaml", &wrong);
        assert_eq!(rules(&files), ["r"]);
        files.remove_file("a.yaml");
        assert!(rules(&files).is_empty());
    }
}
