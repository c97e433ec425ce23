use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::crypto::aws_lc_rs;
use std::time::Duration;

use super::*;

/// An authority `CN=ca`, good from 2026 to 2126.
const AUTHORITY: &str = "MIIBcTCCARegAwIBAgIUI6K9LTHdNg35kVZL142m5Ns44o8wCgYIKoZIzj0EAwIwDTELMAkGA1UEAwwCY2EwIBcNMjYxMTIx\
    MTkyNzAyWhgPMjEyNjEwMjgxOTI3MDJaMA0xCzAJBgNVBAMMAmNhMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEyfYTI8ev\
    GCAjFOE26dbfmm3sZ3nnRTWeuXBCIobG3XCDvlFl557gZyJ3ulN3xFBi+c51DYbThAd1GZTk2zg/XqNTMFEwHQYDVR0OBBYE\
    FGGLE3ITN4iZtpRZJOmeXBKkpw1yMB8GA1UdIwQYMBaAFGGLE3ITN4iZtpRZJOmeXBKkpw1yMA8GA1UdEwEB/wQFMAMBAf8w\
    CgYIKoZIzj0EAwIDSAAwRQIhAJUct+nXN1xrLTSahy147pFKQNut5TIZOfvQgqFAHIixAiB+b8A977FejCF2Jy8rXQfH5wK9\
    O5qQCpTbXzI2TTMsRQ==";
/// Another one of the same name.
const IMPOSTOR: &str = "MIIBcDCCARegAwIBAgIURFnA6lT+x/7LjZqEzupt+Pm3nyUwCgYIKoZIzj0EAwIwDTELMAkGA1UEAwwCY2EwIBcNMjYxMTIx\
    MTkyNzAyWhgPMjEyNjEwMjgxOTI3MDJaMA0xCzAJBgNVBAMMAmNhMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE/wDlMfT3\
    dUutQoCB6c3JLZMMtrb3tNMiS9W3/ZZwdbMNM+OdDLfX4nSh0yZttYIR5QDmmimDnjzb/j61CGoj4KNTMFEwHQYDVR0OBBYE\
    FB0YSm2JO82FshHaFHQ/3MEjlYPIMB8GA1UdIwQYMBaAFB0YSm2JO82FshHaFHQ/3MEjlYPIMA8GA1UdEwEB/wQFMAMBAf8w\
    CgYIKoZIzj0EAwIDRwAwRAIgRUNckmmnIXw17YUGPuFR/LLucJ9M4eRsCsiHZ+Tv7OkCIHQaYDtpfFBJeImngY3kPJMBOhm/\
    l8SLYdHysA4Eq4ie";
/// A certificate of version 1 by the first, good from 2026-11-21 to 2126.
const CLIENT: &str = "MIIBBjCBrgIBATAKBggqhkjOPQQDAjANMQswCQYDVQQDDAJjYTAgFw0yNjExMjExOTI3MDJaGA8yMTI2MTAyODE5MjcwMlow\
    ETEPMA0GA1UEAwwGY2xpZW50MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0qg16XIYitcG/4ATfice6TbIu9wj3Mxwwd/o\
    MwxREnKmvXcaepR6wdy3RhYwe/NfgG3Mj52pvL5PKRs28mpM6TAKBggqhkjOPQQDAgNHADBEAiBDtPXEMkWTJF7MESx0mpjU\
    np3E4Rm7UVIDYVLpFMyFggIgVyCo/jdHFPnH/dmoESu/eZdwGbCJQNmgAr1/6W6V758=";

const IN_FORCE: u64 = 1_800_000_000;

fn der(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

fn verified(certificate: &[u8], authority: &str, now: u64) -> Result<(), CertificateError> {
    let mut authorities = RootCertStore::empty();
    authorities.add(der(authority).into()).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    verify(&CertificateDer::from(certificate), &authorities, (now, &algorithms))
}

#[test]
fn what_a_trusted_authority_has_issued_is_taken_while_it_is_in_force() {
    let client = der(CLIENT);
    assert_eq!(verified(&client, AUTHORITY, IN_FORCE), Ok(()));
    assert_eq!(verified(&client, AUTHORITY, 1_700_000_000), Err(CertificateError::NotValidYet));
    assert_eq!(verified(&client, AUTHORITY, 5_000_000_000), Err(CertificateError::Expired));
    // The name of an authority is no proof.
    assert_eq!(verified(&client, IMPOSTOR, IN_FORCE), Err(CertificateError::BadSignature));
    let renamed: Vec<u8> = client.windows(2).map(|two| if two == b"ca" { b'b' } else { two[0] }).collect();
    let renamed = [&renamed[..], &client[client.len() - 1..]].concat();
    assert_eq!(verified(&renamed, AUTHORITY, IN_FORCE), Err(CertificateError::UnknownIssuer));
    // Later versions are for webpki.
    assert_eq!(verified(&der(AUTHORITY), AUTHORITY, IN_FORCE), Err(CertificateError::BadEncoding));
}

#[test]
fn no_other_byte_and_no_part_is_taken() {
    let client = der(CLIENT);
    for at in 0..client.len() {
        let mut changed = client.clone();
        changed[at] ^= 1;
        assert!(verified(&changed, AUTHORITY, IN_FORCE).is_err(), "byte {at}");
        assert!(verified(&client[..at], AUTHORITY, IN_FORCE).is_err(), "{at} bytes");
    }
    assert!(verified(&[&client[..], &[0]].concat(), AUTHORITY, IN_FORCE).is_err());
}
