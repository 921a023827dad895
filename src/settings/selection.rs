//! What a stream leaves out of its documents and hides in them: `include`, `exclude`, and the masks
//! of its columns, judged together.

use config::Value;

use super::child::Child;
use super::columns::Column;
use super::entry::Entry;
use super::limits::MASK_KEY;
use crate::model::redaction::{
    FieldPath, Hidden, Mask, MaskKey, Redaction, leads_into, parse_path,
};

/// Reads `include` and `exclude`, and judges them beside the columns.
pub(super) fn read(
    entry: &mut Entry<'_>,
    columns: &[Column],
    children: &[Child],
    mask_key: Option<&MaskKey>,
) -> Redaction {
    let of_children = children.iter().flat_map(Child::columns_from_root);
    let columns: Vec<Column> = columns.iter().cloned().chain(of_children).collect();
    let include = read_paths(entry, "include");
    let exclude = read_paths(entry, "exclude");
    let masked = columns.iter().filter_map(|column| Some((column, column.mask?)));
    let masks =
        masked.flat_map(|(column, mask)| column.paths.iter().map(move |path| (path.clone(), mask)));
    let hidden = Hidden { include, exclude, masks: masks.collect() };
    let problems = problems(&hidden, &columns, mask_key.is_some());
    let is_right = problems.is_empty();
    for (key, message) in problems {
        entry.problem(key, &message);
    }
    if is_right { Redaction::new(&hidden, mask_key) } else { Redaction::default() }
}

fn read_paths(entry: &mut Entry<'_>, key: &'static str) -> Vec<FieldPath> {
    let Some(value) = entry.table.remove(key) else { return Vec::new() };
    let Ok(elements) = value.into_array() else {
        entry.problem(key, "must be a list of field paths: [\"email\", \"address.street\"]");
        return Vec::new();
    };
    let mut paths = Vec::new();
    for text in elements.into_iter().map(Value::into_string) {
        match text.as_deref().map(|text| (text, parse_path(text))) {
            Ok((_, Ok(path))) => paths.push(path),
            Ok((text, Err(why))) => entry.problem(key, &format!("{text:?} {why}")),
            Err(_) => entry.problem(key, "must be a list of field paths"),
        }
    }
    paths
}

/// What is wrong, each with the stream's key that it is wrong in.
fn problems(hidden: &Hidden, columns: &[Column], has_key: bool) -> Vec<(&'static str, String)> {
    let Hidden { include, exclude, .. } = hidden;
    let mut problems = Vec::new();
    for (key, paths) in [("include", include), ("exclude", exclude)] {
        problems.extend(overlap(paths).map(|message| (key, message)));
        problems.extend(of_the_id(key, paths).map(|message| (key, message)));
    }
    for path in exclude {
        let within = include.iter().find(|kept| leads_into(path, kept));
        problems.extend(within.map(|kept| {
            let message = format!("{} is in include, too ({})", shown(path), shown(kept));
            ("exclude", message)
        }));
    }
    for column in columns {
        problems.extend(unread(column, hidden));
        if column.mask.is_some() && column.paths.iter().any(is_id) {
            let message = format!("{:?} masks _id, which is always kept as it is", column.name);
            problems.push(("column", message));
        }
    }
    problems.extend(quarrel(columns).map(|message| ("column", message)));
    let hashed = columns.iter().find(|column| column.mask == Some(Mask::Hash));
    problems.extend(hashed.filter(|_| !has_key).map(|column| {
        let message = format!(
            "{:?} has mask = \"hash\", which needs {MASK_KEY}: give it, or name a file that holds \
             it in TIDEMARK__RECORD__MASK_KEY_FILE",
            column.name
        );
        ("column", message)
    }));
    problems
}

fn shown(path: &FieldPath) -> String {
    format!("{:?}", path.join("."))
}

fn is_id(path: &FieldPath) -> bool {
    path.first().is_some_and(|head| &**head == "_id")
}

/// A path that stands inside another of its list.
fn overlap(paths: &[FieldPath]) -> Option<String> {
    let pairs = paths.iter().enumerate().flat_map(|(place, one)| {
        let others = paths.iter().enumerate().filter(move |(other, _)| *other != place);
        others.map(move |(_, other)| (one, other))
    });
    let mut inside = pairs.filter(|(one, other)| leads_into(one, other));
    let (outer, path) = inside.next()?;
    Some(if outer == path {
        format!("names {} twice", shown(path))
    } else {
        format!("names {}, which is part of {}: keep one of the two", shown(path), shown(outer))
    })
}

fn of_the_id(key: &str, paths: &[FieldPath]) -> Option<String> {
    let path = paths.iter().find(|path| is_id(path))?;
    let is_needless = key == "include" && path.len() == 1;
    (!is_needless).then(|| format!("names {}: _id is always kept as it is", shown(path)))
}

