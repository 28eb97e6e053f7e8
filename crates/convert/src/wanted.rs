//! The files with secrets and certificates that the profile names, and the commands that create Secrets or files from
//! them. Their content is never read for this.
use std::{collections::BTreeSet, fmt::Write as _};

use contract::key_files;
use profile::Profile;

use crate::Target;

/// A file with a secret or a certificate that the profile names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The Secret.
    pub(super) secret: &'static str,
    /// The key in it, or the file in the agent's `keysDirectory`.
    pub(super) key: String,
    /// What it must contain.
    pub(super) content: String,
}

/// The Secret with the server's certificate and key.
pub(super) const SERVER_SECRET: &str = "ntp-server";

impl Wanted {
    /// The profile's name for it.
    pub(super) fn file_name(&self, target: Target) -> String {
        match target {
            Target::Policy => key_files::file_name(self.secret, &self.key),
            Target::Agent => self.key.clone(),
        }
    }
}

/// The files that the profile names.
fn files(profile: &Profile) -> BTreeSet<String> {
    let Profile { upstreams, serve, .. } = profile;
    let of_upstreams = upstreams.iter().flat_map(|each| {
        [each.key.as_ref(), each.nts.as_ref().and_then(|nts| nts.ca.as_ref())].into_iter().flatten()
    });
    let of_server = serve.nts.iter().flat_map(|nts| [&nts.certificate, &nts.private_key]);
    of_upstreams.chain(&serve.keys).chain(of_server).cloned().collect()
}

/// What the user must create in addition to the result; empty if nothing is needed.
pub(super) fn to_make(all: &[Wanted], profile: &Profile, target: Target) -> String {
    let mut text = String::new();
    let files = files(profile);
    let needed = |wanted: &&Wanted| files.contains(&wanted.file_name(target));
    let secrets: Vec<_> = all.iter().filter(needed).collect();
    let names: BTreeSet<_> = secrets.iter().map(|wanted| wanted.secret).collect();
    match target {
        _ if names.is_empty() => {}
        Target::Policy => text.push_str(
            "Make these Secrets from files with these names. The conversion read no secret from the files of the lines:\n",
        ),
        Target::Agent => text.push_str(
            "Make these files in /etc/timesync/keys, readable by root alone; no secret was read from those that \
             the lines name:\n",
        ),
    }
    for &name in &names {
        let of_it: Vec<_> = secrets.iter().copied().filter(|wanted| wanted.secret == name).collect();
        if target == Target::Policy {
            let options = match of_it.as_slice() {
                [Wanted { key: certificate, .. }, Wanted { key, .. }] if name == SERVER_SECRET => {
                    format!("tls {name} --cert={certificate} --key={key}")
                }
                of_it => {
                    let files = of_it.iter().map(|wanted| format!(" --from-file={}", wanted.key));
                    format!("generic {name}{}", files.collect::<String>())
                }
            };
            let _ = writeln!(text, "  kubectl -n timesync-system create secret {options}");
        }
        for Wanted { key, content, .. } in of_it {
            let _ = writeln!(text, "  {key}: {content}");
        }
    }
    if target == Target::Policy && !names.is_empty() {
        let names = names.into_iter().collect::<Vec<_>>().join(" ");
        text.push_str("The operator distributes only Secrets with this label:\n");
        let _ = writeln!(text, "  kubectl -n timesync-system label secret {names} timesync.dev/keys=true");
    }
    text
}
