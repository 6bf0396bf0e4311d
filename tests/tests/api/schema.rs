//! Names of all fields of a type that serde reads, with those of the types in it.
//!
//! The type is read from a source that has every field: each list has one element, each enum its
//! first variant. A derived implementation asks for a struct by the names of its fields.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Result, bail};
use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

/// Most optional values that cannot be read and are left out, each after a further pass.
const MOST: usize = 64;

/// The fields of `T`, as `linux.resources.cpu.shares`. Names of maps and places in lists are left out.
pub(crate) fn fields<T: for<'de> Deserialize<'de>>() -> Result<BTreeSet<String>> {
    let seen = Seen::default();
    for _ in 0..MOST {
        seen.path.borrow_mut().clear();
        match T::deserialize(Source { seen: &seen }) {
            Ok(_) => return Ok(seen.fields.into_inner()),
            // A value with rules of its own: nothing of it is needed.
            Err(_) => {
                let path = seen.path.borrow().join(".");
                if !seen.left_out.borrow_mut().insert(path.clone()) {
                    bail!("{path} cannot be left out");
                }
            }
        }
    }
    bail!("too many values cannot be read: {:?}", seen.left_out)
}

#[derive(Default)]
struct Seen {
    /// The field that is read just now, or the one that failed.
    path: RefCell<Vec<&'static str>>,
    fields: RefCell<BTreeSet<String>>,
    left_out: RefCell<BTreeSet<String>>,
}

#[derive(Clone, Copy)]
struct Source<'a> {
    seen: &'a Seen,
}

#[derive(Debug)]
struct Unread;

impl fmt::Display for Unread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("not read")
    }
}

impl std::error::Error for Unread {}

impl serde::de::Error for Unread {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl<'de> Deserializer<'de> for Source<'_> {
    type Error = Unread;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Unread> {
        Err(Unread)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        visitor.visit_bool(true)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        visitor.visit_i64(1)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        visitor.visit_u64(1)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        visitor.visit_i32(1)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        visitor.visit_u32(1)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        visitor.visit_u16(1)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        visitor.visit_u8(1)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        visitor.visit_str("x")
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        visitor.visit_str("x")
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        let path = self.seen.path.borrow().join(".");
        let left_out = self.seen.left_out.borrow().iter().any(|out| *out == path);
        if left_out { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Unread> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        visitor.visit_seq(Once { source: self, done: false })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        visitor.visit_map(Once { source: self, done: false })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unread> {
        visitor.visit_map(Fields { source: self, rest: fields })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unread> {
        visitor.visit_enum(First { variant: variants.first().ok_or(Unread)? })
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
        ignored_any
    }
}

/// A list or a map with one element.
struct Once<'a> {
    source: Source<'a>,
    done: bool,
}

impl<'de> SeqAccess<'de> for Once<'_> {
    type Error = Unread;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Unread> {
        if std::mem::replace(&mut self.done, true) {
            return Ok(None);
        }
        seed.deserialize(self.source).map(Some)
    }
}

impl<'de> MapAccess<'de> for Once<'_> {
    type Error = Unread;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Unread> {
        if std::mem::replace(&mut self.done, true) {
            return Ok(None);
        }
        seed.deserialize(self.source).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Unread> {
        seed.deserialize(self.source)
    }
}

/// All fields of a struct.
struct Fields<'a> {
    source: Source<'a>,
    rest: &'static [&'static str],
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Unread;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Unread> {
        let Some(name) = self.rest.first() else { return Ok(None) };
        seed.deserialize(StrDeserializer::<Unread>::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Unread> {
        let (name, rest) = self.rest.split_first().ok_or_else(|| Unread::custom("no field"))?;
        self.rest = rest;
        let seen = self.source.seen;
        seen.path.borrow_mut().push(name);
        seen.fields.borrow_mut().insert(seen.path.borrow().join("."));
        // After an error the path stays, and tells which field it was.
        let value = seed.deserialize(self.source)?;
        seen.path.borrow_mut().pop();
        Ok(value)
    }
}

/// The first variant of an enum.
struct First {
    variant: &'static str,
}

impl<'de> EnumAccess<'de> for First {
    type Error = Unread;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Unread> {
        let variant = seed.deserialize(StrDeserializer::<Unread>::new(self.variant))?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for First {
    type Error = Unread;

    fn unit_variant(self) -> Result<(), Unread> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Unread> {
        Err(Unread)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Unread> {
        Err(Unread)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Unread> {
        Err(Unread)
    }
}
