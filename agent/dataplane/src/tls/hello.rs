//! Reads what a TLS client hello says before anybody decides whether TLS ends here.
//!
//! More lenient than a TLS library: what only passes through may be of any version.

use snapshot::Application;

/// What a client hello says (RFC 8446 §4.1.2).
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Hello {
    /// The server's name the client asks for, if any, in lower case.
    pub(crate) server_name: Option<Box<str>>,
    /// What the offered protocols tell.
    pub(crate) application: Application,
    /// The offered protocols, joined by commas, to be shown.
    pub(crate) offered: Box<str>,
}

/// Says that bytes are no client hello.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("malformed TLS client hello")]
pub(crate) struct Malformed;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;
/// Largest hello that is read; what it is kept in is as large.
const MAX_HELLO: usize = 16 * 1024;

const SERVER_NAME: u16 = 0;
const PROTOCOLS: u16 = 16;

impl Hello {
    /// Reads a hello from the first bytes of a connection; `None` when more are needed.
    ///
    /// Asking again with a few bytes more costs little: nothing is read before all of it is there.
    ///
    /// # Errors
    /// The bytes are no client hello.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let Some((first, _)) = first_record(bytes)? else { return Ok(None) };
        // Nearly always one record holds all of it.
        if let Some(message) = whole_message(first)? {
            return Self::of_message(message).map(Some);
        }
        let mut joined = Vec::with_capacity(2 * first.len());
        let mut rest = bytes;
        while let Some((fragment, after)) = first_record(rest)? {
            joined.extend_from_slice(fragment);
            if let Some(message) = whole_message(&joined)? {
                return Self::of_message(message).map(Some);
            }
            rest = after;
        }
        Ok(None)
    }

    fn of_message(message: &[u8]) -> Result<Self, Malformed> {
        let mut rest = Bytes(message);
        rest.take(2 + 32)?;
        let (_session, _suites, _compressions) = (rest.list8()?, rest.list16()?, rest.list8()?);
        let mut hello = Self { server_name: None, application: Application::Opaque, offered: "".into() };
        if rest.0.is_empty() {
            return Ok(hello);
        }
        let mut extensions = rest.list16()?;
        while !extensions.0.is_empty() {
            let (kind, mut value) = (extensions.number16()?, extensions.list16()?);
            match kind {
                SERVER_NAME => hello.server_name = server_name(value.list16()?)?,
                PROTOCOLS => hello.take_protocols(value.list16()?)?,
                _ => {}
            }
        }
        Ok(hello)
    }

    fn take_protocols(&mut self, mut list: Bytes<'_>) -> Result<(), Malformed> {
        let mut protocols = Vec::new();
        while !list.0.is_empty() {
            protocols.push(list.list8()?.0);
        }
        self.application = Application::of_offered(protocols.iter().copied());
        let shown: Vec<_> = protocols.iter().map(|protocol| protocol.escape_ascii().to_string()).collect();
        self.offered = shown.join(",").into();
        Ok(())
    }
}

fn server_name(mut list: Bytes<'_>) -> Result<Option<Box<str>>, Malformed> {
    const HOST_NAME: u8 = 0;
    while !list.0.is_empty() {
        let (kind, name) = (list.take(1)?[0], list.list16()?);
        if kind == HOST_NAME {
            let name =
                std::str::from_utf8(name.0).ok().filter(|name| name.bytes().all(|b| b.is_ascii_graphic()));
            let name = name.filter(|name| !name.is_empty()).ok_or(Malformed)?;
            return Ok(Some(name.to_ascii_lowercase().into()));
        }
    }
    Ok(None)
}

/// Bytes and what follows them.
type Split<'b> = (&'b [u8], &'b [u8]);

/// The payload of the first record and what follows it; `None` when it is not there yet.
fn first_record(bytes: &[u8]) -> Result<Option<Split<'_>>, Malformed> {
    let Some((header, rest)) = bytes.split_first_chunk::<RECORD_HEADER>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if header[0] != HANDSHAKE || header[1] != 3 || length == 0 || length > MAX_HELLO {
        return Err(Malformed);
    }
    Ok(rest.split_at_checked(length))
}

