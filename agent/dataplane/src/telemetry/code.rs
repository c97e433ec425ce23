//! Statuses as metrics tell them.

use std::fmt;

/// The status of an answer, as far as it may make series of its own. An endpoint may choose any of 900: those that
/// neither a standard nor custom knows are told by their class (`5xx`), so that none can fill the table of series.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct ResponseCode(u16);

impl From<u16> for ResponseCode {
    /// 0 is for no answer at all.
    fn from(status: u16) -> Self {
        let known = KNOWN.get(usize::from(status / 64)).is_some_and(|word| word >> (status % 64) & 1 == 1);
        Self(if known { status } else { status / 100 })
    }
}

impl ResponseCode {
    /// The class of the status, 2 of `2xx`; `None` where there was no answer.
    pub fn class(self) -> Option<u8> {
        let class = if self.0 < 100 { self.0 } else { self.0 / 100 };
        u8::try_from(class).ok().filter(|class| *class > 0)
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            class @ 1..=9 => write!(f, "{class}xx"),
            status => status.fmt(f),
        }
    }
}

/// First and last of each run: what IANA has registered, and what nginx, Cloudflare, AWS and some frameworks say.
const RUNS: [(u16, u16); 18] = [
    (100, 104),
    (200, 208),
    (218, 218),
    (226, 226),
    (300, 308),
    (400, 426),
    (428, 431),
    (440, 440),
    (444, 444),
    (449, 451),
    (460, 464),
    (494, 499),
    (500, 511),
    (520, 527),
    (529, 530),
    (540, 540),
    (561, 561),
    (598, 599),
];

/// One bit for each status.
static KNOWN: [u64; 10] = bits();

const fn bits() -> [u64; 10] {
    let mut bits = [0; 10];
    let mut run = 0;
    while run < RUNS.len() {
        let (mut status, last) = RUNS[run];
        while status <= last {
            bits[status as usize / 64] |= 1 << (status % 64);
            status += 1;
        }
        run += 1;
    }
    bits
}

/// The status of a gRPC call as metrics tell it: what the protocol does not know is `UNKNOWN`, as it says.
pub(super) fn grpc_code(status: u8) -> u8 {
    const UNKNOWN: u8 = 2;
    const UNAUTHENTICATED: u8 = 16;
    if status > UNAUTHENTICATED { UNKNOWN } else { status }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn what_is_known_is_told_and_all_else_by_its_class() {
        let told = |status: u16| ResponseCode::from(status).to_string();
        for status in [0, 100, 200, 226, 304, 404, 418, 431, 451, 499, 500, 503, 511, 520, 599] {
            assert_eq!(told(status), status.to_string());
        }
        for (status, class) in
            [(199, "1xx"), (299, "2xx"), (432, "4xx"), (555, "5xx"), (639, "6xx"), (999, "9xx")]
        {
            assert_eq!(told(status), class);
            assert_eq!(format!("{}xx", ResponseCode::from(status).class().unwrap()), class);
        }
        assert_eq!(
            [0, 100, 503, 999].map(|status| ResponseCode::from(status).class()),
            [None, Some(1), Some(5), Some(9)]
        );
        let all: HashSet<_> =
            (0..=u16::MAX).filter(|status| *status < 1000).map(ResponseCode::from).collect();
        assert!(all.len() < 120, "{}", all.len());
    }

    #[test]
    fn calls_end_with_a_status_of_the_protocol() {
        assert_eq!([0, 2, 16, 17, 255].map(grpc_code), [0, 2, 16, 2, 2]);
    }
}
