//! What bytes of the kernel mean, by whichever of its interfaces they come.

use crate::settings::Interface;

/// The length of interface names in the kernel, the ending zero included.
pub(crate) const INTERFACE_LENGTH: usize = 16;

/// A whole name ends in zeros; without, it is the beginning of one.
pub(crate) fn interface(bytes: &[u8]) -> Option<Interface> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let any_ending = if bytes.len() < INTERFACE_LENGTH && end == bytes.len() { "+" } else { "" };
    format!("{}{any_ending}", std::str::from_utf8(&bytes[..end]).ok()?).parse().ok()
}

/// How many bits a mask begins with; none when others follow later.
pub(crate) fn prefix_length(mask: &[u8]) -> Option<u8> {
    let ones: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let mut leading = mask.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1));
    let together = leading.by_ref().take_while(|set| *set).count();
    (u32::try_from(together).ok()? == ones).then(|| u8::try_from(ones).ok())?
}

/// Text up to the first zero.
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).ok()
}

/// Four bytes in the order of the machine.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Two bytes in the order of the machine.
pub(crate) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Whether all of `bytes` are there, and zero.
pub(crate) fn is_zero(bytes: Option<&[u8]>) -> bool {
    bytes.is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0))
}
