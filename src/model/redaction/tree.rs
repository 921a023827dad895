//! Paths of fields as a tree, gone down beside a document.

use crate::model::bson::{Doc, Value, kind};
use crate::model::value::DEPTH_MAX;

/// A dotted path, part by part.
pub type FieldPath = Vec<Box<str>>;

/// A path as configured.
///
/// # Errors
/// Why it is none, as a clause about the path.
pub fn parse_path(dotted: &str) -> Result<FieldPath, &'static str> {
    if dotted.trim().is_empty() {
        return Err("is empty");
    }
    if dotted.contains('\0') {
        return Err("holds U+0000, which no field's name does");
    }
    let path: FieldPath = dotted.split('.').map(Into::into).collect();
    if path.iter().any(|part| part.is_empty()) { Err("has an empty part") } else { Ok(path) }
}

/// Whether `path` is `outer` or lies inside it.
pub fn leads_into(outer: &[Box<str>], path: &[Box<str>]) -> bool {
    path.starts_with(outer)
}

/// Whether a document has a field at a path, through arrays, too.
pub fn is_there(document: Doc<'_>, path: &[Box<str>]) -> bool {
    let Some((name, rest)) = path.split_first() else { return false };
    let named = document.elements().flatten().filter(|(key, _)| *key == name.as_bytes());
    named.map(|(_, value)| value).any(|value| rest.is_empty() || is_inside(value, rest, 0))
}

fn is_inside(value: Value<'_>, path: &[Box<str>], depth: usize) -> bool {
    let Some(inner) = value.as_document().filter(|_| depth <= DEPTH_MAX) else { return false };
    if value.kind == kind::DOCUMENT {
        return is_there(inner, path);
    }
    inner.elements().flatten().any(|(_, item)| is_inside(item, path, depth + 1))
}

/// What is told of fields, by their paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tree<L> {
    /// Of the whole field.
    Leaf(L),
    /// Of fields inside it.
    Node(Node<L>),
}

/// Fields of one document, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node<L>(Vec<(Box<str>, Tree<L>)>);

impl<L> Default for Node<L> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<L> Node<L> {
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a leaf. What is told of a whole field takes the place of what is told of its inside,
    /// and of two leaves at one path the first one stays.
    pub fn insert(&mut self, path: &[Box<str>], leaf: L) {
        let Some((name, rest)) = path.split_first() else { return };
        let place = self.place(name.as_bytes());
        let tree = match place {
            Ok(place) => self.0.get_mut(place).map(|(_, tree)| tree),
            Err(place) => {
                self.0.insert(place, (name.clone(), Tree::Node(Self::default())));
                self.0.get_mut(place).map(|(_, tree)| tree)
            }
        };
        match tree {
            Some(Tree::Node(node)) if !rest.is_empty() => node.insert(rest, leaf),
            Some(tree @ Tree::Node(_)) => *tree = Tree::Leaf(leaf),
            Some(Tree::Leaf(_)) | None => {}
        }
    }

    /// What is told of a field.
    pub fn child(&self, key: &[u8]) -> Option<&Tree<L>> {
        self.place(key).ok().and_then(|place| self.0.get(place)).map(|(_, tree)| tree)
    }

    /// What is told of a field; one whose name holds dots is taken for the path it spells, too.
    pub fn child_spelt(&self, key: &[u8]) -> Option<&Tree<L>> {
        let found = self.child(key);
        if found.is_some() || memchr::memchr(b'.', key).is_none() {
            return found;
        }
        let mut parts = key.split(|byte| *byte == b'.');
        let mut tree = self.child(parts.next()?)?;
        for part in parts {
            match tree {
                Tree::Leaf(_) => break,
                Tree::Node(node) => tree = node.child(part)?,
            }
        }
        Some(tree)
    }

    fn place(&self, key: &[u8]) -> Result<usize, usize> {
        self.0.binary_search_by(|(name, _)| name.as_bytes().cmp(key))
    }
}
