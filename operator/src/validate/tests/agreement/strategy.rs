//! Random policies, made from the CRD's schema. Each field is present or absent. Numbers lie at, near and beyond their
//! limits. Every value of an enum occurs.
use serde_json::{Map, Value, json};

use super::random::Random;

impl Random {
    pub(super) fn policy(&mut self, crd: &Value) -> Value {
        let spec = self.value(&crd["properties"]["spec"], "spec");
        let mut policy = json!({"apiVersion": "timesync.dev/v1alpha1", "kind": "TimeSyncPolicy",
            "metadata": {"name": "p"}, "spec": spec});
        settle(self, &mut policy["spec"]);
        policy
    }

    fn value(&mut self, schema: &Value, path: &str) -> Value {
        if let Some(words) = schema["enum"].as_array() {
            return words[self.below(words.len())].clone();
        }
        if schema["x-kubernetes-int-or-string"] == json!(true) {
            return match self.below(4) {
                0 => json!(self.pick(&["0%", "101%", "7", "%", "025%"])),
                1 => self.number(schema),
                _ => json!(self.pick(&["1%", "25%", "100%"])),
            };
        }
        match schema["type"].as_str() {
            Some("boolean") => json!(self.rarely(3)),
            Some("integer") => self.number(schema),
            Some("string") => json!(self.string(schema, path)),
            Some("array") => {
                let most = schema["maxItems"].as_u64().expect("each list has a limit") as usize;
                let count = if self.rarely(60) {
                    most + 1
                } else if self.rarely(12) {
                    most
                } else {
                    self.below(5)
                };
                (0..count).map(|_| self.value(&schema["items"], path)).collect()
            }
            Some("object") => self.object(schema, path),
            other => panic!("{path}: {other:?}"),
        }
    }

    fn object(&mut self, schema: &Value, path: &str) -> Value {
        let mut fields = Map::new();
        let required = schema["required"].as_array();
        for (name, of_field) in schema["properties"].as_object().into_iter().flatten() {
            let needed = required.is_some_and(|names| names.contains(&json!(name)));
            if needed || self.rarely(4) || (path == "spec" && !self.rarely(3)) {
                fields.insert(name.clone(), self.value(of_field, &format!("{path}.{name}")));
            }
        }
        if let Some(of_values) = schema.get("additionalProperties") {
            for _ in 0..self.below(3) {
                let key = self.pick(&["a", "example.com/tier", "a b", "kubernetes.io/os", ""]);
                fields.insert(key.to_owned(), self.value(of_values, path));
            }
        }
        Value::Object(fields)
    }

    fn number(&mut self, schema: &Value) -> Value {
        let bound = |name: &str| schema[name].as_f64().expect("each number has limits") as i64;
        let (least, most) = (bound("minimum"), bound("maximum"));
        json!(match self.below(40) {
            0 => least - 1,
            1 => most + 1,
            2..8 => least,
            8..14 => most,
            14..24 => schema["default"].as_i64().unwrap_or(least),
            _ => least + self.below((most - least) as usize + 1) as i64,
        })
    }
}

/// Makes most policies plausible: each upstream has one place, and at most one is preferred.
fn settle(random: &mut Random, spec: &mut Value) {
    let upstreams = spec.get_mut("upstreams").and_then(Value::as_array_mut);
    let mut preferred = false;
    for (n, upstream) in upstreams.into_iter().flatten().enumerate() {
        let fields = upstream.as_object_mut().expect("an upstream is an object");
        if random.rarely(30) {
            continue;
        }
        let place = random.pick(&["server", "server", "server", "pool", "peer", "device", "nodes"]);
        for other in ["server", "pool", "peer", "device", "nodes"].into_iter().filter(|other| *other != place)
        {
            fields.remove(other);
        }
        if !fields.contains_key(place) {
            let value = match place {
                "device" => json!(format!("/dev/ptp{n}")),
                "pool" => json!(format!("p{n}.example.com")),
                "nodes" => {
                    json!({"selector": {"matchLabels": {"tier": "core"}}, "max": 1 + random.below(8)})
                }
                _ => json!(random.host(place, 253)),
            };
            fields.insert(place.to_owned(), value);
        }
        if random.rarely(40) {
            continue;
        }
        if place != "pool" {
            fields.remove("maxSources");
        }
        if fields.contains_key("nts") || place == "device" {
            fields.remove("keyRef");
        }
        let is_address = fields.get(place).is_some_and(|host| host.to_string().contains([':', '.']));
        if place == "device" || place == "nodes" || (is_address && random.rarely(2)) {
            fields.remove("nts");
        }
        if place == "nodes" {
            fields.remove("prefer");
        }
        if fields.get("noselect") == Some(&json!(true)) || std::mem::replace(&mut preferred, true) {
            fields.remove("prefer");
        }
        if fields.get("noselect") == Some(&json!(true)) {
            fields.remove("trust");
            fields.remove("require");
        }
        let (least, most) = (fields.get("minPoll").cloned(), fields.get("maxPoll").cloned());
        if least.as_ref().and_then(Value::as_i64).unwrap_or(4)
            > most.as_ref().and_then(Value::as_i64).unwrap_or(6)
        {
            fields.remove("minPoll");
            fields.insert("maxPoll".to_owned(), json!(17));
        }
    }
    let Some(fields) = spec.as_object_mut() else { return };
    if !random.rarely(5) {
        fields.remove("nodeSelector");
    }
    if !random.rarely(20) {
        // The list has its source as key. A generator with few sources would otherwise repeat one in most lists.
        let mut seen = Vec::new();
        if let Some(entries) = fields.get_mut("restrict").and_then(Value::as_array_mut) {
            entries.retain(|entry| {
                !seen.contains(&entry["source"]) && {
                    seen.push(entry["source"].clone());
                    true
                }
            });
            for entry in entries.iter_mut() {
                dedup(entry.get_mut("flags"));
                if random.rarely(2)
                    && let Some(flags) = entry.get_mut("flags").and_then(Value::as_array_mut)
                {
                    flags.retain(|flag| flag != "ignore");
                }
            }
        }
    }
    if !random.rarely(20) {
        if let Some(clock) = fields.get_mut("clock").and_then(Value::as_object_mut)
            && clock.get("minSources").and_then(Value::as_i64).is_some_and(|least| least > 2)
        {
            clock.remove("minSources");
        }
        if let Some(stratum) = fields.get_mut("stratum").and_then(Value::as_object_mut)
            && !stratum.contains_key("local")
        {
            stratum.insert("local".to_owned(), json!(10));
        }
    }
}

fn dedup(list: Option<&mut Value>) {
    let mut seen = Vec::new();
    if let Some(items) = list.and_then(Value::as_array_mut) {
        items.retain(|item| {
            !seen.contains(item) && {
                seen.push(item.clone());
                true
            }
        });
    }
}
