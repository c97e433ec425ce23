//! Random identifiers.

/// Length of a UUID as text.
pub(crate) const UUID_LEN: usize = 36;

/// A random UUID of version 4 (RFC 9562 §5.4) as text.
pub(crate) fn uuid_v4(random: u128) -> [u8; UUID_LEN] {
    let bits = random & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let mut text = [b'-'; UUID_LEN];
    let places = (0..UUID_LEN).filter(|place| !matches!(place, 8 | 13 | 18 | 23));
    for (nibble, place) in places.enumerate() {
        text[place] = b"0123456789abcdef"[(bits >> (124 - 4 * nibble)) as usize & 0xf];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_uuids_of_version_4() {
        assert_eq!(&uuid_v4(0), b"00000000-0000-4000-8000-000000000000");
        assert_eq!(&uuid_v4(u128::MAX), b"ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
