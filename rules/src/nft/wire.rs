//! Attributes of netlink messages, as nf_tables nests them. Numbers are big-endian there.

/// Attributes being written.
#[derive(Debug, Default)]
pub(super) struct Attributes(Vec<u8>);

/// Length and kind in front of every attribute.
const HEADER: usize = 4;
/// `NLA_F_NESTED`: the attribute holds attributes.
const NESTED: u16 = 1 << 15;
/// The bits of a kind that are no flags (`NLA_TYPE_MASK`).
const KIND: u16 = 0x3fff;

impl Attributes {
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.header(kind, value.len());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(super) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(kind | NESTED, &inner.0)
    }

    /// Attributes written elsewhere.
    pub(super) fn append(&mut self, attributes: &[u8]) {
        self.0.extend_from_slice(attributes);
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn header(&mut self, kind: u16, length: usize) {
        // Nothing we write comes near the limit: the longest is a rule with 64 groups.
        let length = u16::try_from(HEADER + length).expect("an attribute is shorter than 64 KiB");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
    }
}

/// The attributes in `bytes`, each with its kind; reading ends at the first that is cut off.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (&[l0, l1, k0, k1], _) = bytes.split_first_chunk::<HEADER>()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & KIND, value))
    })
}

/// The attribute of this kind.
pub(super) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// The attribute of this kind, as a number.
pub(super) fn number(bytes: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(find(bytes, kind)?.try_into().ok()?))
}

/// The attribute of this kind, as text.
pub(super) fn text(bytes: &[u8], kind: u16) -> Option<&str> {
    let value = find(bytes, kind)?;
    std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut written = Attributes::default();
        written.number(1, 7).text(2, "lo").nested(3, |inner| {
            inner.bytes(1, &[1, 2, 3]);
        });
        let bytes = written.into_bytes();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!((number(&bytes, 1), text(&bytes, 2)), (Some(7), Some("lo")));
        assert_eq!(find(find(&bytes, 3).unwrap(), 1), Some(&[1, 2, 3][..]));
        assert_eq!(find(&bytes, 4), None);
    }

    #[test]
    fn what_is_cut_off_ends_the_reading() {
        assert_eq!(attributes(&[]).count(), 0);
        for broken in [&[4, 0, 1][..], &[0, 0, 1, 0], &[3, 0, 1, 0], &[9, 0, 1, 0, 0, 0, 0, 0]] {
            assert_eq!(attributes(broken).count(), 0, "{broken:?}");
        }
        assert_eq!(attributes(&[4, 0, 1, 0, 4, 0]).count(), 1);
    }
}
