use bson::{Bson, DateTime, Decimal128, Document, doc};

use super::*;

fn holds(filter: &str, document: &Document) -> bool {
    let bytes = bson::serialize_to_vec(document).unwrap();
    let filter = Filter::parse(filter).unwrap().unwrap();
    filter.matches(Doc::new(&bytes).unwrap()).unwrap()
}

#[test]
fn what_is_not_supported_is_refused_by_name_and_place() {
    let refused = [
        ("[1]", "must be an object"),
        ("{\"a\": ", "is no Extended JSON: EOF while parsing"),
        ("{\"a\": 1} x", "is no Extended JSON: trailing characters"),
        ("{\"n\": {\"$gt\": 1}, \"n\": {\"$lt\": 5}}", "\"n\" is given twice"),
        ("{\"a\": {\"$regex\": \"^x\"}}", "a.$regex: $regex is not supported"),
        (
            "{\"a\": {\"$regularExpression\": {\"pattern\": \"x\", \"options\": \"\"}}}",
            "a: a regular expression is not supported as a value",
        ),
        ("{\"a.b\": {\"$size\": 1}}", "a.b.$size: $size is not supported; these are: $eq $ne"),
        ("{\"$nor\": [{\"a\": 1}]}", "$nor: $nor is not supported"),
        ("{\"$and\": [{\"a\": 1}, {\"b\": {\"$not\": 1}}]}", "$and[1].b.$not: $not is not"),
        ("{\"$or\": []}", "$or must be a list of conditions"),
        ("{\"a\": {\"$in\": 1}}", "a.$in must be a list of values"),
        ("{\"a\": {\"$in\": [{\"$minKey\": 1}]}}", "a.$in[0]: MinKey is not supported"),
        ("{\"a\": {\"$exists\": 1}}", "a.$exists must be true or false"),
        ("{\"a\": {\"$gt\": 1, \"b\": 2}}", "a.b: b is not supported"),
        ("{\"a.0\": 1}", "a.0: a place in an array cannot be part of a path"),
        ("{\"a..b\": 1}", "a..b: a part of the path is empty"),
        ("{\"a\": {\"$oid\": \"7\"}}", "is no Extended JSON: invalid value"),
    ];
    for (filter, why) in refused {
        let told = Filter::parse(filter).unwrap_err();
        assert!(told.contains(why), "{filter}: {told}");
    }
    assert_eq!(Filter::parse("{}").unwrap(), None);
}

#[test]
fn a_path_leads_through_documents_and_arrays_as_the_servers_does() {
    let document = doc! { "a": [1, { "b": 2 }, { "b": [3, 4] }, [5]], "c": Bson::Null, "d": 7 };
    let cases = [
        ("{\"a\": 1}", true),
        ("{\"a\": 5}", false),
        ("{\"a\": [5]}", true),
        ("{\"a.b\": 2}", true),
        ("{\"a.b\": 4}", true),
        ("{\"a.b\": [3, 4]}", true),
        ("{\"a.b\": {\"$gt\": 3, \"$lt\": 3}}", true),
        ("{\"c\": null}", true),
        ("{\"c.x\": null}", true),
        ("{\"e\": null}", true),
        ("{\"e\": {\"$in\": [1, null]}}", true),
        ("{\"d\": null}", false),
        ("{\"e\": {\"$exists\": true}}", false),
        ("{\"c\": {\"$exists\": true}}", true),
        ("{\"d\": {\"$ne\": 7}}", false),
        ("{\"d\": {\"$gt\": \"\"}}", false),
        ("{\"$or\": [{\"d\": 8}, {\"a.b\": 3}]}", true),
        ("{\"$and\": [{\"d\": 7}, {\"a.b\": 9}]}", false),
    ];
    for (filter, expected) in cases {
        assert_eq!(holds(filter, &document), expected, "{filter}");
    }
    let fields = Filter::parse("{\"a.b\": 1, \"$or\": [{\"c\": 1}, {\"a\": 2}]}").unwrap().unwrap();
    assert_eq!(fields.fields().into_iter().collect::<Vec<_>>(), ["a", "c"]);
}

#[test]
fn numbers_compare_by_their_value_whatever_their_type() {
    let decimal = |text: &str| text.parse::<Decimal128>().unwrap();
    for value in [Bson::Int32(7), Bson::Int64(7), Bson::Double(7.0), decimal("7.00").into()] {
        assert!(holds("{\"n\": {\"$in\": [1, 7]}}", &doc! { "n": value }));
    }
    let large = doc! { "n": 9_007_199_254_740_993_i64 };
    assert!(holds("{\"n\": {\"$gt\": 9007199254740992.0}}", &large), "no double is between");
    assert!(!holds("{\"n\": {\"$numberDouble\": \"NaN\"}}", &large));
    let nan = doc! { "n": f64::NAN };
    assert!(holds("{\"n\": {\"$gte\": {\"$numberDouble\": \"NaN\"}}}", &nan));
    assert!(!holds("{\"n\": {\"$lt\": 1}}", &nan));
    let day = doc! { "at": DateTime::from_millis(1_000) };
    assert!(holds("{\"at\": {\"$gte\": {\"$date\": \"1970-01-01T00:00:01Z\"}}}", &day));
    assert!(!holds("{\"at\": {\"$gte\": 0}}", &day), "a date is no number");
}

#[test]
fn what_cannot_be_read_is_followed_so_that_it_is_set_aside() {
    let filter = Filter::parse("{\"b\": 1}").unwrap().unwrap();
    assert!(filter.follows(b"\x0e\0\0\0\x02a\0\xff\0\0\0h\0\0"));
    assert!(!filter.follows(&bson::serialize_to_vec(&doc! { "a": 1 }).unwrap()));
}
