//! Netlink attributes, as nf_tables takes them and gives them back: numbers in network order.

/// An attribute's type and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attribute(pub(crate) u16, pub(crate) Value);

/// What an attribute holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A 32-bit number.
    Number(u32),
    /// Bytes as they are.
    Bytes(Vec<u8>),
    /// A string, which a NUL byte ends.
    Text(String),
    /// Attributes, each of a type of its own.
    Nested(Vec<Attribute>),
    /// Attributes that are all of the type [`ELEMENT`], in order.
    List(Vec<Vec<Attribute>>),
}

/// `NFTA_LIST_ELEM`.
const ELEMENT: u16 = 1;
/// `NLA_F_NESTED`, which we set and the kernel does not.
const NESTED: u16 = 1 << 15;
/// `NLA_TYPE_MASK`.
const TYPE: u16 = 0x3fff;

pub(crate) fn number(kind: u16, number: u32) -> Attribute {
    Attribute(kind, Value::Number(number))
}

pub(crate) fn text(kind: u16, text: &str) -> Attribute {
    Attribute(kind, Value::Text(text.to_owned()))
}

pub(crate) fn nested(kind: u16, attributes: Vec<Attribute>) -> Attribute {
    Attribute(kind, Value::Nested(attributes))
}

/// The bytes of attributes, each padded to four.
pub(crate) fn encode(attributes: &[Attribute]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Attribute(kind, value) in attributes {
        let (nested, value) = match value {
            Value::Number(number) => (0, number.to_be_bytes().to_vec()),
            Value::Bytes(own) => (0, own.clone()),
            Value::Text(text) => (0, [text.as_bytes(), &[0]].concat()),
            Value::Nested(inner) => (NESTED, encode(inner)),
            Value::List(elements) => {
                let one = |element: &Vec<Attribute>| nested_element(element);
                (NESTED, encode(&elements.iter().map(one).collect::<Vec<_>>()))
            }
        };
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        bytes.extend(length.to_ne_bytes());
        bytes.extend((kind | nested).to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn nested_element(attributes: &[Attribute]) -> Attribute {
    nested(ELEMENT, attributes.to_vec())
}

/// Type and value of each attribute, up to the first that is none.
pub(crate) fn decode(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1] = *rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & TYPE, value))
    })
}

/// The value of the attribute of this type.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    decode(bytes).find(|(own, _)| *own == kind).map(|(_, value)| value)
}

/// Whether `bytes` say at least what is wanted, and of a list exactly that: a kernel adds handles and counters.
pub(crate) fn hold(bytes: &[u8], wanted: &[Attribute]) -> bool {
    wanted.iter().all(|Attribute(kind, wanted)| {
        find(bytes, *kind).is_some_and(|value| match wanted {
            Value::Number(number) => value == number.to_be_bytes(),
            Value::Bytes(own) => value == own,
            Value::Text(text) => value.strip_suffix(&[0]).unwrap_or(value) == text.as_bytes(),
            Value::Nested(inner) => hold(value, inner),
            Value::List(elements) => {
                let seen: Vec<_> = decode(value).filter(|(kind, _)| *kind == ELEMENT).collect();
                let pairs = seen.iter().zip(elements);
                seen.len() == elements.len()
                    && pairs.into_iter().all(|((_, seen), wanted)| hold(seen, wanted))
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Vec<Attribute> {
        vec![
            number(2, 7),
            text(1, "abc"),
            nested(3, vec![Attribute(1, Value::Bytes(vec![1, 2, 3]))]),
            Attribute(4, Value::List(vec![vec![number(1, 1)], vec![number(1, 2)]])),
        ]
    }

    #[test]
    fn what_was_written_holds_what_was_meant() {
        let bytes = encode(&some());
        assert_eq!(bytes.len() % 4, 0);
        assert!(hold(&bytes, &some()));
        let more = [encode(&[number(9, 1)]), bytes.clone()].concat();
        assert!(hold(&more, &some()), "a handle beside it is no matter");
        for length in 0..bytes.len() {
            assert!(!hold(&bytes[..length], &some()), "{length}");
        }
    }

    #[test]
    fn one_number_or_one_element_more_or_less_is_something_else() {
        let bytes = encode(&some());
        for other in [
            number(2, 8),
            text(1, "ab"),
            nested(3, vec![Attribute(1, Value::Bytes(vec![1, 2]))]),
            Attribute(4, Value::List(vec![vec![number(1, 1)]])),
            Attribute(4, Value::List(vec![vec![number(1, 2)], vec![number(1, 1)]])),
            number(5, 0),
        ] {
            assert!(!hold(&bytes, std::slice::from_ref(&other)), "{other:?}");
        }
    }
}
