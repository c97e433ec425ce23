//! Field paths inside a resource, such as `spec.http[0].match[1].uri`.

use std::fmt;

/// A place inside a resource, built from the outside in on the stack; it is written out only for a finding.
///
/// ```
/// use resources::Path;
/// assert_eq!(Path::ROOT.field("spec").field("hosts").index(1).to_string(), "spec.hosts[1]");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Path<'p> {
    parent: Option<&'p Self>,
    segment: Segment<'p>,
    hash: u32,
}

#[derive(Clone, Copy, Debug)]
enum Segment<'p> {
    Root,
    Field(&'p str),
    Index(usize),
    Key(&'p str),
}

impl<'p> Path<'p> {
    /// The resource itself.
    pub const ROOT: Path<'static> = Path { parent: None, segment: Segment::Root, hash: FNV_OFFSET };

    /// A field of this object.
    pub fn field(&'p self, name: &'p str) -> Self {
        self.child(Segment::Field(name), mix(self.hash, b".", name.as_bytes()))
    }

    /// An item of this list.
    pub fn index(&'p self, index: usize) -> Self {
        self.child(Segment::Index(index), mix(self.hash, b"[", &index.to_le_bytes()))
    }

    /// The value under a key of this map, which the user chose.
    pub fn key(&'p self, key: &'p str) -> Self {
        self.child(Segment::Key(key), mix(self.hash, b"{", key.as_bytes()))
    }

    /// The object, list or map that holds this place.
    pub fn parent(&self) -> Option<&'p Self> {
        self.parent
    }

    pub(crate) fn hash(&self) -> u32 {
        self.hash
    }

    fn child(&'p self, segment: Segment<'p>, hash: u32) -> Self {
        Self { parent: Some(self), segment, hash }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        let top = self.parent.is_none_or(|parent| parent.parent.is_none());
        match self.segment {
            Segment::Root => Ok(()),
            Segment::Field(name) if top => f.write_str(name),
            Segment::Field(name) => write!(f, ".{name}"),
            Segment::Index(index) => write!(f, "[{index}]"),
            Segment::Key(key) => write!(f, "[{key}]"),
        }
    }
}

// FNV-1a over the segments: a collision would only make a finding name a neighbouring line.
const FNV_OFFSET: u32 = 0x811c_9dc5;

fn mix(hash: u32, mark: &[u8], segment: &[u8]) -> u32 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    mark.iter().chain(segment).fold(hash, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_like_the_resource() {
        let spec = Path::ROOT.field("spec");
        assert_eq!(
            spec.field("http").index(0).field("match").index(12).to_string(),
            "spec.http[0].match[12]"
        );
        assert_eq!(spec.field("selector").key("a.b/c").to_string(), "spec.selector[a.b/c]");
        assert_eq!(Path::ROOT.to_string(), "");
    }

    #[test]
    fn equal_paths_hash_alike_however_they_were_built() {
        let one = Path::ROOT.field("spec");
        let other = Path::ROOT.field("spec");
        assert_eq!(one.field("hosts").index(1).hash(), other.field("hosts").index(1).hash());
        assert_ne!(one.field("hosts").index(1).hash(), other.field("hosts").index(2).hash());
    }
}
