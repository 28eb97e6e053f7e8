{{/* The chart's name, or its replacement. */}}
{{- define "timesync.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* First part of the names of all objects; at most 48 characters, so that each can have an end of its own. */}}
{{- define "timesync.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 48 | trimAll "-" }}
{{- else if contains (include "timesync.name" .) .Release.Name }}
{{- .Release.Name | trunc 48 | trimAll "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "timesync.name" .) | trunc 48 | trimAll "-" }}
{{- end }}
{{- end }}

{{/* The Secret with the token. */}}
{{- define "timesync.tokenSecret" -}}
{{- .Values.token.existingSecret | default (printf "%s-token" (include "timesync.fullname" .)) }}
{{- end }}

{{/* The selector of a component's pods. It never changes, since a workload's selector is immutable. */}}
{{- define "timesync.selectorLabels" -}}
app.kubernetes.io/name: {{ include "timesync.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* All labels of an object, with the user's `labels`. The chart's own take precedence, since selectors need them. */}}
{{- define "timesync.labels" -}}
{{- $own := fromYaml (include "timesync.selectorLabels" .) }}
{{- $_ := set $own "app.kubernetes.io/version" .root.Chart.AppVersion }}
{{- $_ := set $own "app.kubernetes.io/part-of" "timesync" }}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") }}
{{- merge $own (.labels | default dict) (.root.Values.commonLabels | default dict) | toYaml }}
{{- end }}

{{/*
The metadata of an object: `name`, `component`; `namespace` if it has one, by default the release's; `labels` and
`annotations` if it has more than all objects have.
*/}}
{{- define "timesync.metadata" -}}
name: {{ .name }}
{{- include "timesync.namespace" . }}
labels:
  {{- include "timesync.labels" . | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) (.root.Values.commonAnnotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "timesync.namespace" }}
{{- with hasKey . "namespace" | ternary .namespace .root.Release.Namespace }}
namespace: {{ . | quote }}
{{- end }}
{{- end }}

{{/* registry/repository:tag, or registry/repository@sha256:… if the tag is a digest. */}}
{{- define "timesync.image" -}}
{{- $registry := (.root.Values.global | default dict).imageRegistry | default .root.Values.image.registry }}
{{- if not $registry }}
{{- fail "image.registry is not set and there is no public registry with the images, so run `make push REGISTRY=host/path` in the source of timesync, then repeat this command with `--set image.registry=host/path`" }}
{{- end }}
{{- $tag := .image.tag | default .root.Chart.AppVersion -}}
{{- $registry }}/{{ .image.repository }}{{ ternary "@" ":" (hasPrefix "sha256:" $tag) }}{{ $tag }}
{{- end }}

{{/* The field imagePullSecrets of a pod. A chart that contains this one may list names instead of objects. */}}
{{- define "timesync.imagePullSecrets" -}}
{{- $secrets := list }}
{{- range concat ((.Values.global | default dict).imagePullSecrets | default list) (.Values.imagePullSecrets | default list) }}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) }}
{{- end }}
{{- with uniq $secrets -}}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A field of a pod or a container, if its value is not empty. */}}
{{- define "timesync.field" -}}
{{- with .value -}}
{{ $.name }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
The tolerations of a component. Each tolerates the taints of timesync, and that of examples/node-readiness-rule.yaml, since
nodes would otherwise wait for an agent, or an operator, that waits for the node.
*/}}
{{- define "timesync.tolerations" -}}
{{- $all := .tolerations | default list }}
{{- $everything := false }}
{{- range $all }}
{{- if and (not .key) (not .effect) }}{{ $everything = true }}{{ end }}
{{- end }}
{{- if not $everything }}
{{- range list "timesync.dev/clock-not-synchronized" "timesync.dev/clock-wrong" "readiness.k8s.io/clock-not-synchronized" }}
{{- $all = append $all (dict "key" . "operator" "Exists") }}
{{- end }}
{{- end }}
{{- toYaml $all }}
{{- end }}

{{/* The flags for what the operator writes to Nodes. */}}
{{- define "timesync.nodeFlags" }}
{{- range list "condition" "taints" "labels" }}
{{- if get $.Values.operator.nodes . }}
- --node-{{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* What the operator's pods and the Job at uninstallation have in common, except the container. */}}
{{- define "timesync.operatorPod" -}}
{{- $context := .Values.operator.podSecurityContext | default dict }}
{{- if .Values.openshift.enabled }}
{{- /* The SCC `restricted-v2` fills these in, from the namespace's ranges, and refuses others. */}}
{{- $context = omit $context "runAsUser" "runAsGroup" "fsGroup" }}
{{- end }}
{{- $fields := list (include "timesync.imagePullSecrets" .) }}
{{- $fields = append $fields (include "timesync.field" (dict "name" "securityContext" "value" $context)) }}
{{- with .Values.operator.priorityClassName }}
{{- $fields = append $fields (printf "priorityClassName: %s" .) }}
{{- end }}
{{- $placement := dict "nodeSelector" .Values.operator.nodeSelector "affinity" .Values.operator.affinity }}
{{- $_ := set $placement "tolerations" (fromYamlArray (include "timesync.tolerations" .Values.operator)) }}
{{- range list "nodeSelector" "tolerations" "affinity" }}
{{- $fields = append $fields (include "timesync.field" (dict "name" . "value" (get $placement .))) }}
{{- end }}
{{- compact $fields | join "\n" }}
{{- end }}

{{/* What the operator's container and that of the Job at uninstallation have in common. */}}
{{- define "timesync.operatorContainer" -}}
image: {{ include "timesync.image" (dict "root" . "image" .Values.image.operator) }}
imagePullPolicy: {{ .Values.image.operator.pullPolicy }}
{{- with .Values.operator.containerSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.operator.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
