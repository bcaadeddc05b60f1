//! The name of a member, kept where it is used: most names are short, and sets of fields hold, copy and compare many.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes of a name that needs no memory of its own.
const INLINE_BYTES: usize = 22;

/// An immutable text. Ordered as `str` is.
#[derive(Clone)]
pub struct Name(Text);

#[derive(Clone)]
enum Text {
    Short(u8, [u8; INLINE_BYTES]),
    Long(Arc<str>),
}

impl Name {
    fn bytes(&self) -> &[u8] {
        match &self.0 {
            Text::Short(len, bytes) => &bytes[..usize::from(*len)],
            Text::Long(text) => text.as_bytes(),
        }
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Name {
        let mut bytes = [0; INLINE_BYTES];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(text.as_bytes());
                Name(Text::Short(len, bytes))
            }
            _ => Name(Text::Long(text.into())),
        }
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Text::Short(..) => std::str::from_utf8(self.bytes()).expect("it was made from a whole text"),
            Text::Long(text) => text,
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Name {}

impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        self.bytes().cmp(other.bytes())
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_length_are_what_they_were_and_ordered_as_texts() {
        let texts: Vec<String> = (0..60).map(|n| "añb".repeat(n / 3) + &"z".repeat(n % 3)).collect();
        for one in &texts {
            assert_eq!(&*Name::from(one.as_str()), one);
            for other in &texts {
                let order = Name::from(one.as_str()).cmp(&Name::from(other.as_str()));
                assert_eq!(order, one.cmp(other), "{one:?} {other:?}");
            }
        }
        assert!(size_of::<Name>() <= size_of::<String>());
    }
}
