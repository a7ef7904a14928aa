{{- define "hami-dra.labels" -}}
app.kubernetes.io/part-of: hami-dra
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* What a selector may hold: it can never change. Arguments: the component's name. */}}
{{- define "hami-dra.selector" -}}
app.kubernetes.io/name: hami-dra
app.kubernetes.io/component: {{ . }}
{{- end }}

{{/* Arguments: dict "root" $ "image" name. */}}
{{- define "hami-dra.image" -}}
{{- $root := .root -}}
{{- printf "%s%s:%s" $root.Values.image.registry .image ($root.Values.image.tag | default $root.Chart.AppVersion) -}}
{{- end }}
