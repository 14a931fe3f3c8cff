{{/* The file of `serve --config`: what users set, and what the chart knows better. */}}
{{- define "batch-gateway.config" -}}
{{- if not (or .Values.config.gateway .Values.config.model_gateways) }}
{{- fail "config.gateway: the URL of the inference gateway is needed, or config.model_gateways" }}
{{- end }}
{{- if not .Values.store }}
{{- fail "store: where files are kept is needed, such as s3://BUCKET/PREFIX" }}
{{- end }}
{{- if not (or .Values.secret.existing .Values.secret.variables .Values.env) }}
{{- fail "secret.existing or secret.variables: a Secret with BATCH_GATEWAY_DATABASE is needed" }}
{{- end }}
{{- $config := merge dict .Values.config (dict "host" "0.0.0.0") }}
{{- $_ := set $config "port" 8080 }}
{{- $_ := set $config "observability_port" 8081 }}
{{- $_ := set $config "data" "/tmp/batch-gateway" }}
{{- $_ := set $config "store" .Values.store }}
{{- $_ := set $config "shutdown_timeout" (printf "%ds" (int .Values.shutdownSeconds)) }}
{{- if .Values.tls.secretName }}
{{- $_ := set $config "tls_certificate" "/etc/batch-gateway/tls/tls.crt" }}
{{- $_ := set $config "tls_key" "/etc/batch-gateway/tls/tls.key" }}
{{- end }}
{{- toYaml $config }}
{{- end }}
