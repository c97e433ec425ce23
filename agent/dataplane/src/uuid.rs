//! Random identifiers.

/// Length of a UUID as text.
pub(crate) const UUID_LEN: usize = 36;

/// A random UUID of version 4 (RFC 9562 §5.4) as text.
pub(crate) fn uuid_v4(random: u128) -> [u8; UUID_LEN] {
    let bits = random & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    // Plain loops over all digits at once, for which compilers have vector instructions.
    let (mut halves, mut digits) = ([0; 32], [0; 32]);
    for (pair, byte) in halves.chunks_exact_mut(2).zip(bits.to_be_bytes()) {
        (pair[0], pair[1]) = (byte >> 4, byte & 0xf);
    }
    for (digit, half) in digits.iter_mut().zip(halves) {
        *digit = half + if half < 10 { b'0' } else { b'a' - 10 };
    }
    let mut text = [b'-'; UUID_LEN];
    for (groups, dashes) in [(0..8, 0), (8..12, 1), (12..16, 2), (16..20, 3), (20..32, 4)] {
        text[groups.start + dashes..groups.end + dashes].copy_from_slice(&digits[groups]);
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
        let counted = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
        assert_eq!(&uuid_v4(counted), b"01234567-89ab-4def-8123-456789abcdef");
    }
}
