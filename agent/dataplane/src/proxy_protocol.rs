//! The PROXY protocol (haproxy.org, `proxy-protocol.txt`), both versions: who a connection comes from and where it was
//! going, said before anything else.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use snapshot::ProxyProtocol;
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::bounds;

/// The PROXY header that a connection to an endpoint begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ProxyHeader {
    pub(crate) version: ProxyProtocol,
    /// The client, and where it was going; none for a connection that stands for nobody in particular.
    pub(crate) addresses: Option<(SocketAddr, SocketAddr)>,
}

/// What a connection begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Header {
    /// It comes from this client and was going there.
    Proxied { source: SocketAddr, destination: SocketAddr },
    /// It stands for nobody: the connection's own addresses count.
    Local,
}

/// A connection that does not begin with a PROXY header.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no PROXY header (versions 1 and 2 of the protocol are understood)")]
pub(crate) struct Malformed;

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    /// As probes of load balancers do.
    #[error("closed before it said anything")]
    Silent,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the connection ended within the PROXY header")]
    CutShort,
    #[error("no PROXY header came in time")]
    TooLate,
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_LOCAL: u8 = 0x20;
const V2_PROXY: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const FIXED_PART: usize = 16;

impl ProxyHeader {
    /// The header as it is sent.
    pub(crate) fn header(&self) -> Vec<u8> {
        match self.version {
            ProxyProtocol::V1 => self.line(),
            ProxyProtocol::V2 => self.binary(),
        }
    }

    fn line(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(bounds::PROXY_LINE);
        // Writing to a vector does not fail.
        _ = match self.addresses {
            Some((source @ SocketAddr::V4(_), destination @ SocketAddr::V4(_))) => {
                let (from, to) = (source.ip(), destination.ip());
                write!(line, "PROXY TCP4 {from} {to} {} {}\r\n", source.port(), destination.port())
            }
            Some((source, destination)) => {
                let (from, to) = (v6(source.ip()), v6(destination.ip()));
                write!(line, "PROXY TCP6 {from} {to} {} {}\r\n", source.port(), destination.port())
            }
            None => write!(line, "PROXY UNKNOWN\r\n"),
        };
        line
    }

    fn binary(&self) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        match self.addresses {
            Some((SocketAddr::V4(source), SocketAddr::V4(destination))) => {
                header.extend([V2_PROXY, TCP4, 0, 12]);
                header.extend(source.ip().octets());
                header.extend(destination.ip().octets());
            }
            Some((source, destination)) => {
                header.extend([V2_PROXY, TCP6, 0, 36]);
                header.extend(v6(source.ip()).octets());
                header.extend(v6(destination.ip()).octets());
            }
            None => header.extend([V2_LOCAL, 0, 0, 0]),
        }
        if let Some((source, destination)) = self.addresses {
            header.extend(source.port().to_be_bytes());
            header.extend(destination.port().to_be_bytes());
        }
        header
    }
}

fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// Reads the header at the beginning of `bytes`: what it says and how long it is; `None` when more bytes are needed.
///
/// # Errors
/// The bytes cannot become a header.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    if bytes.first() == Some(&b'P') {
        return parse_line(bytes);
    }
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return Err(Malformed);
    }
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED_PART) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let header = match fixed[12] {
        V2_LOCAL => Header::Local,
        V2_PROXY => parse_addresses(fixed[13], body)?,
        _ => return Err(Malformed),
    };
    Ok(Some((header, FIXED_PART + length)))
}

/// Receives the header that a connection begins with, and not a byte more.
///
/// # Errors
/// The connection failed or ended, or begins with something else.
pub(crate) async fn receive(stream: &mut TcpStream) -> Result<Header, HeaderError> {
    let mut bytes = Vec::with_capacity(bounds::PROXY_LINE);
    loop {
        let wanted = match bytes.first() {
            // Both versions are at least so long.
            None => SIGNATURE.len(),
            Some(b'P') => line_rest(stream).await.map_err(|_| HeaderError::CutShort)?,
            Some(_) => binary_rest(&bytes),
        };
        let known = bytes.len();
        if known + wanted > bounds::PROXY_HEADER {
            return Err(Malformed.into());
        }
        bytes.resize(known + wanted, 0);
        match stream.read(&mut bytes[known..]).await {
            Ok(received @ 1..) => bytes.truncate(known + received),
            Ok(0) | Err(_) if known == 0 => return Err(HeaderError::Silent),
            Ok(0) | Err(_) => return Err(HeaderError::CutShort),
        }
        if let Some((header, _)) = parse(&bytes)? {
            return Ok(header);
        }
    }
}

/// How much of what has arrived belongs to the line.
async fn line_rest(stream: &TcpStream) -> io::Result<usize> {
    let mut arrived = [0; bounds::PROXY_LINE];
    let length = stream.peek(&mut arrived).await?;
    let end = arrived[..length].iter().position(|byte| *byte == b'\n');
    // At the end of the stream reading one more byte says so.
    Ok(end.map_or(length.max(1), |end| end + 1))
}

fn binary_rest(bytes: &[u8]) -> usize {
    match bytes.get(14..FIXED_PART) {
        Some(length) => {
            (FIXED_PART + usize::from(u16::from_be_bytes([length[0], length[1]]))).saturating_sub(bytes.len())
        }
        None => FIXED_PART - bytes.len(),
    }
}

