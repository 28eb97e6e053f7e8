{{/* The chart's name, or its replacement. */}}
{{- define "timesync.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* First part of the names of all objects; at most 48 characters, so that each can have an end of its own. */}}
{{- define "timesync.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" }}
{{- else if contains (include "timesync.name" .) .Release.Name }}
{{- .Release.Name | trunc 48 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "timesync.name" .) | trunc 48 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The Secret with the token. */}}
{{- define "timesync.tokenSecret" -}}
{{- .Values.token.existingSecret | default (printf "%s-token" (include "timesync.fullname" .)) }}
{{- end }}

{{/* The selector of a component's pods. It never changes, since a workload's selector is immutable. */}}
{{- define "timesync.selectorLabels" -}}
app.kubernetes.io/name: {{ include "timesync.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* All labels of an object. */}}
{{- define "timesync.labels" -}}
{{ include "timesync.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: timesync
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* repository:tag, or repository@sha256:… if the tag is a digest. */}}
{{- define "timesync.image" -}}
{{- $tag := .image.tag | default .root.Chart.AppVersion -}}
{{- .image.repository }}{{ ternary "@" ":" (hasPrefix "sha256:" $tag) }}{{ $tag }}
{{- end }}
