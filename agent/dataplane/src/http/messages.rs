//! The messages of a gRPC call, counted as its bodies pass
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

/// Counts the messages in one direction. Each begins with a flag and its length in four bytes, and may be cut anywhere.
#[derive(Debug, Default)]
pub(super) struct Messages {
    begun: u64,
    /// Bytes of the current message's prefix that have passed.
    prefix: u8,
    /// The length, as far as it has passed; then what is left of the message.
    left: u32,
}

/// A flag and a length.
const PREFIX: u8 = 5;

impl Messages {
    /// Messages that have begun, as Envoy counts them.
    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    /// Looks at the next bytes of the body.
    pub(super) fn pass(&mut self, mut data: &[u8]) {
        while let Some((first, rest)) = data.split_first() {
            if self.prefix == PREFIX {
                let passing = data.len().min(self.left as usize);
                self.left -= u32::try_from(passing).expect("no more than what is left");
                data = &data[passing..];
            } else {
                match self.prefix {
                    0 => self.begun += 1,
                    _ => self.left = self.left << 8 | u32::from(*first),
                }
                self.prefix += 1;
                data = rest;
            }
            if self.prefix == PREFIX && self.left == 0 {
                self.prefix = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_may_be_empty_and_cut_anywhere() {
        let body = b"\0\0\0\0\x03abc\0\0\0\0\0\x01\0\0\0\x01d";
        for first in 0..=body.len() {
            for second in first..=body.len() {
                let mut messages = Messages::default();
                for piece in [&body[..first], &body[first..second], &body[second..]] {
                    messages.pass(piece);
                }
                assert_eq!((messages.begun(), messages.prefix), (3, 0), "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn a_message_counts_from_its_first_byte_and_may_be_large() {
        let mut messages = Messages::default();
        messages.pass(b"\0\0\x01\x11\x70");
        messages.pass(&[0; 70_000]);
        assert_eq!(messages.begun(), 1);
        messages.pass(b"\0");
        assert_eq!(messages.begun(), 2);
        let mut largest = Messages::default();
        largest.pass(b"\0\xff\xff\xff\xff\0\0\0\0\0\0");
        assert_eq!((largest.begun(), largest.left), (1, u32::MAX - 6));
    }
}
