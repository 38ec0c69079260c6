//! Files of protobuf editions, for a pool that knows proto2 and proto3 only.
//!
//! A file is handed on as proto2, whose syntax has everything that editions have; what its features say is kept beside, by the full names
//! of fields and enums. Features come from the edition's defaults, then the file, the messages around, and the element itself.

use super::error::CatalogError;
use crate::schema::Traits;
use crate::wire::{self, Raw, Reader};

/// `google.protobuf.Edition`: the ones whose features are known.
const EDITION_2023: u64 = 1000;
const EDITION_2024: u64 = 1001;

/// Field numbers of `google/protobuf/descriptor.proto`.
mod number {
    pub(super) const FILE_PACKAGE: u32 = 2;
    pub(super) const FILE_MESSAGE: u32 = 4;
    pub(super) const FILE_ENUM: u32 = 5;
    pub(super) const FILE_EXTENSION: u32 = 7;
    pub(super) const FILE_OPTIONS: u32 = 8;
    pub(super) const FILE_SYNTAX: u32 = 12;
    pub(super) const FILE_EDITION: u32 = 14;
    pub(super) const MESSAGE_FIELD: u32 = 2;
    pub(super) const MESSAGE_NESTED: u32 = 3;
    pub(super) const MESSAGE_ENUM: u32 = 4;
    pub(super) const MESSAGE_EXTENSION: u32 = 6;
    pub(super) const MESSAGE_OPTIONS: u32 = 7;
    pub(super) const MESSAGE_ONEOF: u32 = 8;
    pub(super) const FIELD_OPTIONS: u32 = 8;
    pub(super) const FIELD_ONEOF_INDEX: u32 = 9;
    pub(super) const ONEOF_OPTIONS: u32 = 2;
    pub(super) const ENUM_OPTIONS: u32 = 3;
    pub(super) const FILE_OPTIONS_FEATURES: u32 = 50;
    pub(super) const MESSAGE_OPTIONS_FEATURES: u32 = 12;
    pub(super) const FIELD_OPTIONS_FEATURES: u32 = 21;
    pub(super) const ONEOF_OPTIONS_FEATURES: u32 = 1;
    pub(super) const ENUM_OPTIONS_FEATURES: u32 = 7;
}

/// The features that JSON and the wire depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Features {
    implicit: bool,
    closed: bool,
    packed: bool,
    delimited: bool,
}

impl Features {
    /// The defaults of editions 2023 and 2024.
    const DEFAULT: Self = Self {
        implicit: false,
        closed: false,
        packed: true,
        delimited: false,
    };

    /// With what a `FeatureSet` changes.
    fn with(mut self, set: &[u8]) -> Result<Self, CatalogError> {
        let mut reader = Reader::new(set);
        while let Some((number, raw)) = next(&mut reader)? {
            let Raw::Varint(value) = raw else { continue };
            match (number, value) {
                // EXPLICIT, IMPLICIT, LEGACY_REQUIRED: a field that must be there is one that may be seen to be missing.
                (1, _) => self.implicit = value == 2,
                // OPEN, CLOSED
                (2, _) => self.closed = value == 2,
                // PACKED, EXPANDED
                (3, _) => self.packed = value == 1,
                // LENGTH_PREFIXED, DELIMITED
                (5, _) => self.delimited = value == 2,
                _ => {}
            }
        }
        Ok(self)
    }

    /// With what an element's options change.
    fn of(self, element: &[u8], options: u32, features: u32) -> Result<Self, CatalogError> {
        // Options may come in pieces.
        let mut found = self;
        for options in parts(element, options)? {
            for set in parts(options, features)? {
                found = found.with(set)?;
            }
        }
        Ok(found)
    }
}

fn next<'a>(reader: &mut Reader<'a>) -> Result<Option<(u32, Raw<'a>)>, CatalogError> {
    reader.next_field().map_err(|_| CatalogError::NotASet)
}

/// All values of one field that are bytes.
fn parts(message: &[u8], number: u32) -> Result<Vec<&[u8]>, CatalogError> {
    let (mut reader, mut out) = (Reader::new(message), Vec::new());
    while let Some((found, raw)) = next(&mut reader)? {
        if let (Raw::Bytes(bytes), true) = (raw, found == number) {
            out.push(bytes);
        }
    }
    Ok(out)
}

fn text(message: &[u8], number: u32) -> Result<&str, CatalogError> {
    let last = parts(message, number)?.pop().unwrap_or_default();
    std::str::from_utf8(last).map_err(|_| CatalogError::NotASet)
}

