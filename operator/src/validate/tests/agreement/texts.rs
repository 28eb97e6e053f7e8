//! Random texts of the fields: what such a field could hold, up to the largest length, and what it cannot hold.
use serde_json::Value;

use super::random::Random;

impl Random {
    pub(super) fn string(&mut self, schema: &Value, path: &str) -> String {
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

    pub(super) fn host(&mut self, kind: &str, most: usize) -> String {
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
