//! A gateway in front of one port of this machine.

use std::{
    fs,
    net::TcpStream,
    path::Path,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

use crate::ports::free_port;

/// A running gateway; ended with the value.
pub(crate) struct Gateway {
    directory: TempDir,
    process: Child,
    pub(crate) port: u16,
    /// The same over TLS.
    pub(crate) https: u16,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// Waits until somebody listens.
pub(crate) fn await_port(port: u16) {
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < Duration::from_secs(20), "nobody listens on {port}");
        thread::sleep(Duration::from_millis(20));
    }
}

impl Gateway {
    /// Sends everything to `upstream`, the port of a Service that is called `port_name`, which decides the protocol.
    pub(crate) fn start(upstream: u16, port_name: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let [port, https, admin, status] = [(); 4].map(|()| free_port());
        let config = directory.path().join("config");
        fs::create_dir(&config).unwrap();
        write_certificate(directory.path());
        let files = directory.path().display();
        let servers = format!(
            "- {{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: ['*']}}\n  \
             - {{port: {{number: {https}, name: https, protocol: HTTPS}}, hosts: ['*'], tls: {{mode: SIMPLE, \
             serverCertificate: {files}/crt.pem, privateKey: {files}/key.pem}}}}",
        );
        fs::write(config.join("all.yaml"), resources(&servers, upstream, port_name)).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_postern-agent"))
            .args(["proxy", "router", "--config-dir"])
            .arg(&config)
            .args(["--admin-port", &admin.to_string(), "--status-port", &status.to_string()])
            .stdout(fs::File::create(directory.path().join("out")).unwrap())
            .stderr(fs::File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        await_port(port);
        await_port(https);
        Self { directory, process, port, https }
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }
}

fn write_certificate(directory: &Path) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(directory.join("crt.pem"), cert.pem()).unwrap();
    fs::write(directory.join("key.pem"), signing_key.serialize_pem()).unwrap();
}

fn resources(servers: &str, upstream: u16, port_name: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  servers:\n  \
         {servers}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs}}\nspec: {{hosts: ['*'], \
         gateways: [gw], http: [{{route: [{{destination: {{host: app}}}}]}}]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: app}}\n\
         spec: {{ports: [{{port: 80, name: {port_name}}}]}}\n---\n\
         apiVersion: v1\nkind: Endpoints\nmetadata: {{name: app}}\n\
         subsets: [{{addresses: [{{ip: 127.0.0.1}}], ports: [{{port: {upstream}, name: {port_name}}}]}}]\n",
    )
}
