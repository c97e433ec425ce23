//! Addresses as text. `Display` writes the same, at a thousand instructions each: every request that a gateway passes on
//! tells two, and every line of the access log four.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

/// Appends an address.
pub(crate) fn write_ip(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => write_v4(out, address),
        // Writing into memory cannot fail.
        IpAddr::V6(address) => _ = write!(out, "{address}"),
    }
}

/// Appends an address with its port.
pub(crate) fn write_socket_address(out: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(address) => {
            write_v4(out, *address.ip());
            out.push(b':');
            http1::write_decimal(out, address.port().into());
        }
        SocketAddr::V6(address) => _ = write!(out, "{address}"),
    }
}

fn write_v4(out: &mut Vec<u8>, address: Ipv4Addr) {
    let mut text = *b"000.000.000.000.";
    let mut len = 0;
    for octet in address.octets() {
        let (octet, digits) = OCTETS[usize::from(octet)];
        text[len..len + octet.len()].copy_from_slice(&octet);
        len += usize::from(digits) + 1;
    }
    // Without the last dot.
    out.extend_from_slice(&text[..len - 1]);
}

/// Every octet as text, with a dot behind it, and its number of digits.
static OCTETS: [([u8; 4], u8); 256] = {
    let mut texts = [(*b"....", 0); 256];
    let mut octet = 0;
    while octet < texts.len() {
        let mut left = octet;
        let digits = 1 + (octet > 9) as u8 + (octet > 99) as u8;
        let mut digit = digits as usize;
        while digit > 0 {
            digit -= 1;
            texts[octet].0[digit] = b'0' + (left % 10) as u8;
            left /= 10;
        }
        texts[octet].1 = digits;
        octet += 1;
    }
    texts
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_display() {
        let octets = [0, 1, 9, 10, 11, 99, 100, 101, 199, 200, 250, 255];
        let v4 = octets.iter().flat_map(|a| octets.map(|b| IpAddr::from([*a, b, 255 - a, 255 - b])));
        let v6 = ["::1", "2001:db8::1", "::ffff:1.2.3.4"].map(|address| address.parse().unwrap());
        for address in v4.chain(v6) {
            let mut out = b"at ".to_vec();
            write_ip(&mut out, address);
            assert_eq!(String::from_utf8(out).unwrap(), format!("at {address}"));
            for port in [0, 7, 80, 443, 8080, u16::MAX] {
                let (mut out, address) = (Vec::new(), SocketAddr::new(address, port));
                write_socket_address(&mut out, address);
                assert_eq!(String::from_utf8(out).unwrap(), address.to_string());
            }
        }
    }
}
