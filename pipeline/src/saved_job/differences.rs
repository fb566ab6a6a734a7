//! What two requests differ in, as people read it.

use serde_json::Value;
use sora_actors::messages::GenerationRequest;

/// Every setting that differs: its name, what it was `before`, and what it is `now`.
pub fn differences(before: &GenerationRequest, now: &GenerationRequest) -> Vec<String> {
    let mut found = Vec::new();
    // Requests have a form in JSON: they are written beside every video.
    let value = |request| serde_json::to_value(request).unwrap_or_default();
    compare("", &value(before), &value(now), &mut found);
    found
}

fn compare(name: &str, before: &Value, now: &Value, found: &mut Vec<String>) {
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => {
            for (field, before) in before {
                compare(field, before, now.get(field).unwrap_or(&Value::Null), found);
            }
        }
        (before, now) if before != now => {
            found.push(format!("{name} was {}, and is {}", plain(before), plain(now)));
        }
        _ => {}
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "open".into(),
        Value::String(text) => format!("`{text}`"),
        other => other.to_string(),
    }
}
