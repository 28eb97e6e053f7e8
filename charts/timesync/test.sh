#!/usr/bin/env bash
# Tests of the chart that need no cluster: lint, golden files, refused values, and the table in docs/chart.md.
#
#   charts/timesync/test.sh [--update] HELM     HELM: the helm binary; --update writes the golden files anew
set -euo pipefail

update=
if [[ ${1-} == --update ]]; then update=yes; shift; fi
if [[ $# != 1 ]]; then echo "usage: $0 [--update] HELM" >&2; exit 2; fi
helm=$(command -v -- "$1") || { echo "no such program: $1" >&2; exit 2; }
if [[ $helm != /* ]]; then helm=$PWD/$helm; fi
cd "$(dirname "$0")"
# Nothing of this must ever ask a cluster.
export KUBECONFIG=/dev/null

fail() { echo "chart: FAILED: $*" >&2; exit 1; }
render() { "$helm" template timesync . --namespace timesync-system "$@"; }

# The rendered documents of stdin whose source matches the pattern $1 (with "not" as $2: does not match).
documents() {
    local line document='' source=''
    flush() {
        local hit=not
        # shellcheck disable=SC2053  # a pattern, on purpose
        if [[ $source == $1 ]]; then hit=; fi
        if [[ -n $source && $hit == "$2" ]]; then printf '%s' "$document"; fi
    }
    while IFS= read -r line; do
        if [[ $line == --- ]]; then flush "$1" "${2-}"; document=''; source=''; fi
        if [[ $line == "# Source: "* ]]; then source=${line#\# Source: timesync/}; fi
        document+=$line$'\n'
    done
    flush "$1" "${2-}"
}

echo "chart: lint"
output=$("$helm" lint --strict . 2>&1) || fail "helm lint --strict: $output"

# CRDs and dashboard are files of their own, and are compared with those below.
golden() {
    local name=$1 file=tests/golden/$1.yaml; shift
    echo "chart: golden file $file"
    local rendered
    rendered=$(render "$@" | documents 'templates/@(crds/*|dashboard.yaml)' not) || fail "$name does not render"
    [[ $rendered == *"kind: DaemonSet"* ]] || fail "$name renders no DaemonSet"
    if [[ -n $update ]]; then printf '%s\n' "$rendered" >"$file"; return; fi
    diff -u "$file" - <<<"$rendered" || fail "$file differs from what the chart renders (--update writes it anew)"
}
golden default --set token.value=golden-0123456789
golden everything --values tests/values/everything.yaml

echo "chart: CRDs"
crds=$(render | documents 'templates/crds/*')
for crd in timesyncpolicies nodeclocks; do
    text=$(<"templates/crds/$crd.yaml")
    # helm shows a leading comment after its own "# Source".
    [[ $crds == *"$text"* ]] || fail "templates/crds/$crd.yaml is not rendered as it is"
    [[ $text == *"helm.sh/resource-policy: keep"* ]] || fail "helm uninstall would remove the CRD $crd, and all objects with it"
done

echo "chart: dashboard"
json=$(<dashboards/timesync.json)
rendered=$(render | documents templates/dashboard.yaml)
[[ $rendered == *'    grafana_dashboard: "1"'* ]] || fail "the dashboard lacks the label that Grafana's sidecar looks for"
[[ $rendered == *"    ${json//$'\n'/$'\n    '}"* ]] || fail "the dashboard is not rendered as it is in the file"
rendered=$(render --set dashboard.enabled=false)
[[ $rendered != *timesync.json* ]] || fail "dashboard.enabled=false is ignored"

echo "chart: token"
token() { render "$@" | documents templates/token.yaml | sed -n 's/^  token: //p'; }
[[ $(token) != "$(token)" ]] || fail "two installations get the same token"
[[ $(token | base64 -d) =~ ^[A-Za-z0-9]{40}$ ]] || fail "the token is not 40 letters and digits"
rendered=$(render --set token.existingSecret=mine)
[[ $(documents templates/token.yaml <<<"$rendered") != *"kind: Secret"* ]] || fail "a Secret is made although there is one"
[[ $rendered == *"secretName: mine"* ]] || fail "token.existingSecret is ignored"

echo "chart: an agent that is stuck leaves room for the others during an upgrade"
share=$(render | sed -n 's/^ *maxUnavailable: \([0-9]*\)%$/\1/p')
for nodes in 3 10 100 5000; do
    # Rounded up, as Kubernetes does; one place is the stuck agent's.
    (((nodes * share + 99) / 100 >= 2)) || fail "maxUnavailable of $share% lets one agent hold up all of $nodes"
done

echo "chart: one replica needs no PodDisruptionBudget"
rendered=$(render --set operator.replicas=1)
[[ $rendered != *PodDisruptionBudget* ]] || fail "a budget for one replica would block drains"

echo "chart: a hook withdraws the statuses, and leaves with the release"
hooks=$(render | documents templates/uninstall.yaml)
[[ $hooks == *"kind: Job"* ]] || fail "there is no hook, and statuses would say True for ever"
[[ $(grep -c '^kind: ' <<<"$hooks") == "$(grep -c 'helm.sh/hook: pre-delete' <<<"$hooks")" ]] || fail "part of the hook would stay"

echo "chart: the static pod is opt-in"
rendered=$(render)
[[ $rendered == *"staticPod = false"* ]] || fail "agents are not told to remove a static pod that was switched off"
[[ $rendered != *timesync.dev/boot* ]] || fail "agents without static pods are told to remove them"
rendered=$(render --set agent.boot.staticPod=true)
[[ $rendered == *"staticPod = true"* && $rendered == *timesync.dev/boot* ]] || fail "agent.boot.staticPod is ignored"

echo "chart: which nodes get an agent"
rendered=$(render --set agent.nodeSelector=null,agent.affinity=null,agent.tolerations=null)
agents=$(documents templates/agent.yaml <<<"$rendered")
[[ $agents != *nodeSelector:* && $agents != *affinity:* && $agents != *tolerations:* ]] || fail "null removes no default"
operator=$(documents templates/operator.yaml <<<"$rendered")
[[ $operator == *"- --agent-tolerations"*"- '[]'"* ]] || fail "the operator is not told that agents tolerate nothing"
rendered=$(render --set 'agent.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key=mine' \
    --set 'agent.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator=Exists')
[[ $rendered == *'[{"key":"mine","operator":"Exists"}]'* && $rendered != *virtual-kubelet* ]] || fail "terms of your own do not replace the chart's"

# refused WORD ARGUMENT…: must not render, and the message must hold WORD.
refused() {
    local word=$1 output; shift
    if output=$(render "$@" 2>&1 >/dev/null); then fail "taken, but should be refused: $*"; fi
    [[ $output == *"$word"* ]] || fail "$*: refused without the word '$word': $output"
}
echo "chart: values that are refused"
refused "'nosuch' not allowed" --set nosuch=1
refused "'nosuch' not allowed" --set agent.nosuch=1
refused "'nosuch' not allowed" --set operator.resources.nosuch.cpu=1
refused "'nosuch' not allowed" --set 'agent.tolerations[0].nosuch=1'
refused /operator/replicas --set operator.replicas=two
refused /operator/replicas --set operator.replicas=-1
refused /operator/logLevel --set operator.logLevel=loud
refused /agent/logLevel --set-string agent.logLevel=
refused /agent/httpPort --set agent.httpPort=0
refused /agent/httpPort --set agent.httpPort=65536
refused /agent/stateDirectory --set agent.stateDirectory=var/lib/timesync
refused /agent/stateDirectory --set agent.stateDirectory=/
refused /agent/stateDirectory --set agent.stateDirectory=/var/../etc
refused /agent/clockBound/enabled --set-string agent.clockBound.enabled=yes
refused /agent/boot/staticPod --set-string agent.boot.staticPod=yes
refused /agent/boot/manifestDirectory --set agent.boot.manifestDirectory=manifests
refused /agent/boot/manifestDirectory --set agent.boot.manifestDirectory=/etc/../manifests
refused "'nosuch' not allowed" --set agent.boot.nosuch=1
refused /agent/maxUnavailable --set agent.maxUnavailable=0
refused /agent/maxUnavailable --set-string agent.maxUnavailable=0%
refused /agent/maxUnavailable --set-string agent.maxUnavailable=101%
refused /agent/nodeSelector --set agent.nodeSelector.pool=1
refused "'nodeAffinty' not allowed" --set agent.affinity.nodeAffinty.x=1
refused /nodeSelectorTerms --set 'agent.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms=x'
refused /matchExpressions/0/operator --set 'agent.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key=a' \
    --set 'agent.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator=Near'
refused /image/agent/pullPolicy --set image.agent.pullPolicy=Sometimes
refused /image/operator/tag --set image.operator.tag=a:b
refused /image/agent/repository --set image.agent.repository=
refused /token/value --set token.value=short
refused /token/value --set-string token.value='spaces in a token are wrong'
refused "exclude each other" --set token.value=0123456789abcdef,token.existingSecret=mine
refused /dashboard/labelValue --set dashboard.labelValue=1
refused /dashboard/enabled --set-string dashboard.enabled=yes
refused /fullnameOverride --set fullnameOverride=Upper
refused "incompatible with Kubernetes" --kube-version 1.28.0

# The paths of all values, one a line: a line `key:` with nothing, or a list, below it counts with those below.
values_paths() {
    local line indent key path=() depth
    while IFS= read -r line; do
        [[ $line =~ ^(\ *)([A-Za-z./]+):(.*)$ ]] || continue
        indent=${BASH_REMATCH[1]} key=${BASH_REMATCH[2]} depth=$((${#BASH_REMATCH[1]} / 2))
        path=("${path[@]:0:depth}" "$key")
        # Labels (with a dot) and resources are values of the key above them.
        if [[ $key == */* || $key == requests || $key == limits ]]; then continue; fi
        if [[ -n ${BASH_REMATCH[3]} || $key =~ ^(nodeSelector|affinity|tolerations|resources)$ ]]; then
            local IFS=.; echo "${path[*]}"; IFS=$' \t\n'
        fi
    done <values.yaml
}
echo "chart: the table in docs/chart.md has every value, and no other"
table=$(sed -n 's/^| `\([A-Za-z.]*\)` |.*/\1/p' ../../docs/chart.md | sort)
diff <(values_paths | sort) - <<<"$table" || fail "values.yaml (<) and docs/chart.md (>) differ"

echo "chart: ok"