/// A file as the pool takes it: as it is, or as proto2 with its features added to `traits`.
///
/// # Errors
/// The file has a syntax or an edition that nobody knows here.
pub(super) fn lower(name: &str, file: &[u8], traits: &mut Traits) -> Result<Option<Vec<u8>>, CatalogError> {
    match text(file, number::FILE_SYNTAX)? {
        "" | "proto2" | "proto3" => return Ok(None),
        "editions" => {}
        syntax => {
            return Err(CatalogError::Syntax {
                file: name.to_owned(),
                syntax: syntax.chars().take(40).collect(),
            });
        }
    }
    let edition = match wire::find(file, &[number::FILE_EDITION]) {
        Ok(Some(Raw::Varint(edition))) => edition,
        _ => 0,
    };
    if !(EDITION_2023..=EDITION_2024).contains(&edition) {
        return Err(CatalogError::Syntax {
            file: name.to_owned(),
            syntax: format!("edition {edition}"),
        });
    }
    let features = Features::DEFAULT.of(file, number::FILE_OPTIONS, number::FILE_OPTIONS_FEATURES)?;
    let package = text(file, number::FILE_PACKAGE)?;
    let mut found = Found { traits };
    found.enums(file, number::FILE_ENUM, package, features)?;
    found.extensions(file, number::FILE_EXTENSION, package, features)?;
    for message in parts(file, number::FILE_MESSAGE)? {
        found.message(message, package, features, 0)?;
    }
    as_proto2(file).map(Some)
}

/// The file without its edition, and with another syntax.
fn as_proto2(file: &[u8]) -> Result<Vec<u8>, CatalogError> {
    let (mut reader, mut out) = (Reader::new(file), Vec::with_capacity(file.len()));
    while let Some((number, raw)) = next(&mut reader)? {
        match raw {
            Raw::Bytes(bytes) if number != number::FILE_SYNTAX => wire::put_bytes(&mut out, number, bytes),
            Raw::Varint(value) if number != number::FILE_EDITION => {
                wire::put_tag(&mut out, number, 0);
                wire::put_varint(&mut out, value);
            }
            _ => {}
        }
    }
    wire::put_bytes(&mut out, number::FILE_SYNTAX, b"proto2");
    Ok(out)
}

/// How deep messages may be declared in each other.
const MAX_NESTING: usize = 64;

struct Found<'t> {
    traits: &'t mut Traits,
}

impl Found<'_> {
    fn message(&mut self, message: &[u8], scope: &str, features: Features, depth: usize) -> Result<(), CatalogError> {
        if depth > MAX_NESTING {
            return Err(CatalogError::NotASet);
        }
        let name = within(scope, text(message, 1)?);
        let features = features.of(message, number::MESSAGE_OPTIONS, number::MESSAGE_OPTIONS_FEATURES)?;
        self.enums(message, number::MESSAGE_ENUM, &name, features)?;
        self.extensions(message, number::MESSAGE_EXTENSION, &name, features)?;
        let oneofs: Vec<Features> = parts(message, number::MESSAGE_ONEOF)?
            .into_iter()
            .map(|oneof| features.of(oneof, number::ONEOF_OPTIONS, number::ONEOF_OPTIONS_FEATURES))
            .collect::<Result<_, _>>()?;
        for field in parts(message, number::MESSAGE_FIELD)? {
            let oneof = match wire::find(field, &[number::FIELD_ONEOF_INDEX]) {
                Ok(Some(Raw::Varint(index))) => usize::try_from(index).ok().and_then(|index| oneofs.get(index)),
                _ => None,
            };
            let outer = oneof.copied().unwrap_or(features);
            let own = self.field(field, &name, outer)?;
            // A member of a oneof can always be told from one that is not set.
            if own.implicit && oneof.is_none() {
                self.traits.implicit.insert(within(&name, text(field, 1)?));
            }
        }
        for nested in parts(message, number::MESSAGE_NESTED)? {
            self.message(nested, &name, features, depth + 1)?;
        }
        Ok(())
    }

    fn field(&mut self, field: &[u8], scope: &str, outer: Features) -> Result<Features, CatalogError> {
        let features = outer.of(field, number::FIELD_OPTIONS, number::FIELD_OPTIONS_FEATURES)?;
        let name = within(scope, text(field, 1)?);
        if features.packed {
            self.traits.packed.insert(name.clone());
        }
        if features.delimited {
            self.traits.delimited.insert(name);
        }
        Ok(features)
    }

    fn extensions(&mut self, scope: &[u8], number: u32, name: &str, features: Features) -> Result<(), CatalogError> {
        for extension in parts(scope, number)? {
            self.field(extension, name, features)?;
        }
        Ok(())
    }

    fn enums(&mut self, scope: &[u8], number: u32, name: &str, features: Features) -> Result<(), CatalogError> {
        for declared in parts(scope, number)? {
            let own = features.of(declared, number::ENUM_OPTIONS, number::ENUM_OPTIONS_FEATURES)?;
            if !own.closed {
                self.traits.open.insert(within(name, text(declared, 1)?));
            }
        }
        Ok(())
    }
}

fn within(scope: &str, name: &str) -> String {
    if scope.is_empty() {
        name.to_owned()
    } else {
        format!("{scope}.{name}")
    }
}
