{{- define "headgate.name" -}}
{{- $name := .Release.Name }}
{{- if not (contains .Chart.Name $name) }}{{ $name = printf "%s-%s" $name .Chart.Name }}{{ end }}
{{- trunc 50 $name | trimSuffix "-" }}
{{- end }}

{{- define "headgate.pods" -}}
app.kubernetes.io/name: headgate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "headgate.labels" -}}
{{ include "headgate.pods" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "headgate.secret" -}}
{{- .Values.secrets.existing | default (include "headgate.name" .) }}
{{- end }}

{{/* The file that the gateway reads. */}}
{{- define "headgate.toml" -}}
{{- range $name := list "database" "redis" "queue" }}
{{- if regexMatch "^[^:/]+://[^/@]*:[^/@]+@" (index $.Values.storage $name) }}
{{- fail (printf "storage.%s: its password would stand in a ConfigMap: put the whole URL into a Secret of secrets.existing, and say env:NAME here" $name) }}
{{- end }}
{{- end }}
{{- if regexMatch "(?m)^\\s*\\[+\\s*(server|storage)\\b" .Values.config }}
{{- fail "config: [server] and [storage] are written by the chart: set server.*, workers and storage.* instead" }}
{{- end -}}
{{- if or (gt (int .Values.replicas) 1) .Values.autoscaling.enabled }}
{{- if not (and .Values.storage.database .Values.storage.pepperSecret) }}
{{- fail "replicas: several pods share one set of books: set storage.database and storage.pepperSecret" }}
{{- end }}
{{- end -}}
{{- $many := or (gt (int .Values.replicas) 1) .Values.autoscaling.enabled (eq .Values.role "worker") }}
{{- $own := regexMatch "(?m)^\\s*\\[+\\s*files\\b" .Values.config }}
{{- $placed := regexMatch "(?m)^[^#]*\\bstorage\\s*=" .Values.config }}
{{- if and $many (not .Values.storage.filesClaim) (not $placed) }}
{{- fail "storage.filesClaim: a file that is brought to one pod must be found by all: name a claim that many may write, or a bucket in config: [files] storage" }}
{{- end -}}
{{- if and .Values.storage.filesClaim $own (not $placed) }}
{{- fail "config: storage.filesClaim is mounted at /data/files: say storage = \"/data/files\" under [files], too" }}
{{- end -}}
{{ .Values.config | trim }}

[server]
host = "0.0.0.0"
port = {{ int .Values.server.port }}
monitor_port = {{ int .Values.server.monitorPort }}
workers = {{ int .Values.workers }}
leave_s = {{ int .Values.server.leaveSeconds }}
drain_s = {{ int .Values.server.drainSeconds }}
trusted_proxies = {{ .Values.server.trustedProxies | toJson }}

[storage]
data = "/data"
database = {{ .Values.storage.database | toJson }}
queue = {{ .Values.storage.queue | toJson }}
redis = {{ .Values.storage.redis | toJson }}
{{- if and .Values.storage.filesClaim (not $own) }}

[files]
storage = "/data/files"
{{- end }}
{{ end }}
