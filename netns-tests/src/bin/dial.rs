//! `dial ADDRESS:PORT`: one HTTP request from a process of its own, so that it can be run as any user.
//!
//! Prints `local: <own address>` and then the body of the answer.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let to = std::env::args().nth(1).context("usage: dial ADDRESS:PORT")?;
    let to: SocketAddr =
        to.parse().with_context(|| format!("invalid address `{to}`: expected ADDRESS:PORT"))?;
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET / HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    write!(std::io::stdout(), "local: {}\n{body}", stream.local_addr()?)?;
    Ok(())
}