/// The hello without its header; `None` when only a part of it is there.
fn whole_message(bytes: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let Some((header, rest)) = bytes.split_first_chunk::<MESSAGE_HEADER>() else { return Ok(None) };
    let length = usize::from(header[1]) << 16 | usize::from(header[2]) << 8 | usize::from(header[3]);
    if header[0] != CLIENT_HELLO || length > MAX_HELLO {
        return Err(Malformed);
    }
    Ok(rest.get(..length))
}

/// Bytes to be read from the front.
#[derive(Clone, Copy)]
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number16(&mut self) -> Result<u16, Malformed> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// What a length of one byte counts.
    fn list8(&mut self) -> Result<Self, Malformed> {
        let length = usize::from(self.take(1)?[0]);
        self.take(length).map(Self)
    }

    /// What a length of two bytes counts.
    fn list16(&mut self) -> Result<Self, Malformed> {
        let length = usize::from(self.number16()?);
        self.take(length).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};

    use super::*;

    fn hello(name: &str, protocols: &[&str]) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config =
            builder.unwrap().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut bytes = Vec::new();
        ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_hello_is_known_with_its_last_byte() {
        let whole = hello("www.Example.com", &["istio", "istio-h2"]);
        for cut in 0..whole.len() {
            assert_eq!(Hello::read(&whole[..cut]), Ok(None), "{cut}");
        }
        let read = Hello::read(&whole).unwrap().unwrap();
        assert_eq!(read.server_name.as_deref(), Some("www.example.com"));
        assert_eq!((read.application, &*read.offered), (Application::MeshHttp, "istio,istio-h2"));
        let address = Hello::read(&hello("10.0.0.1", &[])).unwrap().unwrap();
        assert_eq!((address.server_name, address.application), (None, Application::Opaque));
    }

    #[test]
    fn a_hello_in_many_records_is_put_together() {
        let whole = hello("a.com", &["h2"]);
        let mut cut = Vec::new();
        for fragment in whole[RECORD_HEADER..].chunks(3) {
            cut.extend([HANDSHAKE, 3, 1, 0, u8::try_from(fragment.len()).unwrap()]);
            cut.extend(fragment);
        }
        assert_eq!(Hello::read(&cut), Hello::read(&whole));
        assert_eq!(Hello::read(&cut[..cut.len() - 1]), Ok(None));
    }

    #[test]
    fn a_hello_of_an_old_client_is_read() {
        // TLS 1.0 without any extension.
        let mut message = vec![3, 1];
        message.extend([7; 32]);
        message.extend([0, 0, 2, 0, 0x2f, 1, 0]);
        let length = u8::try_from(message.len()).unwrap();
        let mut bytes = vec![HANDSHAKE, 3, 1, 0, length + 4, CLIENT_HELLO, 0, 0, length];
        bytes.extend(message);
        let read = Hello::read(&bytes).unwrap().unwrap();
        assert_eq!((read.server_name, read.application), (None, Application::Opaque));
    }

    #[test]
    fn what_is_no_hello_is_refused_and_nothing_panics() {
        assert_eq!(Hello::read(b"\x16\x02\x01\x00\x05hello"), Err(Malformed));
        assert_eq!(Hello::read(b"\x16\x03\x01\x00\x00"), Err(Malformed));
        assert_eq!(Hello::read(b"\x16\x03\x01\x00\x04\x01\xff\xff\xff"), Err(Malformed));
        let good = hello("a.com", &["h2"]);
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..random.usize(1..6) {
                let place = random.usize(..bytes.len());
                bytes[place] = random.u8(..);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            // Whatever it says is right, as long as it says it.
            _ = Hello::read(&bytes);
            random.fill(&mut bytes);
            _ = Hello::read(&bytes);
        }
    }
}
