{{- define "git-events-runner.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "git-events-runner.fullname" -}}
{{- $name := include "git-events-runner.name" . }}
{{- $default := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- .Values.fullnameOverride | default $default | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "git-events-runner.selectorLabels" -}}
app.kubernetes.io/name: {{ include "git-events-runner.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "git-events-runner.labels" -}}
{{ include "git-events-runner.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "git-events-runner.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "git-events-runner.fullname" .) "default") }}
{{- end }}

{{- define "git-events-runner.actionJobServiceAccountName" -}}
{{- $made := printf "%s-action-job" (include "git-events-runner.fullname" .) }}
{{- .Values.actionJobServiceAccounts.name | default (.Values.actionJobServiceAccounts.create | ternary $made "default") }}
{{- end }}

{{- /* The namespaces in which triggers work, with commas; empty: all. */ -}}
{{- define "git-events-runner.namespaces" -}}
{{- $namespaces := .Values.rbac.controller.jobsNamespaces }}
{{- if not (has "*" $namespaces) }}
{{- append $namespaces .Release.Namespace | uniq | sortAlpha | join "," }}
{{- end }}
{{- end }}

{{- /* Binds a role of the operator's to its ServiceAccount. Takes the context, "Cluster" or "", the role's kind and name, and a namespace. */ -}}
{{- define "git-events-runner.binding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ empty .namespace | ternary "ClusterRoleBinding" "RoleBinding" }}
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "git-events-runner.labels" .context | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ .name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "git-events-runner.serviceAccountName" .context }}
    namespace: {{ .context.Release.Namespace }}
{{- end }}
