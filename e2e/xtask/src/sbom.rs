//! The bill of materials of a program: CycloneDX 1.5 (ECMA-424) as JSON. Pure: crates in, text out, the same for the
//! same input, so it has no serial number.
use serde_json::{Value, json};

use crate::third_party::Crate;

/// The bill of materials of `program`, with its crates.
pub(crate) fn cyclonedx(program: &str, version: &str, timestamp: Option<&str>, crates: &[Crate]) -> Value {
    let root = purl(program, version);
    let components: Vec<_> = crates
        .iter()
        .map(|each| {
            json!({
                "type": "library",
                "bom-ref": purl(&each.name, &each.version),
                "name": each.name,
                "version": each.version,
                "purl": purl(&each.name, &each.version),
                "licenses": [{"expression": each.licence}],
                "hashes": [{"alg": "SHA-256", "content": each.checksum}],
            })
        })
        .collect();
    let references: Vec<_> = crates.iter().map(|each| purl(&each.name, &each.version)).collect();
    let mut metadata = json!({
        "component": {
            "type": "application",
            "bom-ref": root,
            "name": program,
            "version": version,
            "licenses": [{"expression": "Apache-2.0"}],
        },
    });
    if let Some(timestamp) = timestamp {
        metadata["timestamp"] = json!(timestamp);
    }
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": metadata,
        "components": components,
        // All crates that are linked, also those that another crate brings.
        "dependencies": [{"ref": root, "dependsOn": references}],
    })
}

/// The package URL of a crate (package-url specification, type cargo).
fn purl(name: &str, version: &str) -> String {
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::third_party;

    #[test]
    fn each_crate_has_a_licence_a_checksum_and_a_reference() {
        let crates = third_party::linked(&["timesync-agent"]).unwrap();
        let bill = cyclonedx("timesync-agent", "0.1.0", Some("2026-01-01T00:00:00Z"), &crates);
        assert_eq!(bill["components"].as_array().unwrap().len(), crates.len());
        assert_eq!(bill["dependencies"][0]["dependsOn"].as_array().unwrap().len(), crates.len());
        let rustls = bill["components"].as_array().unwrap().iter().find(|each| each["name"] == "rustls");
        let rustls = rustls.expect("the agent has rustls");
        assert!(rustls["purl"].as_str().unwrap().starts_with("pkg:cargo/rustls@0.23"));
        assert_eq!(rustls["hashes"][0]["content"].as_str().unwrap().len(), 64);
        assert_eq!(purl("x", "1.0.0+a"), "pkg:cargo/x@1.0.0%2Ba");
    }
}
