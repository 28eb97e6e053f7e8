//! Decides which nodes get an agent: the DaemonSet's pod template in; for a node, yes or no, out. Pure. The rule is
//! that of Kubernetes' DaemonSet controller (pkg/controller/daemon, `NodeShouldRunDaemonPod`, as of 1.36). It separates
//! nodes that can have no agent from nodes whose agent is missing.
//!
//! The template comes from the command line, so the operator needs no right to read DaemonSets. Conditions that only
//! the scheduler checks (resources, ports, affinity to pods) are ignored here. If they are not met, the agent's pod is
//! Pending, and the agent counts as missing.
use std::{collections::BTreeMap, str::FromStr};

use k8s_openapi::api::core::v1 as core;
use serde::de::DeserializeOwned;

/// The parts of the pod template that can exclude a node. An absent part excludes none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placement {
    pub(crate) node_selector: Option<NodeSelector>,
    pub(crate) affinity: Option<Affinity>,
    pub(crate) tolerations: Option<Tolerations>,
}

impl Placement {
    /// Returns true if the DaemonSet puts an agent on a node of this name with these labels and taints. A node that
    /// was tainted with NoSchedule later keeps the agent that it has, so look for an agent first.
    pub(crate) fn reaches(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
        taints: &[core::Taint],
    ) -> bool {
        let Self { node_selector, affinity, tolerations } = self;
        node_selector.as_ref().is_none_or(|selector| selector.matches(labels))
            && affinity.as_ref().is_none_or(|affinity| affinity.matches(name, labels))
            && tolerations.as_ref().is_none_or(|tolerations| tolerations.tolerate(taints))
    }
}

/// Why a flag's value is not understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("it must be JSON, {expected}: {error}")]
    Json { expected: &'static str, error: serde_json::Error },
    #[error("{field}: {problem}")]
    Field { field: String, problem: String },
}

fn json<T: DeserializeOwned>(text: &str, expected: &'static str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::Json { expected, error })
}

fn wrong(field: impl Into<String>, problem: impl Into<String>) -> Error {
    Error::Field { field: field.into(), problem: problem.into() }
}

/// `nodeSelector`: a node must have all of these labels.
#[derive(Clone, Debug)]
pub(crate) struct NodeSelector(BTreeMap<String, String>);

impl FromStr for NodeSelector {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        json(text, r#"an object of labels as in {"kubernetes.io/os":"linux"}"#).map(Self)
    }
}

impl NodeSelector {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// `affinity`, of which only the required node affinity decides: a node must satisfy one of its terms.
#[derive(Clone, Debug)]
pub(crate) struct Affinity(Option<Vec<Term>>);

impl FromStr for Affinity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let affinity: core::Affinity = json(
            text,
            r#"an object as a pod's affinity, as in {"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[]}}}"#,
        )?;
        let required =
            affinity.node_affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution);
        let Some(core::NodeSelector { node_selector_terms }) = required else {
            return Ok(Self(None));
        };
        let terms = node_selector_terms.iter().enumerate().map(|(index, term)| {
            let path = format!("nodeSelectorTerms[{index}]");
            Term::read(&path, term)
        });
        Ok(Self(Some(terms.collect::<Result<_, _>>()?)))
    }
}

impl Affinity {
    fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.0.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(name, labels)))
    }
}

/// A term, all of whose requirements must hold. A term without requirements matches no node.
#[derive(Clone, Debug)]
struct Term {
    labels: Vec<Requirement>,
    names: Vec<Requirement>,
}

impl Term {
    fn read(path: &str, term: &core::NodeSelectorTerm) -> Result<Self, Error> {
        let core::NodeSelectorTerm { match_expressions, match_fields } = term;
        let read_all = |list: &Option<Vec<core::NodeSelectorRequirement>>, field: &str| {
            let each = list.iter().flatten().enumerate();
            each.map(|(index, each)| Requirement::read(&format!("{path}.{field}[{index}]"), each))
                .collect::<Result<Vec<_>, _>>()
        };
        let names = read_all(match_fields, "matchFields")?;
        for (index, requirement) in names.iter().enumerate() {
            let one_value = matches!(&requirement.holds, Operator::In(values) | Operator::NotIn(values) if values.len() == 1);
            if requirement.key != NAME_FIELD || !one_value {
                let field = format!("{path}.matchFields[{index}]");
                return Err(wrong(
                    field,
                    "the key is metadata.name, the operator In or NotIn, with one value",
                ));
            }
        }
        Ok(Self { labels: read_all(match_expressions, "matchExpressions")?, names })
    }

    fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let Self { labels: of_labels, names } = self;
        !(of_labels.is_empty() && names.is_empty())
            && of_labels.iter().all(|each| each.holds(labels.get(&each.key).map(String::as_str)))
            && names.iter().all(|each| each.holds(Some(name)))
    }
}

/// The only field of a node that Kubernetes allows in a node affinity.
const NAME_FIELD: &str = "metadata.name";

/// A requirement on a label, or on the node's name.
#[derive(Clone, Debug)]
struct Requirement {
    key: String,
    holds: Operator,
}

#[derive(Clone, Debug)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Gt(i64),
    Lt(i64),
}

impl Requirement {
    fn read(path: &str, requirement: &core::NodeSelectorRequirement) -> Result<Self, Error> {
        let core::NodeSelectorRequirement { key, operator, values } = requirement;
        let values = values.clone().unwrap_or_default();
        let number = || match values.as_slice() {
            [one] => one.parse().ok(),
            _ => None,
        };
        let holds = match operator.as_str() {
            "In" if !values.is_empty() => Operator::In(values),
            "NotIn" if !values.is_empty() => Operator::NotIn(values),
            "In" | "NotIn" => return Err(wrong(path, "In and NotIn need values")),
            "Exists" if values.is_empty() => Operator::Exists,
            "DoesNotExist" if values.is_empty() => Operator::DoesNotExist,
            "Exists" | "DoesNotExist" => return Err(wrong(path, "Exists and DoesNotExist take no values")),
            "Gt" | "Lt" => {
                let number = number().ok_or_else(|| wrong(path, "Gt and Lt need one whole number"))?;
                if operator == "Gt" { Operator::Gt(number) } else { Operator::Lt(number) }
            }
            other => {
                let problem = format!(
                    "the operator is one of In, NotIn, Exists, DoesNotExist, Gt and Lt, not {other:?}"
                );
                return Err(wrong(path, problem));
            }
        };
        Ok(Self { key: key.clone(), holds })
    }

    /// An absent label is in no list, and is not a number.
    fn holds(&self, value: Option<&str>) -> bool {
        let is_one_of =
            |values: &[String]| value.is_some_and(|value| values.iter().any(|each| each == value));
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.holds {
            Operator::In(values) => is_one_of(values),
            Operator::NotIn(values) => !is_one_of(values),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt(limit) => number().is_some_and(|number| number > *limit),
            Operator::Lt(limit) => number().is_some_and(|number| number < *limit),
        }
    }
}

/// `tolerations`, with those that the DaemonSet controller adds.
#[derive(Clone, Debug)]
pub(crate) struct Tolerations(Vec<core::Toleration>);

impl FromStr for Tolerations {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let tolerations: Vec<core::Toleration> =
            json(text, r#"a list of tolerations as in [{"operator":"Exists"}]"#)?;
        for (index, toleration) in tolerations.iter().enumerate() {
            let path = format!("tolerations[{index}]");
            let core::Toleration { effect, key, operator, toleration_seconds: _, value } = toleration;
            // The API server treats an empty text as an absent one.
            let given = |text: &Option<String>| text.clone().unwrap_or_default();
            match given(operator).as_str() {
                "Exists" if !given(value).is_empty() => return Err(wrong(path, "Exists takes no value")),
                "Exists" => {}
                "" | "Equal" if given(key).is_empty() => {
                    return Err(wrong(path, "without a key the operator is Exists"));
                }
                "" | "Equal" => {}
                other => {
                    return Err(wrong(path, format!("the operator is Exists or Equal, not {other:?}")));
                }
            }
            let effect = given(effect);
            if !["", "NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect.as_str()) {
                let problem = format!(
                    "the effect is NoSchedule, PreferNoSchedule or NoExecute, or absent, not {effect:?}"
                );
                return Err(wrong(path, problem));
            }
        }
        Ok(Self(tolerations))
    }
}

impl Tolerations {
    /// Returns true if every taint that could keep an agent away is tolerated. PreferNoSchedule keeps no agent away.
    fn tolerate(&self, taints: &[core::Taint]) -> bool {
        taints.iter().filter(|taint| ["NoSchedule", "NoExecute"].contains(&taint.effect.as_str())).all(
            |taint| {
                ADDED.contains(&(taint.key.as_str(), taint.effect.as_str()))
                    || self.0.iter().any(|toleration| tolerates(toleration, taint))
            },
        )
    }
}