fn parse_addresses(family: u8, body: &[u8]) -> Result<Header, Malformed> {
    let port = |at: usize| -> Result<u16, Malformed> {
        let bytes = body.get(at..at + 2).ok_or(Malformed)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let v4 = |at: usize| -> Result<IpAddr, Malformed> {
        let octets: [u8; 4] = body.get(at..at + 4).and_then(|b| b.try_into().ok()).ok_or(Malformed)?;
        Ok(Ipv4Addr::from(octets).into())
    };
    let v6 = |at: usize| -> Result<IpAddr, Malformed> {
        let octets: [u8; 16] = body.get(at..at + 16).and_then(|b| b.try_into().ok()).ok_or(Malformed)?;
        Ok(Ipv6Addr::from(octets).to_canonical())
    };
    let (source, destination) = match family {
        TCP4 => (SocketAddr::new(v4(0)?, port(8)?), SocketAddr::new(v4(4)?, port(10)?)),
        TCP6 => (SocketAddr::new(v6(0)?, port(32)?), SocketAddr::new(v6(16)?, port(34)?)),
        // Other families say nothing that could be used; the protocol asks to accept them.
        _ => return Ok(Header::Local),
    };
    Ok(Header::Proxied { source, destination })
}

fn parse_line(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let Some(end) = bytes.iter().take(bounds::PROXY_LINE).position(|byte| *byte == b'\n') else {
        let possible = bytes.len() < bounds::PROXY_LINE && could_be_line(bytes);
        return if possible { Ok(None) } else { Err(Malformed) };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(Malformed)?;
    let text = std::str::from_utf8(line).map_err(|_| Malformed)?;
    let words: Vec<&str> = text.split(' ').collect();
    let header = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Header::Local,
        ["PROXY", "TCP4" | "TCP6", from, to, from_port, to_port] => {
            let address = |ip: &str, port: &str| -> Result<SocketAddr, Malformed> {
                let ip: IpAddr = ip.parse().map_err(|_| Malformed)?;
                Ok(SocketAddr::new(ip.to_canonical(), port.parse().map_err(|_| Malformed)?))
            };
            Header::Proxied { source: address(from, from_port)?, destination: address(to, to_port)? }
        }
        _ => return Err(Malformed),
    };
    Ok(Some((header, end + 1)))
}

/// Told early: a client that speaks something else should not be waited for.
fn could_be_line(bytes: &[u8]) -> bool {
    const BEGINNING: &[u8] = b"PROXY ";
    let known = bytes.len().min(BEGINNING.len());
    bytes[..known] == BEGINNING[..known]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn pairs() -> [(SocketAddr, SocketAddr); 2] {
        [
            (address("192.0.2.1:56324"), address("10.0.0.7:443")),
            (address("[2001:db8::1]:56324"), address("[fd00::7]:443")),
        ]
    }

    #[test]
    fn what_is_written_is_read_and_every_beginning_asks_for_more() {
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            for addresses in [Some(pairs()[0]), Some(pairs()[1]), None] {
                let header = ProxyHeader { version, addresses }.header();
                let expected = match addresses {
                    Some((source, destination)) => Header::Proxied { source, destination },
                    None => Header::Local,
                };
                let with_payload = [&header, &b"GET / HTTP/1.1\r\n"[..]].concat();
                assert_eq!(parse(&with_payload), Ok(Some((expected, header.len()))));
                for end in 1..header.len() {
                    assert_eq!(parse(&header[..end]), Ok(None), "{:?}", &header[..end]);
                }
            }
        }
    }

    #[test]
    fn the_line_is_as_the_protocol_shows_it() {
        let announced = ProxyHeader { version: ProxyProtocol::V1, addresses: Some(pairs()[0]) };
        assert_eq!(announced.header(), b"PROXY TCP4 192.0.2.1 10.0.0.7 56324 443\r\n");
    }

    #[test]
    fn a_client_of_the_other_family_is_written_as_ipv6() {
        let (source, destination) = (pairs()[0].0, pairs()[1].1);
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            let header = ProxyHeader { version, addresses: Some((source, destination)) }.header();
            assert_eq!(parse(&header), Ok(Some((Header::Proxied { source, destination }, header.len()))));
        }
    }

    #[test]
    fn anything_else_is_refused_at_once() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"POST /",
            b"PROXY TCP4 192.0.2.1 10.0.0.7 56324\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.7 56324 99999\r\n",
            b"PROXY TCP4 192.0.2.1 10.0.0.7 1 2\n",
            b"\x16\x03\x01",
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04\x01\x02\x03\x04",
        ] {
            assert_eq!(parse(bytes), Err(Malformed), "{bytes:?}");
        }
        assert_eq!(parse(&[b"PROXY ", &[b'x'; 200][..]].concat()), Err(Malformed));
    }

    #[test]
    fn no_bytes_whatsoever_make_it_panic() {
        for seed in 0..20_000_u64 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut bytes = SIGNATURE.to_vec();
            bytes.extend((0..random.usize(..64)).map(|_| random.u8(..)));
            _ = parse(&bytes);
            let mut line = b"PROXY TCP4 ".to_vec();
            line.extend((0..random.usize(..64)).map(|_| random.u8(..)));
            _ = parse(&line);
        }
    }
}
