//! The admin interface, in the words that a real Envoy has for the same requests.

use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::Value;

use super::{gateway, shop};
use crate::support::{PATIENCE, Setup, agent, eventually, printed};

#[test]
fn the_admin_interface_answers_as_envoy_does() {
    let (directory, _) = shop();
    let running = gateway(directory.path()).start();
    running.await_ready();
    let ask = |method: &str, path: &str| {
        let output = agent(&["request", method, path, "--admin", &running.interfaces.admin]);
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let get = |path: &str| ask("GET", path).1;
    assert!(get("/help").starts_with("admin commands are:\n  /: "), "{}", get("/help"));
    let (found, said) = ask("GET", "/nonsense");
    assert!(!found && said.starts_with("invalid path. admin commands are:\n"), "{said}");
    for path in ["/quitquitquit", "/logging?level=debug", "/healthcheck/fail", "/drain_listeners"] {
        assert_eq!(ask("GET", path), (false, "Method GET not allowed, POST required.".to_owned()));
    }
    assert_eq!(get("/config_dump?resource=nonsense"), "nonsense not found in config dump");
    let dump =
        |query: &str| -> Value { serde_json::from_str(&get(&format!("/config_dump?{query}"))).unwrap() };
    let listeners = dump("resource=dynamic_listeners&mask=name");
    assert!(
        listeners["configs"][0]["name"].is_string() && listeners["configs"][0].get("active_state").is_none()
    );
    let names: Vec<&str> =
        listeners["configs"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    let first = names[0];
    assert_eq!(
        dump(&format!("resource=dynamic_listeners&name_regex={first}"))["configs"].as_array().unwrap().len(),
        1
    );
    // Another format is as good as none.
    assert_eq!(get("/listeners?format=xml"), get("/listeners"));
    assert_eq!(get("/clusters?filter=^nothing$"), "");
    assert_eq!(get("/stats?filter=postern_live$"), "postern_live: 1\n");
    let stats: Value = serde_json::from_str(&get("/stats?format=json&filter=^postern_live$")).unwrap();
    assert_eq!(stats["stats"][0]["value"], 1);
    assert!(get("/stats?format=prometheus").contains("\npostern_live 1\n"));
    let info: Value = serde_json::from_str(&get("/server_info")).unwrap();
    assert!(
        info["state"] == "LIVE" && info["uptime_current_epoch"].as_str().unwrap().ends_with('s'),
        "{info}"
    );
    let memory: Value = serde_json::from_str(&get("/memory")).unwrap();
    let of_envoy = [
        "allocated",
        "heap_size",
        "pageheap_free",
        "pageheap_unmapped",
        "total_physical_bytes",
        "total_thread_cache",
    ];
    assert_eq!(memory.as_object().unwrap().keys().collect::<Vec<_>>(), of_envoy);
    let certificates: Value = serde_json::from_str(&get("/certs")).unwrap();
    assert!(certificates["certificates"].is_array(), "{certificates}");
    assert_eq!(ask("POST", "/healthcheck/fail"), (true, "OK\n".to_owned()));
    assert_eq!(get("/ready"), "DRAINING\n");
    let probe = agent(&["request", "GET", "/healthz/ready", "--admin", &running.interfaces.status]);
    assert!(!probe.status.success(), "{probe:?}");
    assert_eq!(ask("POST", "/healthcheck/ok"), (true, "OK\n".to_owned()));
    assert_eq!(ask("POST", "/ready"), (true, "LIVE\n".to_owned()));
}

/// So many services that nothing of the kernel holds a dump of them.
fn many_services() -> String {
    (0..3000).fold(String::new(), |mut yaml, number| {
        _ = write!(
            yaml,
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: s{number}}}\nspec:\n  \
             hosts: [s{number}.example.com]\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  \
             resolution: STATIC\n  endpoints: [{{address: 127.0.0.1}}]\n"
        );
        yaml
    })
}

#[test]
fn dumps_that_nobody_reads_are_held_for_few() {
    const UNREAD: usize = 12;
    let running = Setup::sidecar().resources("many.yaml", &many_services()).start();
    running.await_ready();
    let asked = || {
        let mut stream = TcpStream::connect(&running.interfaces.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /config_dump HTTP/1.0\r\nhost: localhost\r\n\r\n").unwrap();
        stream
    };
    let read = || {
        let mut dump = String::new();
        asked().read_to_string(&mut dump).unwrap();
        assert!(dump.starts_with("HTTP/1.0 200 ") && dump.ends_with("\n}\n"));
        dump.len() >> 10
    };
    let length = read();
    assert!(length > 5 << 10, "{length} KiB");
    let mut unread: Vec<_> = (0..UNREAD).map(|_| asked()).collect();
    eventually("somebody is answered", || unread[0].peek(&mut [0; 1]).is_ok_and(|read| read == 1));
    // Who comes last has its turn, too.
    assert_eq!(read(), length);
    let is_whole = |stream: &mut TcpStream| stream.read_to_end(&mut Vec::new()).is_ok();
    let whole = unread.iter_mut().map(is_whole).filter(|whole| *whole).count();
    assert!(whole < UNREAD / 2, "{whole}");
}

#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let (directory, _) = shop();
    let (mut log, mut full) = std::io::pipe().unwrap();
    full.write_all(&vec![b'\n'; 64 << 10]).unwrap();
    let running = gateway(directory.path()).log(full).start();
    running.await_ready();
    printed(&["request", "POST", "/logging?level=debug", "--admin", &running.interfaces.admin]);
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        text
    });
    printed(&["request", "POST", "/quitquitquit", "--admin", &running.interfaces.admin]);
    running.await_end();
    let text = reading.join().unwrap();
    assert!(text.contains("published") && text.contains("stopped"), "{}", text.trim());
}
