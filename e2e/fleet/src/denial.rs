//! Makes the API server refuse some of the operator's writes, by an admission policy, until the denial is lifted. A CEL
//! expression selects the writes.
use std::time::Duration;

use anyhow::bail;
use lab::{install, kubectl, readings, wait};
use serde_json::json;

/// What the API server says about a refused write.
pub const MESSAGE: &str = "refused by the test";

/// Most that the API server takes to see a policy, which it learns by a watch.
const IN_FORCE: Duration = Duration::from_secs(60);

/// A denial in force.
pub struct Denial {
    name: String,
}

impl Denial {
    /// Refuses those writes of the operator for which `which` is true, such as `request.name == 'a'`, and waits until the API
    /// server does so.
    pub fn of(name: &str, which: &str) -> anyhow::Result<Self> {
        let operator =
            format!("request.userInfo.username.startsWith('system:serviceaccount:{}:')", install::NAMESPACE);
        // The same policy refuses a ConfigMap of this name. A dry run that makes one tells if the policy is in force.
        let probe = format!("request.resource.resource == 'configmaps' && request.name == '{name}'");
        let condition = json!({"name": "which", "expression": format!("{operator} && ({which}) || {probe}")});
        let rule = json!({"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
                          "resources": ["*/*"], "scope": "*"});
        let api = "admissionregistration.k8s.io/v1";
        let policy = json!({"apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
            "spec": {"matchConstraints": {"resourceRules": [rule]}, "matchConditions": [condition],
                     "validations": [{"expression": "false", "message": MESSAGE}]}});
        let binding = json!({"apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}});
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [policy, binding]});
        kubectl::apply(&list.to_string())?;
        let denial = Self { name: name.to_owned() };
        wait::until(&format!("denial {name} in force"), "2 s", IN_FORCE, || {
            Ok(denial.refuses()?.then_some(()))
        })?;
        Ok(denial)
    }

    /// Takes it back, and waits until the API server knows.
    pub fn lift(self) -> anyhow::Result<()> {
        let name = &self.name;
        kubectl::sh(&format!(
            "delete validatingadmissionpolicybinding,validatingadmissionpolicy {name} --wait=false"
        ))?;
        wait::until(
            &format!("denial {name} lifted"),
            "2 s",
            IN_FORCE,
            || Ok((!self.refuses()?).then_some(())),
        )
    }

    fn refuses(&self) -> anyhow::Result<bool> {
        let asked = kubectl::sh(&format!("create configmap {} -n default --dry-run=server", self.name));
        readings::note("a write that it refuses", &format!("{asked:?}"));
        match asked {
            Ok(_) => Ok(false),
            Err(error) if format!("{error:#}").contains(MESSAGE) => Ok(true),
            Err(error) => bail!("{error:#}"),
        }
    }
}
