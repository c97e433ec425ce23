//! Probes of gRPC's health service (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).

use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use tokio::net::TcpStream;

/// Asks how a service is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Grpc {
    pub(super) port: u16,
    /// Empty is the server as a whole.
    pub(super) service: String,
}

/// Bytes of an answer; one is four bytes long.
const MAX_ANSWER: usize = 1 << 10;

impl Grpc {
    /// # Errors
    /// It does not serve, or does not say so: why.
    pub(super) async fn ask(&self, stream: TcpStream) -> Result<(), String> {
        let (sender, connection) = h2::client::handshake(stream).await.map_err(|error| said(&error))?;
        let driving = tokio::spawn(connection);
        let asked = self.ask_over(sender).await;
        driving.abort();
        asked
    }

    async fn ask_over(&self, sender: h2::client::SendRequest<Bytes>) -> Result<(), String> {
        let mut sender = sender.ready().await.map_err(|error| said(&error))?;
        let request = Request::post(format!("http://localhost:{}/grpc.health.v1.Health/Check", self.port))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "kube-probe")
            .body(())
            .expect("a request of constants and a number");
        let (answer, mut body) = sender.send_request(request, false).map_err(|error| said(&error))?;
        body.send_data(self.message(), true).map_err(|error| said(&error))?;
        let answer = answer.await.map_err(|error| said(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(format!(
                "the application's gRPC server answered with HTTP status {}",
                answer.status()
            ));
        }
        judge(answer).await
    }

    /// `HealthCheckRequest { service = 1 }`, uncompressed.
    fn message(&self) -> Bytes {
        let mut field = BytesMut::new();
        if !self.service.is_empty() {
            field.put_u8(0x0a);
            let mut length = self.service.len();
            while length >= 0x80 {
                field.put_u8(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
                length >>= 7;
            }
            field.put_u8(u8::try_from(length).unwrap_or_default());
            field.put_slice(self.service.as_bytes());
        }
        let mut message = BytesMut::with_capacity(5 + field.len());
        message.put_u8(0);
        message.put_u32(u32::try_from(field.len()).unwrap_or(u32::MAX));
        message.put(field);
        message.freeze()
    }
}

async fn judge(answer: Response<h2::RecvStream>) -> Result<(), String> {
    let (head, mut body) = answer.into_parts();
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| said(&error))?;
        _ = body.flow_control().release_capacity(data.len());
        message.extend_from_slice(&data);
        if message.len() > MAX_ANSWER {
            return Err("the application's health service says more than it should".to_owned());
        }
    }
    let trailers = body.trailers().await.map_err(|error| said(&error))?.unwrap_or_default();
    let status = trailers.get("grpc-status").or(head.headers.get("grpc-status"));
    match status.map(|status| status.as_bytes()) {
        Some(b"0") => {}
        Some(b"12") => return Err("the application does not implement grpc.health.v1.Health".to_owned()),
        Some(b"5") => return Err("the application's health service does not know the service".to_owned()),
        status => {
            let status = status.map_or("none".into(), String::from_utf8_lossy);
            return Err(format!("the application's health service answered with gRPC status {status}"));
        }
    }
    match message.get(5..) {
        Some([0x08, 1]) => Ok(()),
        Some([] | [0x08, 0]) => Err("the service's health is UNKNOWN".to_owned()),
        Some([0x08, 2]) => Err("the service's health is NOT_SERVING".to_owned()),
        Some([0x08, 3]) => Err("the service is unknown to the health service (SERVICE_UNKNOWN)".to_owned()),
        _ => Err("the application's health service does not answer with a HealthCheckResponse".to_owned()),
    }
}

fn said(error: &h2::Error) -> String {
    format!("the application's gRPC server: {error}")
}
