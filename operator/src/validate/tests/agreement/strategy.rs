//! Random policies, made from the CRD's schema. Each field is present or absent. Numbers lie at, near and beyond their
//! limits. Every value of an enum occurs. Texts are drawn from what such a field could hold, up to the largest length.
use fastrand::Rng;
use serde_json::{Map, Value, json};

/// The same seed always makes the same policy.
pub(super) struct Random(Rng);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    fn below(&mut self, most: usize) -> usize {
        self.0.usize(..most)
    }

    /// Returns true once in `most` calls on average.
    fn rarely(&mut self, most: usize) -> bool {
        self.below(most) == 0
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// A text whose first and last characters are from `first`, and whose others are from `rest`.
    fn text(&mut self, length: usize, first: &str, rest: &str) -> String {
        let (first, rest): (Vec<char>, Vec<char>) = (first.chars().collect(), rest.chars().collect());
        (0..length)
            .map(|n| {
                let ends = n == 0 || n + 1 == length;
                let from = if ends { &first } else { &rest };
                from[self.below(from.len())]
            })
            .collect()
    }

    /// A length up to `most`: often `most` itself, and rarely one more.
    fn length(&mut self, most: usize) -> usize {
        match self.below(24) {
            0 => most + 1,
            1..4 => most,
            _ => 1 + self.below(most.min(12)),
        }
    }

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

    fn string(&mut self, schema: &Value, path: &str) -> String {
        const SMALL: &str = "abcxyz019";
        let most = schema["maxLength"].as_u64().unwrap_or(20) as usize;
        let name = path.rsplit('.').next().unwrap_or_default();
        if self.rarely(150) {
            return self.pick(&["", " ", "ä", "a b", "A_b", "-", "../x", "a\nb"]).to_owned();
        }
        match (name, path) {
            ("name", "spec.upstreams.name") => {
                let length = self.length(most);
                self.text(length, SMALL, "abcxyz019-")
            }
            ("name" | "tlsSecret", _) => {
                let length = self.length(most);
                self.text(length, SMALL, "abcxyz019-.")
                    .replace("..", "a.")
                    .replace(".-", "a-")
                    .replace("-.", "-a")
            }
            ("key", path) if path.contains("elector") => {
                self.pick(&["a", "tier", "example.com/tier", "a/b/c", "-a"]).to_owned()
            }
            ("key", _) => {
                let length = self.length(most);
                self.text(length, "aZ0._-", "aZ0._-")
            }
            ("values" | "matchLabels", _) => self.pick(&["", "a", "a.b_c", "a b", "edge"]).to_owned(),
            ("server" | "peer" | "pool", _) => self.host(name, most),
            ("device", _) => {
                let length = self.length(32);
                format!("/dev/ptp{}", self.text(length, "0aZ_", "0aZ_"))
            }
            ("addresses", _) => self
                .pick(&[
                    "192.0.2.1",
                    "192.0.2.2",
                    "0.0.0.0",
                    "::",
                    "::1",
                    "2001:db8::1",
                    "2001:DB8::1",
                    "127.0.0.1",
                    "255.255.255.255",
                    "224.0.1.1",
                    "FF05::101",
                    "fe80::1",
                    "FEBF::1",
                    "::ffff:10.0.0.1",
                    "10.0.0.0/8",
                    "eth0",
                ])
                .to_owned(),
            ("source", _) => self.source(),
            ("timezone", _) => self.zone(),
            _ => self.span(name),
        }
    }

    fn host(&mut self, kind: &str, most: usize) -> String {
        const ADDRESSES: &[&str] = &[
            "192.0.2.1",
            "192.0.2.2",
            "10.0.0.1",
            "2001:db8::1",
            "2001:DB8:0::1",
            "fd00::1",
            "169.254.169.123",
            "127.0.0.1",
        ];
        const DOUBTFUL: &[&str] = &[
            "0.0.0.0",
            "::",
            "::ffff:10.1.1.1",
            "224.0.0.1",
            "ff02::101",
            "255.255.255.255",
            "127.127.1.0",
            "127.127.28.0",
            "fe80::1",
            "fe80::1%eth0",
            "[2001:db8::1]",
            "192.0.2.1:123",
            "ntp.example.com:123",
            "010.1.1.1",
            "1.2.3",
            "0x7f000001",
            "4u-server",
            "a_",
            "_",
            "a..b",
            ".",
            "-a",
            "a-",
            "ntp.example.com..",
            "::1.2.3.4",
            "240.0.0.1",
        ];
        match self.below(24) {
            0 | 1 => self.pick(DOUBTFUL).to_owned(),
            2..10 if kind != "pool" => self.pick(ADDRESSES).to_owned(),
            2..4 => "ntp.example.com".to_owned(),
            4 => "ntp_server".to_owned(),
            5 => {
                let length = self.length(63);
                self.text(length, "aZ", "aZ0-_")
            }
            6 => {
                // Labels of 63 characters, up to the largest length.
                let label = "a".repeat(63);
                let length = most - usize::from(self.rarely(2)) + usize::from(self.rarely(4));
                let all = [label.as_str(); 4].join(".");
                format!("{}b", &all[..length - 1])
            }
            _ => {
                let labels = 1 + self.below(3);
                let label = |random: &mut Self| {
                    let length = 1 + random.below(8);
                    random.text(length, "abZ0", "abZ0-_")
                };
                let mut host: Vec<_> = (0..labels).map(|_| label(self)).collect();
                host.push(self.pick(&["example", "Example.", "c", "x9", "a_b"]).to_owned());
                host.join(".")
            }
        }
    }

    fn source(&mut self) -> String {
        self.pick(&[
            "default",
            "default",
            "source",
            "192.0.2.1",
            "192.0.2.0/24",
            "10.0.0.0/8",
            "0.0.0.0/0",
            "::/0",
            "::1",
            "127.0.0.1",
            "2001:db8::/32",
            "2001:db8::1",
            "2001:DB8:0::1/128",
            "fd00::/8",
            "192.0.2.1/32",
            "10.1.0.0/8",
            "10.0.0.0/33",
            "10.0.0.0/9",
            "::ffff:10.0.0.0/104",
            "fe80::/10",
            "1.2.3",
            "198.51.100.0/30",
            "203.0.113.7",
            "10.0.0.0/",
        ])
        .to_owned()
    }

    fn zone(&mut self) -> String {
        match self.below(12) {
            0 => self
                .pick(&["localtime", "right/UTC", "a/b/c/d", "/etc", "A/..", "9a", "a/", "A/+1", "a.b"])
                .to_owned(),
            1 => {
                let length = self.length(64);
                self.text(length, "aZ", "aZ0+-_")
            }
            _ => self
                .pick(&["UTC", "Asia/Shanghai", "Etc/GMT+8", "America/Argentina/Buenos_Aires", "EST5EDT"])
                .to_owned(),
        }
    }

    fn span(&mut self, name: &str) -> String {
        const ANY: &[&str] = &[
            "0s",
            "1us",
            "0.000001us",
            "999us",
            "1ms",
            "999.999999ms",
            "1s",
            "16s",
            "16.000001s",
            "24h",
            "24h1us",
            "999999h",
            "999999h1us",
            "999998h59m59.999999s",
            "999999h999999h999999h999999h",
            "1s1s1s1s",
            "1m30s",
            "86400s",
            "999999us",
            "5",
            "1d",
            "-1s",
            "1000000s",
            "1.1234567s",
            "1h1h1h1h1h",
        ];
        let usual: &[&str] = match name {
            "maxDistance" => &["1ms", "1500ms", "16s", "2s", "999us", "16001ms"],
            "hold" => &["1s", "1m", "24h", "999ms", "24h1ms"],
            "activateAfter" => &["0s", "300s", "24h", "24h1us"],
            "maxChange" => &["1000s", "999999h", "1h30m", "999998h59m59.999999s", "10ms"],
            _ => &["10ms", "1us", "1s", "999.999999ms", "50ms"],
        };
        if self.rarely(8) { self.pick(ANY).to_owned() } else { self.pick(usual).to_owned() }
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
