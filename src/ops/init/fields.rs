//! What is seen of the fields of a collection's documents: how often each is there, of which kinds
//! its values are, and which columns would take them.
//!
//! Counts only: no value is kept, nor anything it could be told from.

use std::collections::{BTreeSet, HashMap};

use twox_hash::XxHash3_64;

use crate::model::bson::{Doc, Value, kind};
use crate::model::value::{Bound, ColumnType, Fit, Zone, encode_column};

/// How deep a field may lie to get a column of its own: `address`, `address.city`,
/// `address.geo.latitude`; in an array's element as in a document.
const DEPTH_MAX: usize = 3;

/// More fields than these of a collection are not told apart.
const FIELDS_MAX: usize = 20_000;

/// More different texts than these are no list of choices.
pub const CHOICES_MAX: usize = 12;

/// A longer text is no choice of a list.
const CHOICE_BYTES_MAX: usize = 40;

/// What an encoder may write when a column is tried: a value that is larger fits all the same.
const TRIAL: Bound = Bound { fields: 100_000, end: 1 << 20 };

/// Kinds of values, as far as they decide a column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    Boolean,
    Whole,
    /// A double. Whole ones too: who writes 10.0 may write 10.5.
    Double,
    Decimal,
    Text,
    ObjectId,
    Date,
    /// An array whose items are all texts, or null, and one is a text.
    Texts,
    EmptyArray,
    Array,
    Document,
    Binary,
    /// What only JSON takes: regular expressions, timestamps, code.
    Rare,
}

/// The columns that a value of each family is tried against.
const fn trials(family: Family) -> &'static [ColumnType] {
    use ColumnType::{
        Bigint, Boolean, Date, Double, Integer, Numeric, Text, TextArray, Timestamptz,
    };
    match family {
        Family::Boolean => &[Boolean, Text],
        Family::Whole => &[Integer, Bigint, Double, Numeric, Text],
        Family::Double | Family::Decimal => &[Double, Numeric, Text],
        Family::Text | Family::ObjectId => &[Text],
        Family::Date => &[Date, Timestamptz, Text],
        Family::Texts | Family::EmptyArray => &[TextArray],
        Family::Array | Family::Document | Family::Binary | Family::Rare => &[],
    }
}

/// One field, or all documents of one.
#[derive(Debug, Default)]
pub struct Field {
    /// In how many documents it has a value.
    pub present: u64,
    /// In how many it is null.
    pub nulls: u64,
    families: Vec<(Family, u64)>,
    fits: Vec<(ColumnType, u64)>,
    /// Whole numbers that leave an `integer` little room to grow.
    pub large: u64,
    pub midnights: u64,
    /// How many of its dates begin a day in each of the zones that are asked for.
    pub days_in: Vec<(Zone, u64)>,
    hours: BTreeSet<i64>,
    choices: BTreeSet<u64>,
    are_choices_over: bool,
    /// Fields of the documents in it, in the order in which they were first seen until they are put
    /// in that of the documents.
    pub children: Vec<(Box<str>, Self)>,
    places: HashMap<Box<str>, usize>,
    /// Fields that no column can name: empty or dotted keys, keys that are not UTF-8.
    pub unnamed: bool,
    /// Of the arrays in it, unless it is in an array itself: what they hold.
    pub elements: Option<Box<ArrayElements>>,
    /// The document, or the element, in which it was last met, so that a key that stands twice
    /// counts once.
    met_in: u64,
    /// Its places in the documents that hold it, added up; and how many these are.
    stood_at: u64,
    met: u64,
}

/// What all the arrays of one field hold.
#[derive(Debug, Default)]
pub struct ArrayElements {
    /// How many, but for nulls.
    pub number: u64,
    /// Those that are documents.
    pub documents: Field,
}

/// The fields of one collection.
#[derive(Debug, Default)]
pub struct Fields {
    pub documents: u64,
    pub root: Field,
    /// Of the documents.
    pub known: KnownFields,
    /// Of arrays' elements.
    pub known_in_arrays: KnownFields,
    /// Whose days dates may be.
    zones: Vec<Zone>,
    /// Documents and elements so far.
    turn: u64,
}

/// How many fields are told apart.
#[derive(Debug, Clone, Copy, Default)]
pub struct KnownFields {
    number: usize,
    /// There were more.
    pub is_over: bool,
}

impl KnownFields {
    const fn has_room(&mut self) -> bool {
        if self.number == FIELDS_MAX {
            self.is_over = true;
        } else {
            self.number += 1;
        }
        !self.is_over
    }
}

