//! Random identifiers.

/// Length of a UUID as text.
pub(crate) const UUID_LEN: usize = 36;

/// A random UUID of version 4 (RFC 9562 §5.4) as text.
pub(crate) fn uuid_v4(random: u128) -> [u8; UUID_LEN] {
    let bits = random & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let mut digits = [0; 32];
    for (eight, bits) in digits.chunks_exact_mut(8).zip(bits.to_be_bytes().chunks_exact(4)) {
        eight.copy_from_slice(&hex_digits([bits[0], bits[1], bits[2], bits[3]]));
    }
    let mut text = [b'-'; UUID_LEN];
    for (groups, dashes) in [(0..8, 0), (8..12, 1), (12..16, 2), (16..20, 3), (20..32, 4)] {
        text[groups.start + dashes..groups.end + dashes].copy_from_slice(&digits[groups]);
    }
    text
}

/// Four bytes as eight digits, all worked out at once in one word of eight bytes.
fn hex_digits(bytes: [u8; 4]) -> [u8; 8] {
    let mut halves = u64::from(u32::from_be_bytes(bytes));
    halves = (halves | halves << 16) & 0x0000_ffff_0000_ffff;
    halves = (halves | halves << 8) & 0x00ff_00ff_00ff_00ff;
    halves = (halves | halves << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // A half of 10 or more carries into the fifth bit when 6 is added: there stands a letter.
    let letters = (halves + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (halves + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_uuids_of_version_4() {
        assert_eq!(&uuid_v4(0), b"00000000-0000-4000-8000-000000000000");
        assert_eq!(&uuid_v4(u128::MAX), b"ffffffff-ffff-4fff-bfff-ffffffffffff");
        let counted = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
        assert_eq!(&uuid_v4(counted), b"01234567-89ab-4def-8123-456789abcdef");
    }
}
