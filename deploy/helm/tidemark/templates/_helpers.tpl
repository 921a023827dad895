{{- define "tidemark.name" -}}
{{- if contains "tidemark" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-tidemark" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tidemark.selector" -}}
app.kubernetes.io/name: tidemark
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "tidemark.labels" -}}
{{ include "tidemark.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "tidemark.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default (printf "v%s" .Chart.AppVersion) }}
{{- end -}}
{{- end -}}

{{/* What a pod needs to run any command: of the daemon and of `helm test` alike. */}}
{{- define "tidemark.podSettings" -}}
serviceAccountName: {{ include "tidemark.name" . }}
automountServiceAccountToken: {{ .Values.serviceAccount.automountToken }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: { type: RuntimeDefault }
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: config
    configMap: { name: {{ include "tidemark.name" . }} }
{{- with .Values.secret.name }}
  - name: secret
    secret: { secretName: {{ . | quote }}, defaultMode: 0440 }
{{- end }}
{{- with .Values.volumes }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- end -}}

{{- define "tidemark.containerSettings" -}}
image: {{ include "tidemark.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
env:
  # The names it is asked under inside the cluster; its IP addresses need none.
  - name: TIDEMARK__STATUS__HOSTS
    value: {{ $name := include "tidemark.name" . }}{{ printf "%s,%s.%s,%s.%s.svc" $name $name .Release.Namespace $name .Release.Namespace | quote }}
{{- range $key, $file := .Values.secret.keys }}
  - name: {{ printf "TIDEMARK__%s_FILE" ($key | replace "." "__" | upper) }}
    value: {{ printf "/run/secrets/tidemark/%s" $file | quote }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . | indent 2 }}
{{- end }}
volumeMounts:
  - { name: config, mountPath: /tidemark.d, readOnly: true }
{{- if .Values.secret.name }}
  - { name: secret, mountPath: /run/secrets/tidemark, readOnly: true }
{{- end }}
{{- with .Values.volumeMounts }}
{{ toYaml . | indent 2 }}
{{- end }}
resources: {{- toYaml .Values.resources | nindent 2 }}
{{- end -}}
