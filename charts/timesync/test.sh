#!/usr/bin/env bash
# Tests of the chart that need no cluster: lint, golden files, refused values, alerts, and the table of values in
# docs/chart.md. The alerts are tested by promtool (Debian: prometheus); --update does not need it.
#
#   charts/timesync/test.sh [--update] HELM     HELM: the helm binary; --update writes golden files and table anew
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
render() { "$helm" template timesync . --namespace timesync-system --values tests/values/required.yaml "$@"; }

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
        if [[ $line == "# Source: "* ]]; then source=templates/${line#*/templates/}; fi
        document+=$line$'\n'
    done
    flush "$1" "${2-}"
}

echo "chart: lint"
output=$("$helm" lint --strict . --values tests/values/required.yaml 2>&1) || fail "helm lint --strict: $output"

# golden NAME COMMAND…: compares what the command renders. CRDs, dashboard and alerts are files of their own, and are compared
# below.
golden() {
    local name=$1 file=tests/golden/$1.yaml; shift
    echo "chart: golden file $file"
    local rendered
    rendered=$("$@" | documents 'templates/@(crds|dashboard|prometheus-rule).yaml' not) || fail "$name does not render"
    [[ $rendered == *"kind: DaemonSet"* ]] || fail "$name renders no DaemonSet"
    if [[ -n $update ]]; then printf '%s\n' "$rendered" >"$file"; return; fi
    diff -u "$file" - <<<"$rendered" || fail "$file differs from what the chart renders (--update writes it anew)"
}
golden default render
golden everything render --values tests/values/everything.yaml
golden unprivileged render --values tests/values/unprivileged.yaml

umbrella=$(mktemp -d)
trap 'rm -rf "$umbrella"' EXIT
cp -r tests/umbrella/. "$umbrella"
mkdir -p "$umbrella/charts/timesync"
cp -r Chart.yaml values.yaml values.schema.json templates files dashboards alerts "$umbrella/charts/timesync"
contained() { "$helm" template timesync "$umbrella" --namespace timesync-system "$@"; }
golden umbrella contained

echo "chart: enabled=false renders nothing"
for values in required everything unprivileged; do
    # An assignment of its own: if helm fails, the test ends.
    rendered=$(render --values tests/values/$values.yaml --set enabled=false)
    [[ -z $(sed '/^#/d; /^---$/d; /^$/d' <<<"$rendered") ]] || fail "enabled=false renders objects"
done
rendered=$("$helm" template timesync . --set enabled=false) || fail "enabled=false asks for a registry"
[[ -z $rendered ]] || fail "enabled=false renders something"
rendered=$(contained --set timesync.enabled=false)
[[ -z $rendered ]] || fail "the condition of a chart that contains this one is ignored"

echo "chart: two renderings are equal"
rendered=$(render)
[[ -n $rendered && $rendered == "$(render)" ]] || fail "a rendering has random values, so GitOps tools would see a change every time"
! grep -rnE 'randAlpha|randNumeric|genSelfSigned|genCA|uuidv4|\bnow\b' templates || fail "a template makes random values"