/// Where fields are met.
#[derive(Debug, Clone, Copy)]
struct Place {
    turn: u64,
    depth: usize,
    is_in_array: bool,
}

impl Fields {
    pub fn of_zones(zones: &[Zone]) -> Self {
        Self { zones: zones.to_vec(), ..Self::default() }
    }

    pub fn observe(&mut self, document: Doc<'_>) {
        self.documents += 1;
        self.turn += 1;
        let mut root = std::mem::take(&mut self.root);
        root.present += 1;
        let place = Place { turn: self.turn, depth: 1, is_in_array: false };
        self.observe_children(&mut root, document, place);
        self.root = root;
    }

    /// Puts fields in the order of the documents, whichever of these were looked at first.
    pub fn put_in_order(&mut self) {
        self.root.put_in_order();
    }

    fn observe_children(&mut self, parent: &mut Field, document: Doc<'_>, place: Place) {
        for (stands_at, (key, value)) in (0..).zip(document.elements().flatten()) {
            let named = std::str::from_utf8(key).ok();
            let Some(name) = named.filter(|name| !name.contains('.') && !name.trim().is_empty())
            else {
                parent.unnamed = true;
                continue;
            };
            let known = if place.is_in_array { &mut self.known_in_arrays } else { &mut self.known };
            let Some(field) = parent.child(name, known) else { continue };
            if field.met_in == place.turn {
                continue;
            }
            field.met_in = place.turn;
            (field.stood_at, field.met) = (field.stood_at + stands_at, field.met + 1);
            field.observe(value, &self.zones);
            match (value.kind, value.as_document()) {
                (kind::DOCUMENT, Some(inner)) if place.depth < DEPTH_MAX => {
                    let place = Place { depth: place.depth + 1, ..place };
                    self.observe_children(field, inner, place);
                }
                (kind::ARRAY, Some(array)) if !place.is_in_array => {
                    self.observe_elements(field, array);
                }
                _ => {}
            }
        }
    }

    fn observe_elements(&mut self, field: &mut Field, array: Doc<'_>) {
        let mut elements = field.elements.take().unwrap_or_default();
        for (_, element) in array.elements().flatten() {
            if matches!(element.kind, kind::NULL | kind::UNDEFINED) {
                continue;
            }
            elements.number += 1;
            let document = element.as_document().filter(|_| element.kind == kind::DOCUMENT);
            if let Some(document) = document {
                self.turn += 1;
                elements.documents.present += 1;
                let place = Place { turn: self.turn, depth: 1, is_in_array: true };
                self.observe_children(&mut elements.documents, document, place);
            }
        }
        field.elements = Some(elements);
    }
}

impl Field {
    /// By their mean place in the documents.
    fn put_in_order(&mut self) {
        let mean =
            |field: &Self| u128::from(field.stood_at) * 1_000_000 / u128::from(field.met.max(1));
        self.children.sort_by(|(a, x), (b, y)| (mean(x), a).cmp(&(mean(y), b)));
        let elements = self.elements.as_mut().map(|elements| &mut elements.documents);
        for child in self.children.iter_mut().map(|(_, child)| child).chain(elements) {
            child.put_in_order();
        }
    }

    /// The field of this name in its documents; none where no more are told apart.
    fn child(&mut self, name: &str, known: &mut KnownFields) -> Option<&mut Self> {
        let place = match self.places.get(name) {
            Some(place) => *place,
            None if !known.has_room() => return None,
            None => {
                self.children.push((name.into(), Self::default()));
                self.places.insert(name.into(), self.children.len() - 1);
                self.children.len() - 1
            }
        };
        self.children.get_mut(place).map(|(_, field)| field)
    }

    fn observe(&mut self, value: Value<'_>, zones: &[Zone]) {
        if matches!(value.kind, kind::NULL | kind::UNDEFINED) {
            self.nulls += 1;
            return;
        }
        self.present += 1;
        let family = family(value);
        add(&mut self.families, family);
        let mut scratch = Vec::new();
        for column in trials(family) {
            scratch.clear();
            // A text is not written to be told that it fits.
            let fit = match family {
                Family::Text => Fit::Value,
                _ => encode_column(Some(value), *column, TRIAL, &mut scratch),
            };
            if matches!(fit, Fit::Value | Fit::TooLarge) {
                add(&mut self.fits, *column);
            }
        }
        match family {
            Family::Text => self.observe_choice(value.as_text().unwrap_or_default()),
            Family::Date => self.observe_time(value.as_date().unwrap_or_default(), zones),
            Family::Whole => {
                let number = value.as_i32().map(i64::from).or_else(|| value.as_i64());
                let is_large = number.is_some_and(|n| n.unsigned_abs() > 1 << 30);
                self.large += u64::from(is_large);
            }
            _ => {}
        }
    }

