//! nginx behind the gateway, and before it.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::{curl::curl, gateway::Gateway};
use crate::support::{free_port, skip};

/// nginx on two ports; ended with the value.
pub(super) struct Nginx {
    process: Child,
    directory: TempDir,
}

impl Nginx {
    /// Serves at the port `behind`, and sends what comes to the port `before` on to `gateway`. `None` when there is none.
    pub(super) fn start(gateway: &Gateway, [before, behind]: [u16; 2]) -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let path = directory.path();
        fs::write(path.join("file"), vec![b'f'; 300_000]).unwrap();
        fs::create_dir(path.join("stored")).unwrap();
        let values = [("<GATEWAY>", gateway.port), ("<BEFORE>", before), ("<BEHIND>", behind)];
        let settings = values
            .iter()
            .fold(SETTINGS.to_owned(), |settings, (name, port)| settings.replace(name, &port.to_string()));
        fs::write(path.join("nginx.conf"), settings.replace("<DIR>", &path.display().to_string())).unwrap();
        let mut command = Command::new("nginx");
        command.args(["-e", "stderr", "-p"]).arg(path).arg("-c").arg(path.join("nginx.conf"));
        let Ok(process) = command.stderr(Stdio::null()).spawn() else {
            skip("there is no nginx here");
            return None;
        };
        let nginx = Self { process, directory };
        for port in [before, behind] {
            gateway.await_port(port);
        }
        Some(nginx)
    }

    /// A body of 300 000 bytes, in a file.
    fn body(&self) -> PathBuf {
        self.directory.path().join("file")
    }

    /// What a client has stored here under a name.
    fn stored(&self, name: &str) -> Vec<u8> {
        fs::read(self.directory.path().join("stored").join(name)).unwrap()
    }

    /// A line for every request that has reached it at the port behind the gateway.
    pub(super) fn seen(&self) -> String {
        fs::read_to_string(self.directory.path().join("seen")).unwrap()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker ends with it only when it is told to, and not killed.
        let quit = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        if !quit.is_ok_and(|status| status.success()) {
            _ = self.process.kill();
        }
        _ = self.process.wait();
    }
}

#[test]
fn curl_in_every_version_and_nginx() {
    let [before, behind] = [(); 2].map(|()| free_port());
    let gateway = Gateway::start(behind, "http");
    let Some(nginx) = Nginx::start(&gateway, [before, behind]) else { return };
    for version in ["--http1.0", "--http1.1", "--http2", "--http2-prior-knowledge"] {
        if !passes_everything(&nginx, gateway.port, version) {
            return;
        }
    }
    let seen = nginx.seen();
    assert!(seen.lines().all(|line| line.ends_with(" HTTP/1.1")), "{seen}");
}

/// nginx asks in HTTP/1.0 on a connection for each request, unless it is told otherwise.
#[test]
fn nginx_before_the_gateway_in_its_default_and_on_kept_connections() {
    let [before, behind] = [(); 2].map(|()| free_port());
    let gateway = Gateway::start(behind, "http");
    let Some(nginx) = Nginx::start(&gateway, [before, behind]) else { return };
    if !passes_everything(&nginx, before, "--http1.1") {
        return;
    }
    gateway.access_line(&["\"GET /file HTTP/1.0\" 200"]);
    for _ in 0..3 {
        let url = format!("http://127.0.0.1:{before}/kept/file");
        assert_eq!(curl(&["-o", "/dev/null", "-w", SIZES, &url]).unwrap(), "200 300000");
    }
    gateway.access_line(&["\"GET /file HTTP/1.1\" 200"]);
}

/// Asks nginx for answers of every form, and stores bodies of both. `false` without curl.
fn passes_everything(nginx: &Nginx, port: u16, version: &str) -> bool {
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let sizes = ["-o", "/dev/null", "-w", SIZES, version];
    let file = nginx.body().display().to_string();
    let cases: [(&str, &[&str], &str); 10] = [
        ("/file", &[], "200 300000"),
        ("/file", &["-r", "7-9"], "206 3"),
        ("/file", &["-I"], "200 0"),
        ("/file", &["-H", "if-modified-since: Fri, 01 Jan 2100 00:00:00 GMT"], "304 0"),
        ("/chunked", &[], "200 300000"),
        ("/last", &[], "200 4"),
        ("/nothing", &[], "204 0"),
        ("/none", &[], "404 153"),
        ("/told", &["--data-binary", "hello"], "200 5"),
        ("/small", &["--data-binary", &format!("@{file}")], "413 183"),
    ];
    for (path, more, expected) in cases {
        // Both are answered without the body being read. curl up to 7.88 forgets an answer that is followed by RST_STREAM
        // with NO_ERROR, as RFC 9113 §8.1 has it.
        if ["/small", "/told"].contains(&path) && version == "--http2-prior-knowledge" {
            continue;
        }
        let Some(said) = curl(&[&sizes[..], more, &[&url(path)]].concat()) else { return false };
        assert_eq!(said, expected, "{version} {path} {more:?}");
    }
    let stores: [(&str, &[&str]); 3] = [
        ("length", &[]),
        ("asked-first", &["-H", "expect: 100-continue"]),
        ("chunks", &["-H", "transfer-encoding: chunked"]),
    ];
    for (form, more) in stores {
        // HTTP/1.0 has no chunks.
        if form == "chunks" && version == "--http1.0" {
            continue;
        }
        let name = format!("{form}{version}");
        let url = url(&format!("/stored/{name}"));
        let put = [&sizes[..], more, &["-T", &file, &url]].concat();
        assert_eq!(curl(&put).unwrap(), "201 0", "{version} {more:?}");
        assert!(nginx.stored(&name) == fs::read(&file).unwrap(), "{version} {more:?}");
    }
    true
}

const SIZES: &str = "%{http_code} %{size_download}";

/// `/chunked` comes in chunks for who speaks HTTP/1.1; `/last` closes its connection; `/told` answers without looking at
/// the body; `/small` takes no large bodies.
const SETTINGS: &str = "
daemon off;
user root;
worker_processes 1;
pid <DIR>/nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path <DIR>/body;
  proxy_temp_path <DIR>/proxy;
  fastcgi_temp_path <DIR>/fastcgi;
  uwsgi_temp_path <DIR>/uwsgi;
  scgi_temp_path <DIR>/scgi;
  log_format seen '$request';
  upstream gateway { server 127.0.0.1:<GATEWAY>; keepalive 1; }
  server {
    listen 127.0.0.1:<BEFORE>;
    location / { proxy_pass http://127.0.0.1:<GATEWAY>; }
    location /kept/ {
      proxy_pass http://gateway/;
      proxy_http_version 1.1;
      proxy_set_header Connection '';
    }
  }
  server {
    listen 127.0.0.1:<BEHIND>;
    root <DIR>;
    access_log <DIR>/seen seen;
    if_modified_since before;
    location = /chunked {
      alias <DIR>/file;
      default_type text/plain;
      sub_filter_types text/plain;
      sub_filter none-such x;
    }
    location = /last { keepalive_timeout 0; return 200 last; }
    location = /nothing { return 204; }
    location = /told { return 200 hello; }
    location /attempt/ { return 200 hello; }
    location = /small { client_max_body_size 1k; proxy_pass http://127.0.0.1:1; }
    location /stored/ { dav_methods PUT; }
  }
}
";