echo "chart: the registry"
if output=$("$helm" template timesync . 2>&1); then fail "renders images that cannot be pulled"; fi
[[ $output == *"make push REGISTRY="*"--set image.registry="* ]] || fail "without a registry the message does not say what to run: $output"
# `make push` writes the registry into this line.
[[ $(sed -n '/^image:$/,/^[^ #]/p' values.yaml | grep -cx '  registry: ""') == 1 ]] || fail "values.yaml lacks image.registry on a line of its own"
images() { render "$@" | sed -n 's/^ *image: *"\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' | sort -u; }
version=$(sed -n 's/^appVersion: //p' Chart.yaml)
[[ $(images --set image.registry=localhost) == "localhost/timesync-agent:$version
localhost/timesync-operator:$version" ]] || fail "image.registry=localhost gives $(images --set image.registry=localhost)"
digest=sha256:$(printf '1%.0s' {1..64})
[[ $(images --set image.operator.tag="$digest") == *"registry.example.com/timesync-operator@$digest"* ]] || fail "a digest is no digest in the image"

echo "chart: CRDs"
crds=$(render | documents templates/crds.yaml)
for crd in timesyncpolicies nodeclocks; do
    text=$(<"files/crds/$crd.yaml")
    # The lines after the metadata, to which the chart adds.
    [[ $crds == *"${text#*$'\n'  name: "$crd".timesync.dev$'\n'}"* && $text == *$'\n'"  name: $crd.timesync.dev"* ]] ||
        fail "files/crds/$crd.yaml is not rendered as it is"
done
[[ $(grep -c '^    helm.sh/resource-policy: keep$' <<<"$crds") == 2 ]] || fail "helm uninstall would remove the CRDs, and all objects with them"
[[ $(grep -c '^    argocd.argoproj.io/sync-options: Prune=false,Delete=false$' <<<"$crds") == 2 ]] || fail "Argo CD would remove the CRDs, and all objects with them"
crds=$(render --set crds.keep=false | documents templates/crds.yaml)
[[ $crds == *"kind: CustomResourceDefinition"* && $crds != *resource-policy* && $crds != *sync-options* ]] || fail "crds.keep=false is ignored"
rendered=$(render --set crds.enabled=false)
[[ $rendered != *"kind: CustomResourceDefinition"* ]] || fail "crds.enabled=false is ignored"

echo "chart: labels and annotations for all objects"
for words in 'commonLabels.example\.com/mark=here' 'commonAnnotations.example\.com/mark=here'; do
    rendered=$(render --set "$words" --values tests/values/everything.yaml)
    objects=$(grep -c '^kind: ' <<<"$rendered") marked=$(grep -c '^    example.com/mark: here$' <<<"$rendered" || true)
    [[ $marked == "$objects" ]] || fail "$words: on $marked of $objects objects"
done

# Metrics of agents and operator that stdin uses. In the source an agent's metric has no prefix; series of a histogram have no
# names of their own.
metrics_exist() {
    local metric
    for metric in $(grep -oE '\btimesync_[a-z_]+' | grep -v '^timesync_nodes_' | sort -u); do
        metric=${metric%_count} metric=${metric%_bucket}
        grep -qF "\"${metric#timesync_}\"" ../../agent/src/metrics.rs ../../agent/src/metrics/*.rs ||
            grep -qF "\"$metric\"" ../../operator/src/metrics.rs || fail "$1 uses $metric, which neither agent nor operator has"
    done
}

echo "chart: dashboards"
rendered=$(render | documents templates/dashboard.yaml)
[[ $rendered == *'    grafana_dashboard: "1"'* ]] || fail "the dashboards lack the label that Grafana's sidecar looks for"
for name in fleet node; do
    json=$(<dashboards/$name.json)
    [[ $rendered == *"  timesync-$name.json: |"$'\n'"    ${json//$'\n'/$'\n    '}"* ]] || fail "dashboards/$name.json is not rendered as it is in the file"
    grep '"expr":' dashboards/$name.json | metrics_exist dashboards/$name.json
    ! grep -nE '"expr":.*\[[0-9]+[smh]\]' dashboards/$name.json || fail "dashboards/$name.json: an interval that does not follow the scrapes; write \$__rate_interval"
    ! grep '"expr":' dashboards/$name.json | grep -nv "cluster=~" || fail "dashboards/$name.json: a query ignores the chosen cluster"
    # The last value of the shown time would be that of an agent that is dead by now.
    [[ $(grep -c '"lastNotNull"' dashboards/$name.json) == 0 && $(grep -c '"last"' dashboards/$name.json) == "$(grep -c '"instant": true' dashboards/$name.json)" ]] ||
        fail "dashboards/$name.json: a figure is not that of an instant query"
done
[[ $(sed -n 's/^  "uid": //p' dashboards/*.json | sort -u | wc -l) == 2 ]] || fail "two dashboards have the same uid"
rendered=$(render --set dashboard.enabled=false)
[[ $rendered != *timesync-fleet.json* && $rendered != *timesync-node.json* ]] || fail "dashboard.enabled=false is ignored"

echo "chart: objects for the Prometheus Operator are opt-in"
kinds() { render "$@" | grep -c -E '^kind: (PodMonitor|ServiceMonitor|PrometheusRule)$' || true; }
[[ $(kinds) == 0 ]] || fail "without a value there are objects that need the CRDs of the Prometheus Operator"
for value in podMonitor serviceMonitor prometheusRule; do
    [[ $(kinds --set $value.enabled=true) == 1 ]] || fail "$value.enabled is ignored"
    [[ $(render --set $value.enabled=true --set $value.labels.release=mine) == *$'\n    release: mine\n'* ]] || fail "$value.labels is ignored"
done
rendered=$(render --set podMonitor.enabled=true,podMonitor.interval=15s | documents templates/pod-monitor.yaml)
[[ $rendered == *"sourceLabels: [__meta_kubernetes_pod_node_name]"*"targetLabel: node"* ]] || fail "the PodMonitor sets no label node"
[[ $rendered == *"interval: 15s"* ]] || fail "podMonitor.interval is ignored"
rendered=$(render --set serviceMonitor.enabled=true,serviceMonitor.interval=15s | documents templates/service-monitor.yaml)
[[ $rendered == *"kind: Service"$'\n'*"interval: 15s"* ]] || fail "the ServiceMonitor has no Service, or serviceMonitor.interval is ignored"

echo "chart: alerts, their pages and their metrics"
rules() { render --set prometheusRule.enabled=true "$@" | documents templates/prometheus-rule.yaml; }
mapfile -t alerts < <(sed -n 's/^ *- alert: //p' alerts/timesync.yaml)
[[ ${#alerts[@]} -ge 10 && $(rules | grep -c '^ *- alert: ') == "${#alerts[@]}" ]] || fail "the PrometheusRule has not all alerts of alerts/timesync.yaml"
[[ $(rules | grep -c '^ *record: ') == "$(grep -c '^ *- record: ' alerts/timesync.yaml)" ]] || fail "the PrometheusRule has not all recording rules"
[[ $(printf '%s\n' ../../docs/runbooks/*.md | wc -l) == "${#alerts[@]}" ]] || fail "docs/runbooks has not one page for each of ${#alerts[@]} alerts"
for alert in "${alerts[@]}"; do
    text=$(sed -n "/- alert: $alert\$/,/runbook_url:/p" alerts/timesync.yaml)
    page=docs/runbooks/$alert.md
    [[ $text == *"runbook_url: $page" ]] || fail "$alert: its runbook_url is not $page"
    [[ $(head -n 1 "../../$page") == "# $alert" ]] || fail "$alert: no $page with its name as the title"
    severity=$(sed -n 's/^ *severity: //p' <<<"$text") for=$(sed -n 's/^ *for: //p' <<<"$text")
    grep -q "^| \[$alert\](runbooks/$alert.md) |.*| ${for:-none} | $severity |\$" ../../docs/alerts.md ||
        fail "docs/alerts.md has no row for $alert with ${for:-none} and $severity"
    rendered=$(rules --set "prometheusRule.disabled={$alert}")
    [[ -n $rendered && $rendered != *"alert: $alert"$'\n'* ]] || fail "prometheusRule.disabled ignores $alert"
    grep -q "$alert" tests/alerts/*.yaml || fail "$alert has no test in tests/alerts"
done
rendered=$(rules --set "prometheusRule.disabled={$(IFS=,; echo "${alerts[*]}")}")
[[ $rendered == *"record: "* && $rendered != *"alert: "* ]] || fail "prometheusRule.disabled ignores the alerts of a group without others"
rendered=$(rules --set prometheusRule.runbookUrl=https://example.com/books/)
[[ $(grep -c '^ *runbook_url: https://example.com/books/Timesync[A-Za-z]*.md$' <<<"$rendered") == "${#alerts[@]}" ]] || fail "prometheusRule.runbookUrl is ignored"
grep -v '^ *#' alerts/timesync.yaml | grep -v 'record: ' | sed -E 's/(node|policy|cluster):timesync_[a-z_]+//g' | metrics_exist alerts/timesync.yaml
if [[ -z $update ]]; then
    command -v promtool >/dev/null || fail "no program promtool, which tests the alerts: apt-get install prometheus"
    promtool check rules alerts/timesync.yaml >/dev/null || fail "promtool check rules"
    # The rules as the chart renders them.
    installed=$(mktemp -d)
    trap 'rm -rf "$umbrella" "$installed"' EXIT
    mkdir -p "$installed/alerts" "$installed/tests"
    cp -r tests/alerts "$installed/tests"
    rules | sed '1,/^spec:$/d; s/^  //' >"$installed/alerts/timesync.yaml"
    output=$(cd "$installed/tests/alerts" && promtool test rules ./*.yaml 2>&1) || fail "promtool test rules: $output"

    # The query of the panel with title $1, with every cluster and the job of the test, in one line of YAML.
    query() {
        local text
        text=$(sed -n "/^      \"title\": \"$1\",\$/,/\"expr\":/s/^ *\"expr\": \"\(.*\)\",\$/\1/p" dashboards/fleet.json)
        [[ -n $text ]] || fail "dashboards/fleet.json has no panel '$1'"
        text=${text//\\\"/\"} text=${text//\$cluster/.*} text=${text//\$job/agents}
        printf "'%s'" "${text//\'/\'\'}"
    }
    echo "chart: no figure of the dashboard counts a dead agent as healthy"
    while IFS= read -r line; do
        if [[ $line == *'{expr: PANEL '* ]]; then
            title=${line#*'{expr: PANEL '} title=${title%%,*}
            line=${line/"PANEL $title"/$(query "$title")}
        fi
        printf '%s\n' "$line"
    done <tests/dashboards/figures.yaml >"$installed/tests/figures.yaml"
    output=$(cd "$installed/tests" && promtool test rules figures.yaml 2>&1) || fail "tests/dashboards/figures.yaml: $output"
fi

echo "chart: token"
token() { render "$@" | documents templates/token.yaml; }
creates() { render "$@" | documents templates/operator.yaml | grep -cx ' *- --create-token-secret' || true; }
mayCreate() { render "$@" | documents templates/operator-rbac.yaml | tr -d '\n' | grep -cE 'resources: \[secrets\] *verbs: \[create\]' || true; }
[[ $(token) != *"kind: Secret"* && $(creates) == 1 && $(mayCreate) == 1 ]] || fail "without a token the operator is not told to make one, or may not"
for words in token.value=0123456789abcdef token.existingSecret=mine; do
    [[ $(creates --set $words) == 0 && $(mayCreate --set $words) == 0 ]] || fail "$words: the operator makes a token, or may create Secrets"
done
[[ $(token --set token.value=0123456789abcdef) == *"  token: $(printf 0123456789abcdef | base64)"* ]] || fail "token.value is ignored"
rendered=$(render --set token.existingSecret=mine)
[[ $(documents templates/token.yaml <<<"$rendered") != *"kind: Secret"* ]] || fail "a Secret is made although there is one"
[[ $rendered == *"secretName: mine"* && $rendered == *"resourceNames: [mine]"* ]] || fail "token.existingSecret is ignored"
[[ $(grep -A1 -x ' *- --token-secret' <<<"$rendered" | grep -cx ' *- mine') == 2 ]] || fail "operator and uninstallation do not get the Secret's name"

echo "chart: an agent that is stuck leaves room for the others during an upgrade"
share=$(render | sed -n 's/^ *maxUnavailable: \([0-9]*\)%$/\1/p')
for nodes in 3 10 100 5000; do
    # Rounded up, as Kubernetes does; one place is the stuck agent's.
    (((nodes * share + 99) / 100 >= 2)) || fail "maxUnavailable of $share% lets one agent hold up all of $nodes"
done

echo "chart: names of digits are texts"
rendered=$("$helm" template 123 . --namespace 456 --set image.registry=localhost)
[[ $rendered == *'app.kubernetes.io/instance: "123"'* && $rendered == *'namespace: "456"'* ]] || fail "a name of digits becomes a number"
! grep -nE '(instance|namespace): *[0-9]' <<<"$rendered" || fail "a name of digits becomes a number"

echo "chart: replicas"
rendered=$(render --set operator.replicas=1)
[[ $rendered != *PodDisruptionBudget* ]] || fail "one replica gets a budget"
rendered=$(render --set operator.replicas=null)
[[ $rendered != *replicas:* && $rendered == *PodDisruptionBudget* ]] || fail "operator.replicas=null sets a number, or leaves out the budget"

echo "chart: an unprivileged agent"
agent=$(render --set agent.privileged=false | documents templates/agent.yaml)
for word in "privileged: true" hostPID; do
    [[ $agent != *"$word"* ]] || fail "agent.privileged=false: $word is left"
done
for word in "add: [SYS_TIME, NET_BIND_SERVICE]" "drop: [ALL]" "allowPrivilegeEscalation: false" "seccompProfile: {type: RuntimeDefault}"; do
    [[ $agent == *"$word"* ]] || fail "agent.privileged=false: no $word"
done
[[ $agent == *"mountPath: /host"*"mountPropagation: HostToContainer"*"readOnly: true"*"name: "* ]] || fail "agent.privileged=false: /host can be written"

echo "chart: OpenShift"
rendered=$(render --set openshift.enabled=true)
[[ $rendered == *system:openshift:scc:privileged* ]] || fail "agents may not use the SCC privileged"
[[ $(documents 'templates/@(operator|uninstall).yaml' <<<"$rendered") != *runAsUser* ]] || fail "the operator has a user that OpenShift refuses"
rendered=$(render --set operator.podSecurityContext.runAsUser=null,operator.podSecurityContext.runAsGroup=null)
[[ $(documents 'templates/@(operator|uninstall).yaml' <<<"$rendered") != *@(runAsUser|runAsGroup)* ]] || fail "null leaves the operator's user"

echo "chart: notes"
notes() { "$helm" install timesync . --dry-run=client --values tests/values/required.yaml "$@" | sed '1,/^NOTES:/d'; }
text=$(notes)
[[ $text == *registry.example.com/timesync-agent:* && $text == *"are privileged"* && $text == *"policies stay"* ]] || fail "the notes lack the images, the privileges or what stays: $text"
text=$(notes --set agent.privileged=false,crds.keep=false,service.enabled=true)
[[ $text == *"Without privileges"* && $text == *"CRDs are deleted"* && $text == *timesync.default.svc* ]] || fail "the notes do not follow the values: $text"

echo "chart: nothing that API servers add to what was applied"
rendered=$(render --values tests/values/everything.yaml)
[[ $rendered != *"fieldRef: {fieldPath"* ]] || fail "a fieldRef has no apiVersion, and Argo CD would show a difference for ever"

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

echo "chart: operator and agents tolerate the taint of examples/node-readiness-rule.yaml"
taint=$(sed -n 's/.*taint: {key: \([^,]*\),.*/\1/p' ../../examples/node-readiness-rule.yaml)
[[ $(documents templates/operator.yaml <<<"$(render)") == *"key: ${taint:?}"* ]] || fail "all nodes would wait for an operator that waits for a node"

echo "chart: which nodes get an agent"
rendered=$(render --set agent.nodeSelector=null,agent.affinity=null,agent.tolerations=null)
agents=$(documents templates/agent.yaml <<<"$rendered")
[[ $agents != *nodeSelector:* && $agents != *affinity:* && $agents == *tolerations:* ]] || fail "null removes no default"
[[ $(grep -A6 tolerations: <<<"$agents" | grep -cE 'key: (timesync.dev|readiness.k8s.io)/clock-') == 3 ]] || fail "an agent must tolerate the taints of timesync"
operator=$(documents templates/operator.yaml <<<"$rendered")
[[ $operator == *"- --agent-tolerations"*"- '[{\"key\":\"timesync.dev/clock-not-synchronized\""* ]] || fail "the operator is not told what agents tolerate"
rendered=$(render --set 'agent.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key=mine' \
    --set 'agent.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator=Exists')
[[ $rendered == *'[{"key":"mine","operator":"Exists"}]'* && $rendered != *virtual-kubelet* ]] || fail "terms of your own do not replace the chart's"

echo "chart: what is written to Nodes is opt-in, except the condition"
rights() { grep -A1 -E 'resources: \[nodes(/status)?\]' <<<"$1" | grep -c 'patch' || true; }
rendered=$(render)
[[ $rendered == *"- --node-condition"* && $rendered != *"- --node-taints"* && $rendered != *"- --node-labels"* ]] || fail "the defaults of operator.nodes"
[[ $(rights "$rendered") == 2 ]] || fail "operator and uninstallation have other rights on Nodes by default"
rendered=$(render --set operator.nodes.condition=false)
[[ $rendered != *--node-* && $(rights "$rendered") == 0 ]] || fail "rights on Nodes without a use"
rendered=$(render --set operator.nodes.taints=true,operator.nodes.labels=true)
[[ $rendered == *"- --node-taints"*"- --node-labels"* && $(rights "$rendered") == 4 ]] || fail "operator.nodes.taints and labels"
[[ $(render --set admissionPolicy.enabled=false) != *ValidatingAdmissionPolicy* ]] || fail "admissionPolicy.enabled is ignored"

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
refused /agent/chronyMetrics --set-string agent.chronyMetrics=yes
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
refused /image/agent/repository --set image.agent.repository=registry.example.com:5000/agent
refused /image/registry --set image.registry=https://registry.example.com
refused /image/registry --set image.registry=registry.example.com/
refused /global/imageRegistry --set global.imageRegistry=https://registry.example.com
refused /agent/dnsPolicy --set agent.dnsPolicy=None
refused /agent/hostMountPropagation --set agent.hostMountPropagation=Bidirectional
refused "agent.boot.staticPod" --set agent.boot.staticPod=true,agent.privileged=false
refused "agent.priorityClassName" --set agent.resourceQuota.enabled=true,agent.priorityClassName=
refused /operator/networkPolicy/apiServerPorts --set 'operator.networkPolicy.apiServerPorts={0}'
refused /service/nts --set-string service.nts=yes
refused /token/value --set token.value=short
refused /token/value --set-string token.value='spaces in a token are wrong'
refused "exclude each other" --set token.value=0123456789abcdef,token.existingSecret=mine
refused /dashboard/labelValue --set dashboard.labelValue=1
refused /dashboard/enabled --set-string dashboard.enabled=yes
refused /podMonitor/interval --set podMonitor.interval=often
refused "'nosuch' not allowed" --set serviceMonitor.nosuch=1
refused /prometheusRule/enabled --set-string prometheusRule.enabled=yes
refused /prometheusRule/runbookUrl --set prometheusRule.runbookUrl=docs/runbooks
refused "no alert TimesyncNosuch" --set prometheusRule.enabled=true --set 'prometheusRule.disabled={TimesyncNosuch}'
refused /fullnameOverride --set fullnameOverride=Upper
refused "incompatible with Kubernetes" --kube-version 1.28.0

# The table of values.yaml: a row for each key below a comment that begins with `--`. Its value may be a block.
values_table() {
    local line text='' default='' path=() inside=99 depth value
    printf '%s\n' '| value | default | what it is |' '|---|---|---|'
    while IFS= read -r line; do
        if [[ $line =~ ^\ *#\ --\ (.*)$ ]]; then
            text=${BASH_REMATCH[1]} default=''
        elif [[ $line =~ ^\ *#\ @default\ --\ (.*)$ ]]; then
            default=${BASH_REMATCH[1]}
        elif [[ $line =~ ^\ *#\ (.*)$ ]]; then
            if [[ -n $text ]]; then text+=" ${BASH_REMATCH[1]}"; fi
        elif [[ $line =~ ^(\ *)([A-Za-z]+):\ ?(.*)$ ]]; then
            depth=$((${#BASH_REMATCH[1]} / 2)) value=${BASH_REMATCH[3]}
            if ((depth > inside)); then continue; fi
            path=("${path[@]:0:depth}" "${BASH_REMATCH[2]}") inside=99
            if [[ -n $text ]]; then
                if [[ -z $default && $value != '""' ]]; then default="\`$value\`"; fi
                link "$text"
                local IFS=.
                printf '| `%s` | %s | %s |\n' "${path[*]}" "$default" "$REPLY"
                IFS=$' \t\n' text='' inside=$depth
            elif [[ -n $value ]]; then
                fail "values.yaml: no comment that begins with -- above '$line'"
            fi
        fi
    done <values.yaml
}
# Sets REPLY to its argument, with a link for "(docs/chart.md, A section)".
link() {
    REPLY=$1
    if [[ $1 =~ ^(.*)\(docs/chart\.md,\ ([^\)]*)\)(.*)$ ]]; then
        local section=${BASH_REMATCH[2]} anchor=${BASH_REMATCH[2],,}
        REPLY="${BASH_REMATCH[1]}([below](#${anchor// /-}))${BASH_REMATCH[3]}"
        grep -qx "##* $section" ../../docs/chart.md || fail "docs/chart.md has no section '$section'"
    fi
}
echo "chart: the table in docs/chart.md is that of values.yaml"
docs=$(<../../docs/chart.md) begin='<!-- values: begin -->' end='<!-- values: end -->'
[[ $docs == *"$begin"*"$end"* ]] || fail "docs/chart.md lacks the marks of the table"
table=$(values_table)
made=${docs%%"$begin"*}$begin$'\n'$table$'\n'$end${docs#*"$end"}
if [[ -n $update ]]; then
    printf '%s\n' "$made" >../../docs/chart.md
else
    diff -u ../../docs/chart.md - <<<"$made" || fail "docs/chart.md differs from values.yaml (--update writes the table anew)"
fi

echo "chart: ok"
