//! Whether a value is what a JSON Schema says: the keywords that the description of the admin API has in its answers.
//!
//! A keyword that is not known here fails the test, so that nothing passes because nobody looked at it.

use serde_json::Value;

/// Notes in `wrong` what of `value`, which stands at `place`, is not as `schema` has it. References are into `document`.
pub(super) fn check(document: &Value, schema: &Value, value: &Value, place: &str, wrong: &mut Vec<String>) {
    for (keyword, wanted) in schema.as_object().unwrap() {
        let holds = match keyword.as_str() {
            "$ref" => {
                let target = wanted.as_str().unwrap().trim_start_matches('#');
                check(document, document.pointer(target).unwrap(), value, place, wrong);
                true
            }
            "anyOf" => wanted.as_array().unwrap().iter().any(|schema| {
                let mut of_one = Vec::new();
                check(document, schema, value, place, &mut of_one);
                of_one.is_empty()
            }),
            "type" => match wanted.as_array() {
                Some(kinds) => kinds.iter().any(|kind| is_a(kind, value)),
                None => is_a(wanted, value),
            },
            "const" => wanted == value,
            "enum" => wanted.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().is_none_or(|number| number >= wanted.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= wanted.as_f64().unwrap()),
            "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= wanted.as_u64().unwrap()),
            "required" => {
                let names = wanted.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                let missing: Vec<&str> = names.filter(|name| value.get(name).is_none()).collect();
                wrong.extend(missing.iter().map(|name| format!("{place}: {name} is missing")));
                true
            }
            "properties" => {
                for (name, schema) in wanted.as_object().unwrap() {
                    if let Some(member) = value.get(name) {
                        check(document, schema, member, &format!("{place}.{name}"), wrong);
                    }
                }
                true
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(document, wanted, item, &format!("{place}[{index}]"), wrong);
                }
                true
            }
            "format" if wanted == "date-time" => {
                value.as_str().is_none_or(|text| text.contains('T') && text.ends_with('Z'))
            }
            "pattern" if wanted == "^[0-9a-f]{32}$" => value.as_str().is_none_or(|text| {
                text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            }),
            "description" => true,
            unknown => panic!("{place}: the keyword {unknown} is not known here"),
        };
        if !holds {
            wrong.push(format!("{place}: {keyword} is {wanted}, and this is {value}"));
        }
    }
}

fn is_a(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        unknown => panic!("the type {unknown} is not known here"),
    }
}

#[test]
fn what_is_wrong_is_found() {
    let schema = serde_json::json!({
        "type": "object", "required": ["a"],
        "properties": { "a": { "type": ["integer", "null"], "minimum": 3 }, "b": { "items": { "enum": ["x"] } } },
    });
    let count = |value: Value| {
        let mut wrong = Vec::new();
        check(&Value::Null, &schema, &value, "", &mut wrong);
        wrong.len()
    };
    assert_eq!(count(serde_json::json!({ "a": 3, "b": ["x"], "c": 1 })), 0);
    assert_eq!(count(serde_json::json!({ "a": null })), 0);
    assert_eq!(count(serde_json::json!({ "a": 2, "b": ["y", "x"] })), 2);
    assert_eq!(count(serde_json::json!([])), 2);
}
