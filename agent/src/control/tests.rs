use std::net::UdpSocket;

use dataplane::{NameSettings, Settings};
use resources::{ReadDefaults, read};
use tokio::sync::watch;

use super::*;

/// A service whose endpoints have a name that takes long to be resolved.
const NAMED: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: named, namespace: shop}
spec:
  hosts: [named.example.com]
  resolution: DNS
  ports: [{number: 80, name: http, protocol: HTTP}]
";

fn update(yaml: &str) -> Option<Arc<Update>> {
    let (set, findings) = ResourceSet::new(read("shop.yaml", yaml, &ReadDefaults::default()).resources);
    assert!(findings.is_empty() && set.len() == 1, "{findings:?}");
    Some(Arc::new(Update { set, ..Update::default() }))
}

#[tokio::test]
async fn what_comes_while_a_change_is_published_waits_for_it() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let names = NameSettings { server: Some(silent.local_addr().unwrap()), ..NameSettings::default() };
    let plane = DataPlane::start(&Settings { names, ..Settings::default() }).unwrap();
    let status = Arc::new(Status::default());
    let proxy = Proxy::new(ProxyKind::Router, "shop");
    let control = Control::new(proxy, None, plane, Arc::clone(&status));
    let (publisher, updates) = watch::channel(None);
    let drain = DrainTime { minimum: Duration::ZERO, limit: Duration::ZERO };
    let running = tokio::spawn(control.run(updates, drain));
    publisher.send_replace(update(NAMED));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(status.published().is_none(), "the name server has not answered");
    status.drain();
    let published = async {
        while status.published().is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), published).await.expect("the change is lost");
    status.quit();
    running.await.unwrap().unwrap();
    assert_eq!(status.published().unwrap().version, 1);
}
