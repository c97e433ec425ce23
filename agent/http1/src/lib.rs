//! HTTP/1 codec: bytes to heads and framing and back, without I/O and without allocation.
//!
//! Reading: [`HeadEnd`] says when a growing buffer is worth parsing, [`parse_request`] and [`parse_response`] turn it
//! into a head that borrows from it, and [`BodyDecoder`] splits what follows into data and framing. Writing: the
//! `write_` functions append to a byte vector the caller reuses.
//!
//! This is where bytes of strangers enter the proxy, so a message that two implementations could frame differently is
//! refused, never repaired: RFC 9110 and RFC 9112 are read in their strict sense, and what they leave to the recipient
//! (bare LF, folded lines, whitespace in odd places) is refused as well.
//!
//! ```
//! use http1::{BodyDecoder, BodyLength, HeaderSlots, Limits, parse_request, write_header, write_request_line};
//!
//! let received = b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n\r\nhi";
//! let mut slots = HeaderSlots::new();
//! let request = parse_request(received, &Limits::default(), &mut slots)?.expect("the head is complete");
//! assert_eq!((request.method, request.authority(), request.body), ("POST", Some("b"), BodyLength::Length(2)));
//!
//! let body = &received[request.head_len..];
//! let decoded = BodyDecoder::new(request.body).decode(body)?;
//! assert!(decoded.done && &body[decoded.data] == b"hi");
//!
//! let mut sent = Vec::new();
//! write_request_line(&mut sent, request.method, "/rewritten");
//! for header in request.headers {
//!     write_header(&mut sent, header.name.as_bytes(), header.value);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub use httparse::Header;

pub use body::{BodyDecoder, BodyError, Decoded};
pub use connection::{ConnectionNames, connection_names, is_hop_by_hop};
pub use fields::upgrade_offer;
pub use framing::{BodyLength, FramingError};
pub use head::{HeadEnd, HeadError, HeaderSlots, Limits, Version};
pub use host::is_valid_authority;
pub use request::{Request, RequestError, parse_request};
pub use response::{Response, ResponseError, parse_response};
pub use target::{Target, TargetError};
pub use write::{
    ChunkHead, chunk_head, is_field_name, is_field_value, reason_phrase, write_chunk, write_content_length,
    write_decimal, write_framing, write_header, write_last_chunk, write_request_line, write_status_line,
};

mod body;
pub mod bounds;
mod connection;
mod fields;
mod framing;
mod head;
mod host;
mod request;
mod response;
mod target;
mod write;
