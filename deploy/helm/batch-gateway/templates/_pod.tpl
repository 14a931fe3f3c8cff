{{/* The pods of a role. Called with (dict "root" $ "role" "api"). */}}
{{- define "batch-gateway.deployment" -}}
{{- $root := .root }}
{{- $values := index $root.Values .role }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "batch-gateway.fullname" $root }}-{{ .role }}
  labels:
    {{- include "batch-gateway.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
spec:
  {{- if not .scaled }}
  replicas: {{ $values.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 25%, maxUnavailable: 0}
  selector:
    matchLabels:
      {{- include "batch-gateway.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .role }}
  template:
    metadata:
      annotations:
        # New settings are new pods, one after the other.
        checksum/config: {{ include "batch-gateway.config" $root | sha256sum | trunc 16 | quote }}
        checksum/secret: {{ $root.Values.secret.variables | toJson | sha256sum | trunc 8 | quote }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      labels:
        {{- include "batch-gateway.labels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ .role }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "batch-gateway.serviceAccountName" $root }}
      # Longer than the service takes at most, the pause before it included.
      terminationGracePeriodSeconds: {{ add $root.Values.shutdownSeconds 15 }}
      {{- include "batch-gateway.pod" $root | nindent 6 }}
      {{- with $values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      topologySpreadConstraints:
        {{- $role := .role }}
        {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
        - topologyKey: {{ . }}
          maxSkew: 1
          whenUnsatisfiable: ScheduleAnyway
          matchLabelKeys: [pod-template-hash]
          labelSelector:
            matchLabels:
              {{- include "batch-gateway.selector" $root | nindent 14 }}
              app.kubernetes.io/component: {{ $role }}
        {{- end }}
      containers:
        - name: {{ .role }}
          {{- include "batch-gateway.container" $root | nindent 10 }}
          args: [serve, --role, {{ .role }}, --config, /etc/batch-gateway/config.yaml]
          ports:
            {{- if eq .role "api" }}
            - {name: api, containerPort: 8080}
            {{- end }}
            - {name: observability, containerPort: 8081}
          # Bringing the tables up to date may take its time.
          startupProbe:
            httpGet: {path: /health, port: observability}
            periodSeconds: 2
            failureThreshold: 150
          livenessProbe:
            httpGet: {path: /health, port: observability}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe:
            httpGet: {path: /ready, port: observability}
            periodSeconds: 5
            timeoutSeconds: 5
          {{- if eq .role "api" }}
          lifecycle:
            # Until nobody sends it anything new.
            preStop: {sleep: {seconds: 5}}
          {{- end }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          volumeMounts:
            - {name: config, mountPath: /etc/batch-gateway/config.yaml, subPath: config.yaml, readOnly: true}
            - {name: scratch, mountPath: /tmp}
            {{- if and (eq .role "api") $root.Values.tls.secretName }}
            - {name: tls, mountPath: /etc/batch-gateway/tls, readOnly: true}
            {{- end }}
            {{- with $root.Values.volumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: config
          configMap: {name: {{ include "batch-gateway.fullname" $root }}}
        - name: scratch
          emptyDir: {sizeLimit: {{ $values.scratch }}}
        {{- if and (eq .role "api") $root.Values.tls.secretName }}
        - name: tls
          secret: {secretName: {{ $root.Values.tls.secretName }}}
        {{- end }}
        {{- with $root.Values.volumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end }}

{{/* What all pods are. */}}
{{- define "batch-gateway.pod" -}}
automountServiceAccountToken: false
# Else a Service of our name would set variables that look like settings.
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* What all containers are. `.secretName` is another Secret of the chart than the usual one. */}}
{{- define "batch-gateway.container" -}}
image: {{ include "batch-gateway.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- with .Values.env }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if or .Values.secret.existing .Values.secret.variables }}
envFrom:
  {{- range .Values.secret.existing }}
  - secretRef: {name: {{ . }}}
  {{- end }}
  {{- if .Values.secret.variables }}
  - secretRef: {name: {{ include "batch-gateway.fullname" . }}{{ .secretSuffix }}}
  {{- end }}
{{- end }}
{{- end }}
