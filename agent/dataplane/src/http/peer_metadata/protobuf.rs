//! As much of protobuf as `google.protobuf.Struct` needs.

/// Field of a `Struct`: its entries, each with a name and a value.
const ENTRY: u8 = 1;
const ENTRY_NAME: u8 = 1;
const ENTRY_VALUE: u8 = 2;
/// Fields of a `Value`.
const STRING_VALUE: u8 = 3;
pub(super) const STRUCT_VALUE: u8 = 5;

/// Wire types.
const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const DELIMITED: u8 = 2;
const FIXED_32: u8 = 5;

/// A field of bytes.
pub(super) fn bytes(number: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | DELIMITED];
    let mut length = contents.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(contents);
    out
}

/// A `Value` of text.
pub(super) fn string(text: &str) -> Vec<u8> {
    bytes(STRING_VALUE, text.as_bytes())
}

/// Adds an entry to a `Struct`.
pub(super) fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    let entry = [bytes(ENTRY_NAME, name.as_bytes()), bytes(ENTRY_VALUE, value)].concat();
    out.extend(bytes(ENTRY, &entry));
}

/// The entries of a `Struct`; `None` for one that is malformed.
pub(super) struct Reader<'r>(&'r [u8]);

/// A `Value`, as far as anybody asks for it.
pub(super) enum Value<'r> {
    String(&'r str),
    Struct(Reader<'r>),
    Other,
}

impl<'r> Reader<'r> {
    pub(super) fn fields(of: &'r [u8]) -> Self {
        Self(of)
    }
}

impl<'r> Iterator for Reader<'r> {
    type Item = Option<(&'r str, Value<'r>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = entry(&mut self.0);
        if read.is_none() {
            self.0 = &[];
        }
        Some(read)
    }
}

fn entry<'r>(from: &mut &'r [u8]) -> Option<(&'r str, Value<'r>)> {
    let (ENTRY, Field::Bytes(mut entry)) = next_field(from)? else { return Some(("", Value::Other)) };
    let (mut name, mut value) = ("", Value::Other);
    while !entry.is_empty() {
        match next_field(&mut entry)? {
            (ENTRY_NAME, Field::Bytes(text)) => name = std::str::from_utf8(text).ok()?,
            (ENTRY_VALUE, Field::Bytes(contents)) => value = read_value(contents)?,
            _ => {}
        }
    }
    Some((name, value))
}

fn read_value(mut contents: &[u8]) -> Option<Value<'_>> {
    let mut value = Value::Other;
    while !contents.is_empty() {
        match next_field(&mut contents)? {
            (STRING_VALUE, Field::Bytes(text)) => value = Value::String(std::str::from_utf8(text).ok()?),
            (STRUCT_VALUE, Field::Bytes(fields)) => value = Value::Struct(Reader(fields)),
            _ => {}
        }
    }
    Some(value)
}

enum Field<'r> {
    Bytes(&'r [u8]),
    Number,
}

/// The number and contents of the next field.
fn next_field<'r>(from: &mut &'r [u8]) -> Option<(u8, Field<'r>)> {
    let key = varint(from)?;
    let number = u8::try_from(key >> 3).unwrap_or(u8::MAX);
    if number == 0 {
        return None;
    }
    let field = match (key & 7) as u8 {
        VARINT => {
            varint(from)?;
            Field::Number
        }
        FIXED_64 => skip(from, 8)?,
        FIXED_32 => skip(from, 4)?,
        DELIMITED => {
            let length = usize::try_from(varint(from)?).ok()?;
            Field::Bytes(from.split_off(..length)?)
        }
        _ => return None,
    };
    Some((number, field))
}

fn skip<'r>(from: &mut &'r [u8], length: usize) -> Option<Field<'r>> {
    from.split_off(..length)?;
    Some(Field::Number)
}

fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *from.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