/// A column that would never be read.
fn unread(column: &Column, hidden: &Hidden) -> Option<(&'static str, String)> {
    let Hidden { include, exclude, .. } = hidden;
    column.paths.iter().find_map(|path| {
        if let Some(out) = exclude.iter().find(|out| leads_into(out, path)) {
            let (name, field) = (&column.name, shown(path));
            let message = format!("leaves out {}, but column {name:?} reads {field}", shown(out));
            return Some(("exclude", message));
        }
        let is_kept = |kept: &FieldPath| leads_into(kept, path) || leads_into(path, kept);
        let is_read = include.is_empty() || is_id(path) || include.iter().any(is_kept);
        (!is_read).then(|| {
            let (name, field) = (&column.name, shown(path));
            ("include", format!("lacks {field}, which column {name:?} reads"))
        })
    })
}

/// Two columns of one field, or of one inside another, that would have it otherwise.
fn quarrel(columns: &[Column]) -> Option<String> {
    let paths = |column: &'_ Column| column.paths.clone();
    let all: Vec<(&Column, FieldPath)> = columns
        .iter()
        .flat_map(|column| paths(column).into_iter().map(move |path| (column, path)))
        .collect();
    let pairs = all.iter().flat_map(|one| all.iter().map(move |other| (one, other)));
    let mut wrong = pairs.filter(|((one, outer), (other, path))| {
        let same = outer == path && one.mask != other.mask;
        let inside = outer.len() < path.len() && leads_into(outer, path) && one.mask.is_some();
        same || inside
    });
    let ((one, outer), (other, path)) = wrong.next()?;
    let (one, other, outer) = (&one.name, &other.name, shown(outer));
    Some(if outer == shown(path) {
        format!("{one:?} and {other:?} both read {outer}: give both the same mask")
    } else {
        let path = shown(path);
        format!("{one:?} masks {outer} whole, so that {other:?} cannot read {path} in it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::ColumnType;

    fn column(name: &str, field: &str, mask: Option<Mask>) -> Column {
        let paths = vec![parse_path(field).unwrap()];
        let (name, kind, required) = (name.to_owned(), ColumnType::Text, false);
        Column { name, paths, kind, required, mask, zone: None }
    }

    fn told(include: &[&str], exclude: &[&str], columns: &[Column], has_key: bool) -> Vec<String> {
        let paths = |list: &[&str]| list.iter().map(|path| parse_path(path).unwrap()).collect();
        let hidden = Hidden { include: paths(include), exclude: paths(exclude), masks: Vec::new() };
        let problems = problems(&hidden, columns, has_key).into_iter();
        problems.map(|(key, message)| format!("{key} {message}")).collect()
    }

    #[test]
    fn what_contradicts_itself_or_a_column_is_named_with_both() {
        let a_b = [column("c", "a.b", None)];
        let no = [""; 0];
        assert_eq!(told(&["a"], &["a.c"], &a_b, false), no, "part of what is kept is left out");
        assert_eq!(told(&["a.b.c", "_id"], &[], &a_b, false), no, "some of the field is kept");
        for (include, exclude, says) in [
            (&[][..], &["a"][..], "exclude leaves out \"a\", but column \"c\" reads \"a.b\""),
            (&["b"], &[], "include lacks \"a.b\", which column \"c\" reads"),
            (&[], &["x.y", "x"], "exclude names \"x.y\", which is part of \"x\""),
            (&["a", "a"], &[], "include names \"a\" twice"),
            (&["a", "x.y"], &["x"], "exclude \"x\" is in include, too (\"x.y\")"),
            (&[], &["_id"], "exclude names \"_id\": _id is always kept as it is"),
            (&["_id.x", "a"], &[], "include names \"_id.x\": _id is always kept as it is"),
        ] {
            let told = told(include, exclude, &a_b, false);
            assert!(told.len() == 1 && told[0].contains(says), "{told:?}");
        }
    }

    #[test]
    fn columns_of_one_field_share_its_mask_and_a_hash_wants_a_key() {
        let (hash, first) = (Some(Mask::Hash), Some(Mask::First(2)));
        let of = |columns: &[Column], has_key| told(&[], &[], columns, has_key);
        let same = [column("c", "a", hash), column("d", "a", hash)];
        assert_eq!(of(&same, true), [""; 0]);
        assert!(of(&same, false)[0].contains("\"c\" has mask = \"hash\", which needs record.mask"));
        for (one, other, says) in [
            (column("c", "a", hash), column("d", "a", first), "both read \"a\": give both"),
            (column("c", "a", None), column("d", "a", hash), "both read \"a\": give both"),
            (column("c", "a", hash), column("d", "a.b", hash), "\"c\" masks \"a\" whole"),
            (column("c", "x", None), column("d", "_id", hash), "\"d\" masks _id"),
        ] {
            let told = of(&[one, other], true);
            assert!(told.len() == 1 && told[0].contains(says), "{told:?}");
        }
        let inner = [column("c", "a", None), column("d", "a.b", hash)];
        assert_eq!(of(&inner, true), [""; 0], "the outer one shows the inner one masked");
    }
}
