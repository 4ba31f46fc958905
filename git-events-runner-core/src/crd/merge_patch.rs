use serde_json::{Map, Value};

/// The JSON merge patch (RFC 7396) that makes one value of another, without what is the same in both; None if they are equal.
///
/// Null has a meaning of its own in such a patch: there must be none in `after`.
pub fn merge_patch(before: &Value, after: &Value) -> Option<Value> {
    if before == after {
        return None;
    }
    let (Value::Object(before), Value::Object(after)) = (before, after) else { return Some(after.clone()) };
    let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let set =
        after.iter().filter_map(|(key, now)| Some((key.clone(), before.get(key).map_or(Some(now.clone()), |was| merge_patch(was, now))?)));
    Some(Value::Object(gone.chain(set).collect::<Map<_, _>>()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_has_what_is_new_or_other_and_null_for_what_is_gone() {
        let before = json!({ "same": { "a": [1] }, "gone": 1, "map": { "same": 1, "other": 1, "gone": {} }, "list": [1, 2], "kind": { "branch": "x" } });
        let after =
            json!({ "same": { "a": [1] }, "new": {}, "map": { "same": 1, "other": 2, "new": 3 }, "list": [2], "kind": { "tag": "x" } });
        let patch = json!({
            "gone": null, "new": {}, "map": { "other": 2, "gone": null, "new": 3 }, "list": [2], "kind": { "branch": null, "tag": "x" },
        });
        assert_eq!(merge_patch(&before, &after), Some(patch));
        assert_eq!(merge_patch(&before, &before), None);
        assert_eq!(merge_patch(&json!(null), &after), Some(after));
    }
}
