//! What every source promises, shown on real directories.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its directory should stop")]

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    time::Duration,
};

use resources::ReadDefaults;
use sources::{Directories, Source, Updates, channel};
use tempfile::TempDir;
use tokio::time::timeout;

/// Longest wait for an update: the interval of 2 s and room for a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n"
    )
}

fn directory(files: &[(&str, String)]) -> TempDir {
    let directory = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn watch(directories: &[&Path]) -> Updates {
    let (publisher, updates) = channel();
    let directories = directories.iter().map(|path| path.to_path_buf()).collect();
    let source = Directories::open(directories, ReadDefaults::default()).unwrap();
    tokio::spawn(source.run(publisher));
    updates
}

/// Services in force as `name:port`, then findings.
fn shown(updates: &Updates) -> (Vec<String>, Vec<String>) {
    let update = updates.borrow().clone().unwrap_or_default();
    let service = |s: &std::sync::Arc<resources::Object<resources::Service>>| {
        format!("{}:{}", s.meta.name(), s.spec.ports[0].port)
    };
    let services = update.set.services().iter().map(service).collect();
    (services, update.findings.iter().map(ToString::to_string).collect())
}

/// Waits until these services are in force.
async fn expect(updates: &mut Updates, services: &[&str]) -> Vec<String> {
    let wait = async {
        loop {
            updates.borrow_and_update();
            let (found, findings) = shown(updates);
            if found == services {
                return findings;
            }
            updates.changed().await.unwrap();
        }
    };
    let waited = timeout(PATIENCE, wait).await;
    waited.unwrap_or_else(|_| panic!("wanted {services:?}, have {:?}", shown(updates)))
}

/// Waits for an update whose findings hold this text.
async fn expect_finding(updates: &mut Updates, text: &str) {
    let wait = async {
        loop {
            updates.borrow_and_update();
            if shown(updates).1.iter().any(|finding| finding.contains(text)) {
                return;
            }
            updates.changed().await.unwrap();
        }
    };
    let waited = timeout(PATIENCE, wait).await;
    waited.unwrap_or_else(|_| panic!("wanted {text:?}, have {:?}", shown(updates)));
}

#[tokio::test]
async fn the_first_update_holds_all_directories_and_endings() {
    let json = "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"c\"},\"spec\":{\"ports\":[{\"port\":3}]}}";
    let one = directory(&[
        ("a.yaml", service("a", 1)),
        ("b.yml", service("b", 2)),
        ("c.json", json.to_owned()),
        ("notes.txt", service("x", 9)),
        (".hidden.yaml", service("y", 9)),
    ]);
    fs::create_dir(one.path().join("sub.yaml")).unwrap();
    fs::write(one.path().join("sub.yaml/z.yaml"), service("z", 9)).unwrap();
    let two = directory(&[("d.yaml", service("d", 4))]);
    let mut updates = watch(&[one.path(), two.path(), one.path()]);
    assert_eq!(expect(&mut updates, &["a:1", "b:2", "c:3", "d:4"]).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_empty_directory_gives_an_empty_update() {
    let empty = directory(&[]);
    let mut updates = watch(&[empty.path()]);
    timeout(PATIENCE, updates.wait_for(Option::is_some)).await.unwrap().unwrap();
    assert_eq!(shown(&updates), (vec![], vec![]));
}

#[tokio::test]
async fn what_is_added_later_comes_after_what_was_there() {
    let place = directory(&[("m.yaml", service("m", 1)), ("n.yaml", service("n", 2))]);
    let path = |name: &str| place.path().join(name);
    let mut updates = watch(&[place.path()]);
    expect(&mut updates, &["m:1", "n:2"]).await;
    fs::write(path("0.yaml"), service("c", 3)).unwrap();
    expect(&mut updates, &["m:1", "n:2", "c:3"]).await;
    fs::write(path("1.yaml"), service("d", 4)).unwrap();
    expect(&mut updates, &["m:1", "n:2", "c:3", "d:4"]).await;
    fs::write(path("n.yaml"), service("n", 5)).unwrap();
    expect(&mut updates, &["m:1", "n:5", "c:3", "d:4"]).await;
    fs::rename(path("m.yaml"), path("z.yaml")).unwrap();
    fs::write(path("0.yaml"), service("c", 6)).unwrap();
    expect(&mut updates, &["m:1", "n:5", "c:6", "d:4"]).await;
    // Whoever begins now knows nothing of it.
    expect(&mut watch(&[place.path()]), &["c:6", "d:4", "m:1", "n:5"]).await;
}

#[tokio::test]
async fn files_written_replaced_renamed_and_deleted_are_noticed() {
    let place = directory(&[("a.yaml", service("a", 1))]);
    let path = |name: &str| place.path().join(name);
    let mut updates = watch(&[place.path()]);
    expect(&mut updates, &["a:1"]).await;
    fs::write(path("a.yaml"), service("a", 2)).unwrap();
    expect(&mut updates, &["a:2"]).await;
    fs::write(path(".a.yaml.swp"), service("a", 3)).unwrap();
    fs::rename(path(".a.yaml.swp"), path("a.yaml")).unwrap();
    expect(&mut updates, &["a:3"]).await;
    fs::write(path("b.yaml"), service("b", 4)).unwrap();
    expect(&mut updates, &["a:3", "b:4"]).await;
    fs::rename(path("b.yaml"), path("c.yaml")).unwrap();
    expect(&mut updates, &["a:3", "b:4"]).await;
    fs::remove_file(path("a.yaml")).unwrap();
    expect(&mut updates, &["b:4"]).await;
}

#[tokio::test]
async fn a_change_of_the_same_length_and_time_is_noticed() {
    let place = directory(&[("a.yaml", service("a", 1))]);
    let file = place.path().join("a.yaml");
    let times = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
    let mut updates = watch(&[place.path()]);
    expect(&mut updates, &["a:1"]).await;
    fs::write(&file, service("a", 2)).unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_times(times).unwrap();
    expect(&mut updates, &["a:2"]).await;
}

#[tokio::test]
async fn a_configmap_is_noticed_when_its_link_is_swapped() {
    let mount = directory(&[]);
    let path = |name: &str| mount.path().join(name);
    let revision = |name: &str, port| {
        fs::create_dir(path(name)).unwrap();
        fs::write(path(name).join("a.yaml"), service("a", port)).unwrap();
        symlink(name, path("..data_tmp")).unwrap();
        fs::rename(path("..data_tmp"), path("..data")).unwrap();
    };
    revision("..2026_01", 1);
    symlink("..data/a.yaml", path("a.yaml")).unwrap();
    let mut updates = watch(&[mount.path()]);
    expect(&mut updates, &["a:1"]).await;
    revision("..2026_02", 2);
    fs::remove_dir_all(path("..2026_01")).unwrap();
    expect(&mut updates, &["a:2"]).await;
}

#[tokio::test]
async fn a_broken_file_keeps_its_last_valid_version() {
    let place = directory(&[("a.yaml", service("a", 1)), ("b.yaml", service("b", 2))]);
    let mut updates = watch(&[place.path()]);
    expect(&mut updates, &["a:1", "b:2"]).await;
    fs::write(place.path().join("a.yaml"), "kind: [\n").unwrap();
    expect_finding(&mut updates, "a.yaml:1:7: is not valid YAML").await;
    expect_finding(&mut updates, "Service default/a: the last valid version stays in force").await;
    assert_eq!(shown(&updates).0, ["a:1", "b:2"]);
    fs::write(place.path().join("a.yaml"), service("a", 3)).unwrap();
    assert_eq!(expect(&mut updates, &["a:3", "b:2"]).await, Vec::<String>::new());
}

#[tokio::test]
async fn files_that_cannot_be_read_keep_what_they_held() {
    let place = directory(&[("a.yaml", service("a", 1)), ("b.yaml", service("b", 2))]);
    let path = |name: &str| place.path().join(name);
    let mut updates = watch(&[place.path()]);
    expect(&mut updates, &["a:1", "b:2"]).await;
    fs::write(path("a.yaml"), b"a: \xff").unwrap();
    expect_finding(&mut updates, "a.yaml: cannot be read: byte 4 is not UTF-8 text (its 1 resources stay")
        .await;
    fs::remove_file(path("b.yaml")).unwrap();
    symlink("nowhere", path("b.yaml")).unwrap();
    expect_finding(&mut updates, "b.yaml: cannot be read: No such file").await;
    nix::unistd::mkfifo(&path("c.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    expect_finding(&mut updates, "c.yaml: cannot be read: it is no regular file").await;
    assert_eq!(shown(&updates).0, ["a:1", "b:2"]);
    fs::write(path("a.yaml"), service("a", 3)).unwrap();
    expect(&mut updates, &["a:3", "b:2"]).await;
}

#[tokio::test]
async fn a_directory_that_vanishes_keeps_its_resources_and_may_come_back() {
    let parent = directory(&[]);
    let (place, aside) = (parent.path().join("conf"), parent.path().join("aside"));
    fs::create_dir(&place).unwrap();
    fs::write(place.join("a.yaml"), service("a", 1)).unwrap();
    let mut updates = watch(&[&place]);
    expect(&mut updates, &["a:1"]).await;
    fs::rename(&place, &aside).unwrap();
    expect_finding(&mut updates, "conf: directory cannot be read: No such file").await;
    assert_eq!(shown(&updates).0, ["a:1"]);
    fs::create_dir(&place).unwrap();
    fs::write(place.join("b.yaml"), service("b", 2)).unwrap();
    expect(&mut updates, &["b:2"]).await;
    // The new directory is the one watched now.
    fs::write(aside.join("a.yaml"), service("a", 9)).unwrap();
    fs::write(place.join("b.yaml"), service("b", 3)).unwrap();
    assert_eq!(expect(&mut updates, &["b:3"]).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_file_that_is_being_written_keeps_what_it_held() {
    let both = format!("{}---\n{}", service("a", 1), service("b", 1));
    let place = directory(&[("ab.yaml", both)]);
    let mut updates = watch(&[place.path()]);
    expect(&mut updates, &["a:1", "b:1"]).await;
    let mut file = fs::File::create(place.path().join("ab.yaml")).unwrap();
    file.write_all(service("a", 2).as_bytes()).unwrap();
    // Another change makes sure that the directory was looked through meanwhile.
    fs::write(place.path().join("c.yaml"), service("c", 1)).unwrap();
    expect(&mut updates, &["a:1", "b:1", "c:1"]).await;
    file.write_all(format!("---\n{}", service("b", 2)).as_bytes()).unwrap();
    fs::write(place.path().join("c.yaml"), service("c", 2)).unwrap();
    expect(&mut updates, &["a:1", "b:1", "c:2"]).await;
    drop(file);
    expect(&mut updates, &["a:2", "b:2", "c:2"]).await;
}

#[tokio::test]
async fn a_file_that_is_kept_open_is_read_after_a_while() {
    let place = directory(&[("a.yaml", service("a", 1))]);
    let mut updates = watch(&[place.path()]);
    expect(&mut updates, &["a:1"]).await;
    let mut kept = fs::File::create(place.path().join("a.yaml")).unwrap();
    kept.write_all(service("a", 2).as_bytes()).unwrap();
    expect(&mut updates, &["a:2"]).await;
    drop(kept);
}

#[tokio::test]
async fn files_written_together_are_one_update() {
    let place = directory(&[]);
    let mut updates = watch(&[place.path()]);
    timeout(PATIENCE, updates.wait_for(Option::is_some)).await.unwrap().unwrap();
    for i in 0..50 {
        fs::write(place.path().join(format!("{i:02}.yaml")), service(&format!("s{i:02}"), 80)).unwrap();
    }
    timeout(PATIENCE, updates.changed()).await.unwrap().unwrap();
    assert_eq!(shown(&updates).0.len(), 50);
}

#[tokio::test]
async fn nothing_is_published_when_nothing_changed() {
    let place = directory(&[("a.yaml", service("a", 1)), ("bad.yaml", "kind: [".to_owned())]);
    symlink("nowhere", place.path().join("c.yaml")).unwrap();
    let mut updates = watch(&[place.path()]);
    timeout(PATIENCE, updates.wait_for(Option::is_some)).await.unwrap().unwrap();
    updates.borrow_and_update();
    // Longer than the interval at which directories are looked through.
    let silent = timeout(Duration::from_millis(2_500), updates.changed()).await;
    assert!(silent.is_err(), "{:?}", shown(&updates));
}

/// A Gateway that names these files.
fn gateway(certificate: &Path, key: &Path) -> String {
    let tls = format!(
        "{{mode: SIMPLE, serverCertificate: {}, privateKey: {}}}",
        certificate.display(),
        key.display()
    );
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  servers:\n  \
         - {{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: ['*'], tls: {tls}}}\n"
    )
}

/// Waits until a file named by a Gateway is known with these contents, or with a reason that holds this text.
async fn expect_file(updates: &mut Updates, file: &Path, wanted: Result<&str, &str>) {
    let path = file.to_str().unwrap();
    let as_wanted = |update: &Option<std::sync::Arc<sources::Update>>| {
        let Some(update) = update else { return false };
        match (update.certificates.get(path), wanted) {
            (Ok(bytes), Ok(text)) => bytes.expose() == text.as_bytes(),
            (Err(reason), Err(text)) => reason.contains(text),
            _ => false,
        }
    };
    let waited = timeout(PATIENCE, updates.wait_for(as_wanted)).await;
    waited.unwrap_or_else(|_| panic!("{path} never was {wanted:?}")).unwrap();
}

#[tokio::test]
async fn certificates_that_gateways_name_are_read_and_read_again() {
    let mount = directory(&[]);
    let path = |name: &str| mount.path().join(name);
    let revision = |name: &str, text: &str| {
        fs::create_dir(path(name)).unwrap();
        fs::write(path(name).join("tls.crt"), text).unwrap();
        symlink(name, path("..data_tmp")).unwrap();
        fs::rename(path("..data_tmp"), path("..data")).unwrap();
    };
    revision("..2026_01", "one");
    symlink("..data/tls.crt", path("tls.crt")).unwrap();
    let keys = directory(&[("plain.key", "key".to_owned())]);
    let key = keys.path().join("plain.key");
    let place = directory(&[("gw.yaml", gateway(&path("tls.crt"), &key))]);
    let (publisher, mut updates) = channel();
    let source = Directories::open(vec![place.path().to_owned()], ReadDefaults::default()).unwrap();
    tokio::spawn(source.with_certificates(resources::ResourceSet::gateway_certificate_paths).run(publisher));
    expect_file(&mut updates, &path("tls.crt"), Ok("one")).await;
    expect_file(&mut updates, &key, Ok("key")).await;
    revision("..2026_02", "two");
    expect_file(&mut updates, &path("tls.crt"), Ok("two")).await;
    fs::write(&key, "KEY").unwrap();
    expect_file(&mut updates, &key, Ok("KEY")).await;
    fs::remove_file(&key).unwrap();
    expect_file(&mut updates, &key, Err("No such file")).await;
    fs::write(place.path().join("gw.yaml"), gateway(&path("other.crt"), &key)).unwrap();
    expect_file(&mut updates, &path("other.crt"), Err("No such file")).await;
    expect_file(&mut updates, &path("tls.crt"), Err("not been read")).await;
}

#[tokio::test]
async fn certificates_are_left_alone_unless_asked_for() {
    let keys = directory(&[("a.pem", "key".to_owned())]);
    let file = keys.path().join("a.pem");
    let place = directory(&[("gw.yaml", gateway(&file, &file))]);
    let mut updates = watch(&[place.path()]);
    expect_file(&mut updates, &file, Err("not been read")).await;
}

#[tokio::test]
async fn the_source_ends_with_its_consumer() {
    let place = directory(&[]);
    let (publisher, updates) = channel();
    let source = Directories::open(vec![place.path().to_owned()], ReadDefaults::default()).unwrap();
    let running = tokio::spawn(source.run(publisher));
    drop(updates);
    timeout(PATIENCE, running).await.unwrap().unwrap();
}

#[test]
fn a_missing_directory_is_refused_at_the_start() {
    let parent = directory(&[("file", String::new())]);
    for (name, reason) in [("missing", "No such file or directory"), ("file", "Not a directory")] {
        let path = parent.path().join(name);
        let error = Directories::open(vec![path.clone()], ReadDefaults::default()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("invalid configuration directory `{}`: {reason}", path.display())),
            "{text}"
        );
    }
}

#[test]
fn an_unreadable_directory_is_refused_at_the_start() {
    let place = directory(&[]);
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o000)).unwrap();
    let opened = Directories::open(vec![place.path().to_owned()], ReadDefaults::default());
    let is_root = fs::read_dir(place.path()).is_ok();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o700)).unwrap();
    if is_root {
        return eprintln!("skipped: permissions do not bind root");
    }
    assert!(opened.unwrap_err().to_string().contains("Permission denied"));
}