fn tolerates(toleration: &core::Toleration, taint: &core::Taint) -> bool {
    let core::Toleration { effect, key, operator, toleration_seconds: _, value } = toleration;
    let any_or = |wanted: &Option<String>, actual: &str| {
        wanted.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == actual)
    };
    any_or(effect, &taint.effect)
        && any_or(key, &taint.key)
        && (operator.as_deref() == Some("Exists")
            || value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default())
}

/// Keys and effects of the taints that every pod of a DaemonSet tolerates, with any value. The last one is tolerated
/// because agents use the host network (pkg/controller/daemon/util, `AddOrUpdateDaemonPodTolerations`).
const ADDED: [(&str, &str); 7] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ("node.kubernetes.io/network-unavailable", "NoSchedule"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Labels from a text such as `a=1,b=`.
    fn labels(text: &str) -> BTreeMap<String, String> {
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// Taints from a text as kubectl writes them: `key=value:effect,key:effect`.
    fn taints(text: &str) -> Vec<core::Taint> {
        let taint = |text: &str| {
            let (name, effect) = text.split_once(':').unwrap();
            let (key, value) = name.split_once('=').map_or((name, None), |(key, value)| (key, Some(value)));
            core::Taint {
                effect: effect.to_owned(),
                key: key.to_owned(),
                time_added: None,
                value: value.map(str::to_owned),
            }
        };
        text.split(',').filter(|text| !text.is_empty()).map(taint).collect()
    }

    fn selected(selector: &str, node: &str) -> bool {
        let placement = Placement { node_selector: Some(selector.parse().unwrap()), ..Placement::default() };
        placement.reaches("n1", &labels(node), &[])
    }

    /// Returns true if a node affinity with these terms, the content of nodeSelectorTerms, matches a node.
    fn wanted(terms: &str, node: &str) -> bool {
        let affinity = format!(
            r#"{{"nodeAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":{{"nodeSelectorTerms":[{terms}]}}}}}}"#
        );
        let placement = Placement { affinity: Some(affinity.parse().unwrap()), ..Placement::default() };
        placement.reaches("n1", &labels(node), &[])
    }

    /// Returns true if one requirement on labels holds.
    fn holds(requirement: &str, node: &str) -> bool {
        wanted(&format!(r#"{{"matchExpressions":[{{{requirement}}}]}}"#), node)
    }

    fn tolerated(tolerations: &str, node: &str) -> bool {
        let placement = Placement { tolerations: Some(tolerations.parse().unwrap()), ..Placement::default() };
        placement.reaches("n1", &labels(""), &taints(node))
    }

    #[test]
    fn without_flags_every_node_is_reached() {
        let placement = Placement::default();
        assert!(placement.reaches("n1", &labels(""), &taints("a=b:NoSchedule,c:NoExecute")));
    }

    #[test]
    fn a_node_selector_wants_all_labels() {
        let linux = r#"{"kubernetes.io/os":"linux","kubernetes.io/arch":"amd64"}"#;
        assert!(selected(linux, "kubernetes.io/os=linux,kubernetes.io/arch=amd64,x=y"));
        assert!(!selected(linux, "kubernetes.io/os=windows,kubernetes.io/arch=amd64"));
        assert!(!selected(linux, "kubernetes.io/os=linux"));
        assert!(selected("{}", ""));
        assert!(selected(r#"{"a":""}"#, "a="));
        assert!(!selected(r#"{"a":""}"#, ""));
    }

    #[test]
    fn each_operator_of_an_affinity() {
        for (requirement, with, without) in [
            (
                r#""key":"a","operator":"In","values":["1","2"]"#,
                vec!["a=1", "a=2,b=3"],
                vec!["a=3", "b=1", ""],
            ),
            (
                r#""key":"a","operator":"NotIn","values":["1","2"]"#,
                vec!["a=3", "b=1", ""],
                vec!["a=1", "a=2"],
            ),
            (r#""key":"a","operator":"Exists""#, vec!["a=", "a=1"], vec!["b=", ""]),
            (r#""key":"a","operator":"Exists","values":[]"#, vec!["a="], vec![""]),
            (r#""key":"a","operator":"DoesNotExist""#, vec!["b=", ""], vec!["a=", "a=1"]),
            (
                r#""key":"a","operator":"Gt","values":["9"]"#,
                vec!["a=10"],
                vec!["a=9", "a=8", "a=ten", "a=", ""],
            ),
            (r#""key":"a","operator":"Lt","values":["9"]"#, vec!["a=8"], vec!["a=9", "a=10", "a=x", ""]),
        ] {
            for node in with {
                assert!(holds(requirement, node), "{requirement} on {node:?}");
            }
            for node in without {
                assert!(!holds(requirement, node), "{requirement} on {node:?}");
            }
        }
    }

    #[test]
    fn one_term_of_several_is_enough_and_all_of_its_requirements_count() {
        let both =
            r#"{"matchExpressions":[{"key":"a","operator":"Exists"},{"key":"b","operator":"Exists"}]}"#;
        assert!(wanted(both, "a=,b="));
        assert!(!wanted(both, "a="));
        let either = r#"{"matchExpressions":[{"key":"a","operator":"Exists"}]},{"matchExpressions":[{"key":"b","operator":"Exists"}]}"#;
        assert!(wanted(either, "b="));
        assert!(!wanted(either, "c="));
    }

    #[test]
    fn an_empty_term_is_for_no_node() {
        assert!(!wanted("{}", "a="));
        assert!(!wanted("", "a="));
        assert!(wanted(r#"{},{"matchExpressions":[{"key":"a","operator":"Exists"}]}"#, "a="));
    }

    #[test]
    fn names_of_nodes() {
        let field = |operator: &str, name: &str| {
            format!(
                r#"{{"matchFields":[{{"key":"metadata.name","operator":"{operator}","values":["{name}"]}}]}}"#
            )
        };
        assert!(wanted(&field("In", "n1"), ""));
        assert!(!wanted(&field("In", "n2"), ""));
        assert!(wanted(&field("NotIn", "n2"), ""));
        assert!(!wanted(&field("NotIn", "n1"), ""));
    }

    #[test]
    fn what_only_the_scheduler_looks_at_excludes_no_node() {
        for affinity in [
            "{}",
            r#"{"nodeAffinity":{}}"#,
            r#"{"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":1,"preference":{"matchExpressions":[{"key":"a","operator":"Exists"}]}}]}}"#,
            r#"{"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":"kubernetes.io/hostname"}]}}"#,
        ] {
            let placement = Placement { affinity: Some(affinity.parse().unwrap()), ..Placement::default() };
            assert!(placement.reaches("n1", &labels(""), &[]), "{affinity}");
        }
    }

    #[test]
    fn taints_and_tolerations() {
        for (tolerations, node, reached) in [
            ("[]", "", true),
            ("[]", "a=b:NoSchedule", false),
            ("[]", "a=b:NoExecute", false),
            ("[]", "a=b:PreferNoSchedule", true),
            (r#"[{"operator":"Exists"}]"#, "a=b:NoSchedule,c:NoExecute", true),
            (r#"[{"operator":"Exists","key":""}]"#, "a=b:NoSchedule", true),
            (r#"[{"operator":"Exists","effect":"NoSchedule"}]"#, "a=b:NoSchedule", true),
            (r#"[{"operator":"Exists","effect":"NoSchedule"}]"#, "a=b:NoExecute", false),
            (r#"[{"operator":"Exists","effect":""}]"#, "a=b:NoExecute", true),
            (r#"[{"key":"a","operator":"Exists"}]"#, "a=b:NoSchedule,a=c:NoExecute", true),
            (r#"[{"key":"a","operator":"Exists"}]"#, "a=b:NoSchedule,c:NoSchedule", false),
            (r#"[{"key":"a","operator":"Equal","value":"b"}]"#, "a=b:NoSchedule", true),
            (r#"[{"key":"a","value":"b"}]"#, "a=b:NoSchedule", true),
            (r#"[{"key":"a","operator":"","value":"b"}]"#, "a=c:NoSchedule", false),
            (r#"[{"key":"a"}]"#, "a:NoSchedule", true),
            (r#"[{"key":"a"}]"#, "a=b:NoSchedule", false),
            // The pod may stay for an hour, so it is placed on the node.
            (r#"[{"key":"a","operator":"Exists","tolerationSeconds":3600}]"#, "a=b:NoExecute", true),
            (
                r#"[{"key":"a","value":"b"},{"key":"c","operator":"Exists"}]"#,
                "a=b:NoSchedule,c:NoExecute",
                true,
            ),
        ] {
            assert_eq!(tolerated(tolerations, node), reached, "{tolerations} on {node:?}");
        }
    }

    #[test]
    fn what_the_daemon_set_controller_adds() {
        for (node, reached) in [
            ("node.kubernetes.io/not-ready:NoExecute", true),
            ("node.kubernetes.io/unreachable:NoExecute", true),
            ("node.kubernetes.io/disk-pressure:NoSchedule", true),
            ("node.kubernetes.io/memory-pressure:NoSchedule", true),
            ("node.kubernetes.io/pid-pressure:NoSchedule", true),
            ("node.kubernetes.io/unschedulable=x:NoSchedule", true),
            ("node.kubernetes.io/network-unavailable:NoSchedule", true),
            // The taint has another effect, so it is not one that every DaemonSet tolerates.
            ("node.kubernetes.io/not-ready:NoSchedule", false),
            ("node.kubernetes.io/unreachable:NoSchedule", false),
            ("node.kubernetes.io/unschedulable:NoExecute", false),
            ("node.kubernetes.io/out-of-service:NoExecute", false),
        ] {
            assert_eq!(tolerated("[]", node), reached, "{node}");
        }
    }

    #[test]
    fn all_three_must_agree() {
        let placement = Placement {
            node_selector: Some(r#"{"os":"linux"}"#.parse().unwrap()),
            affinity: Some(
                r#"{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[
                   {"matchExpressions":[{"key":"type","operator":"NotIn","values":["virtual-kubelet"]}]}]}}}"#
                    .parse()
                    .unwrap(),
            ),
            tolerations: Some(r#"[{"key":"a","operator":"Exists"}]"#.parse().unwrap()),
        };
        let reaches = |node: &str, on: &str| placement.reaches("n1", &labels(node), &taints(on));
        assert!(reaches("os=linux", "a:NoSchedule"));
        assert!(!reaches("os=windows", "a:NoSchedule"));
        assert!(!reaches("os=linux,type=virtual-kubelet", "a:NoSchedule"));
        assert!(!reaches("os=linux", "b:NoSchedule"));
    }

    #[test]
    fn a_malformed_flag_says_what_is_wrong() {
        fn refused<T: FromStr<Err = Error> + std::fmt::Debug>(text: &str, problem: &str) {
            let error = text.parse::<T>().unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
        let terms = |terms: &str| {
            format!(
                r#"{{"nodeAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":{{"nodeSelectorTerms":[{terms}]}}}}}}"#
            )
        };
        let labelled = |text: &str| terms(&format!(r#"{{"matchExpressions":[{{{text}}}]}}"#));
        let named = |text: &str| terms(&format!(r#"{{"matchFields":[{{{text}}}]}}"#));
        refused::<NodeSelector>("kubernetes.io/os=linux", "must be JSON, an object of labels as in {");
        refused::<NodeSelector>(r#"{"a":1}"#, "expected a string");
        refused::<NodeSelector>("", "EOF");
        refused::<Affinity>("[]", "as a pod's affinity");
        let field = "nodeSelectorTerms[0].matchExpressions[0]: ";
        refused::<Affinity>(
            &labelled(r#""key":"a","operator":"Near","values":["b"]"#),
            &format!("{field}the operator is one of"),
        );
        refused::<Affinity>(&labelled(r#""key":"a","operator":"In""#), &format!("{field}In and NotIn need"));
        refused::<Affinity>(&labelled(r#""key":"a","operator":"Exists","values":["b"]"#), "take no values");
        for values in [r#"["x"]"#, r#"["1","2"]"#, "[]", r#"["1.5"]"#] {
            let text = format!(r#""key":"a","operator":"Gt","values":{values}"#);
            refused::<Affinity>(&labelled(&text), "need one whole number");
        }
        for text in [
            r#""key":"metadata.uid","operator":"In","values":["a"]"#,
            r#""key":"metadata.name","operator":"In","values":["a","b"]"#,
            r#""key":"metadata.name","operator":"Exists""#,
        ] {
            refused::<Affinity>(
                &named(text),
                "nodeSelectorTerms[0].matchFields[0]: the key is metadata.name",
            );
        }
        refused::<Tolerations>("{}", "a list of tolerations as in [");
        refused::<Tolerations>(r#"[{"key":"a"},{"operator":"Equal"}]"#, "tolerations[1]: without a key");
        refused::<Tolerations>(r#"[{"operator":"Exists","value":"b"}]"#, "takes no value");
        refused::<Tolerations>(r#"[{"key":"a","operator":"Gt","value":"1"}]"#, "Exists or Equal, not \"Gt\"");
        refused::<Tolerations>(r#"[{"operator":"Exists","effect":"Never"}]"#, "not \"Never\"");
    }
}