    fn observe_choice(&mut self, text: &[u8]) {
        self.are_choices_over |= text.len() > CHOICE_BYTES_MAX;
        if !self.are_choices_over {
            self.choices.insert(XxHash3_64::oneshot(text));
            self.are_choices_over = self.choices.len() > CHOICES_MAX;
        }
    }

    fn observe_time(&mut self, millis: i64, zones: &[Zone]) {
        const HOUR: i64 = 3_600_000;
        let in_day = millis.rem_euclid(24 * HOUR);
        self.midnights += u64::from(in_day == 0);
        if self.days_in.is_empty() {
            self.days_in = zones.iter().map(|zone| (*zone, 0)).collect();
        }
        for (zone, count) in &mut self.days_in {
            *count += u64::from(Zone::begins_a_day(Some(*zone), millis));
        }
        // −1 stands for every time that is not on the hour.
        self.hours.insert(if in_day % HOUR == 0 { in_day / HOUR } else { -1 });
    }

    /// How many values are of a family.
    pub fn of(&self, family: Family) -> u64 {
        self.families.iter().find(|(known, _)| *known == family).map_or(0, |(_, count)| *count)
    }

    pub fn families(&self) -> impl Iterator<Item = (Family, u64)> + '_ {
        self.families.iter().copied()
    }

    /// Whether every value is of one of these families.
    pub fn is_only(&self, families: &[Family]) -> bool {
        self.present > 0
            && families.iter().map(|family| self.of(*family)).sum::<u64>() == self.present
    }

    /// How many values a column of this type takes.
    pub fn fitting(&self, column: ColumnType) -> u64 {
        if column == ColumnType::Jsonb {
            return self.present;
        }
        self.fits.iter().find(|(known, _)| *known == column).map_or(0, |(_, count)| *count)
    }

    /// How many different texts there are, if they are few, short and come again.
    pub fn choices(&self) -> Option<usize> {
        let number = self.choices.len();
        let come_again = u64::try_from(number * 4).is_ok_and(|often| often <= self.present);
        (!self.are_choices_over && number > 0 && come_again && self.present >= 20).then_some(number)
    }

    /// Whether the dates read like days that somebody's local midnight stands for: on the hour, at
    /// two hours next to each other at the most, as where summer has a time of its own.
    pub fn are_local_midnights(&self) -> bool {
        let mut hours = self.hours.iter();
        match (hours.next(), hours.next(), hours.next()) {
            (Some(hour), None, None) => *hour > 0,
            (Some(one), Some(other), None) => *one >= 0 && (other - one == 1 || other - one == 23),
            _ => false,
        }
    }
}

fn add<T: PartialEq>(counts: &mut Vec<(T, u64)>, what: T) {
    match counts.iter_mut().find(|(known, _)| *known == what) {
        Some((_, count)) => *count += 1,
        None => counts.push((what, 1)),
    }
}

fn family(value: Value<'_>) -> Family {
    match value.kind {
        kind::BOOLEAN => Family::Boolean,
        kind::INT32 | kind::INT64 => Family::Whole,
        kind::DOUBLE => Family::Double,
        kind::DECIMAL128 => Family::Decimal,
        kind::STRING | kind::SYMBOL => Family::Text,
        kind::OBJECT_ID => Family::ObjectId,
        kind::DATE => Family::Date,
        kind::DOCUMENT => Family::Document,
        kind::BINARY => Family::Binary,
        kind::ARRAY => family_of_array(value),
        _ => Family::Rare,
    }
}

fn family_of_array(value: Value<'_>) -> Family {
    let (mut texts, mut items) = (0_u64, 0_u64);
    for (_, item) in value.as_document().into_iter().flat_map(|doc| doc.elements()).flatten() {
        items += 1;
        match item.kind {
            kind::STRING | kind::SYMBOL | kind::OBJECT_ID => texts += 1,
            kind::NULL | kind::UNDEFINED => {}
            _ => return Family::Array,
        }
    }
    match (texts, items) {
        (_, 0) => Family::EmptyArray,
        (0, _) => Family::Array,
        _ => Family::Texts,
    }
}
