"""Every setting there is, once, in the order in which help and documentation show them."""

from __future__ import annotations

from collections.abc import Mapping

from batch_gateway.client.layers.coalesce.coalesce_policy import MOST_REQUESTS
from batch_gateway.settings.kinds import (
    CONCURRENCY,
    CONDITIONS,
    DURATION,
    FAILURES,
    PATH,
    PORT,
    PROXY,
    RATE,
    SIZE,
    SWITCH,
    VARIABLE,
    choice,
    count,
    items,
    pairs,
    size,
    text,
)
from batch_gateway.settings.service_table import SERVICE_GROUPS
from batch_gateway.settings.setting import Setting

__all__ = ["API_KEY_SETTINGS", "GATEWAY_SETTINGS", "GROUPS", "SETTINGS", "settings_of"]

_NAME, _URL = text("NAME"), text("URL")
# Go programs and Kubernetes write versions otherwise.
_TLS_VERSION = choice("1.2", "1.3", VersionTLS12="1.2", VersionTLS13="1.3")
_RUN, _BATCHES = ("run",), ("batches",)
_PATIENCE = "[the circuit breaker](errors.md#circuit-breaker)"
_METRICS = "[a gateway's own metrics](concurrency.md#a-gateways-own-metrics)"
_CACHE, _JOINED = (
    "[the cache](fewer-requests.md#cache)",
    "[request batching](fewer-requests.md#request-batching)",
)
_TLS, _POD_TLS = (
    "[TLS](transport.md#tls)",
    "[pods that serve TLS](endpoint-picker.md#pods-that-serve-tls)",
)

GROUPS: Mapping[str, tuple[Setting, ...]] = {
    "Gateway": (
        Setting(
            "gateway", _URL,
            "Where requests go: a URL, grpc:// for an endpoint picker; or openai for what OpenAI's "
            "variables say; or simulator for one in this process.",
            field="base_url", aliases=("inference_gateway_url",), variable="BATCH_GATEWAY_URL",
            see="[the URL](#the-url-of-a-gateway)",
        ),
        Setting(
            "model_gateways", pairs("MODEL=URL"),
            "Another gateway for one model, or for names with *; repeatable.",
            flag="--model-gateway", see="[several gateways](#models-on-different-gateways)",
        ),
        Setting(
            "isolate_models", SWITCH,
            "Pace each model by itself: for gateways with a pool of servers for each.",
            only=_RUN,
            see="[several models](running.md#several-models-behind-one-gateway)",
        ),
        Setting("config", PATH, "YAML file with any of these settings."),
    ),
    **SERVICE_GROUPS,
    "Files": (
        Setting("output", PATH, "Results.", otherwise="FILE's name + .results.jsonl", short="-o",
            only=_RUN),
        Setting("errors", PATH, "Failed lines.", otherwise="output's name + .errors.jsonl",
            only=_RUN),
        Setting(
            "fresh", SWITCH, "Discard earlier results and start again.",
            only=_RUN, only_flag="would throw results away at every resume",
        ),
        Setting(
            "retry_failed", SWITCH, "Send the failed lines again.",
            only=_RUN, only_flag="would repeat at every resume",
        ),
        Setting("ordered", SWITCH, "Results in the order of the input.", only=_RUN),
    ),
    "Answers": (
        Setting("table", PATH, "At the end write answers there: .csv, .tsv, .parquet, .jsonl.",
            only=_RUN, see="[tables](tables.md)"),
        Setting(
            "fields", items("[NAME=]PATH"), "A column of what is there in answers that are JSON.",
            only=_RUN, flag="--field", needs="table",
            see="[paths](tables.md#answers-that-are-json)",
        ),
        Setting(
            "json_schema", PATH, "Ask again for answers that are not JSON as this schema says.",
            field="json_schema", only=_RUN, see="[such answers](tables.md#answers-that-are-json)",
        ),
    ),
    "Pace and limits": (
        Setting(
            "concurrency", CONCURRENCY, "In flight to each gateway; auto finds it by measuring.",
            "auto", aliases=("concurrency.per_endpoint",), see="[concurrency](concurrency.md)",
        ),
        Setting(
            "max_job_concurrency", count(1),
            "In flight over all gateways, which share them evenly; the smaller of both counts.",
            aliases=("concurrency.global",), flag=None,
        ),
        Setting(
            "gateway_metrics", items("URL"),
            "Let auto heed what the gateway's own metrics say; repeatable.",
            field="gateway_metrics.urls", is_own=True, see=_METRICS,
        ),
        Setting(
            "gateway_metrics_interval", DURATION, "Look there so often.", "1s",
            field="gateway_metrics.interval", needs="gateway_metrics", is_own=True,
        ),
        Setting(
            "gateway_metrics_token_file", PATH, "File with the bearer token that they need.",
            field="gateway_metrics.token_file", needs="gateway_metrics", is_own=True,
        ),
        Setting(
            "max_retries", count(0), "Per request.", "3", field="retry.max_retries",
            see="[retries](errors.md); none is spent while the gateway answers nothing",
        ),
        Setting(
            "initial_backoff", DURATION, "Ceiling of the first random wait before a retry.", "0.5s",
            field="retry.initial_backoff", flag=None,
        ),
        Setting(
            "max_backoff", DURATION, "The wait doubles up to here.", "60s",
            field="retry.max_backoff", flag=None,
        ),
        Setting(
            "timeout", DURATION, "Of one attempt.", "5m", field="timeout",
            aliases=("request_timeout", "inference_request_timeout"),
        ),
        Setting(
            "stream_upstream", SWITCH,
            "Let answers be streamed and put them together: no time limit but the idle one.",
            field="stream_upstream", see="[streaming](streaming.md)",
        ),
        Setting(
            "idle_timeout", DURATION, "Of a streamed answer that stands still.", "60s",
            field="stream_idle_timeout", needs="stream_upstream",
        ),
        Setting(
            "max_event_bytes", SIZE, "Of one event of a streamed answer.", "1MiB",
            field="max_event_bytes", needs="stream_upstream",
        ),
        Setting(
            "connect_timeout", DURATION, "Name, TCP and TLS together.", "10s",
            field="connect_timeout",
        ),
        Setting(
            "max_response_bytes", SIZE, "Of one answer; a larger one fails.", "64MiB",
            field="max_response_bytes",
        ),
        Setting(
            "rpm", RATE, "Requests a minute to each gateway.",
            field="rate_limit.requests_per_minute",
        ),
        Setting("tpm", RATE, "Tokens a minute, likewise.", field="rate_limit.tokens_per_minute"),
        Setting(
            "learn_rate_limits", SWITCH, "Obey the limits in x-ratelimit-* headers too.",
            field="rate_limit.learn",
        ),
        Setting(
            "max_bytes_in_flight", size(1), "Of requests and answers in memory at a time.",
            "256MiB", see="[large lines](running.md#large-lines)",
        ),
        Setting(
            "patience", DURATION, "Wait so long for a gateway that went down.", "30m",
            field="circuit_breaker.patience",
            see="0 does not wait; if given, a gateway that is still starting is waited for, too",
        ),
        Setting("deadline", DURATION, "Of the whole run; the rest is left to be sent.",
            only=_RUN),
        Setting(
            "max_failures", FAILURES,
            "Stop when more lines failed. 100% records whatever may be a line's own fault.",
            only=_RUN,
        ),
        Setting(
            "order", choice("prefix", "file"),
            "Send by model and shared prompt beginning, or as in the file.", "prefix", only=_RUN,
        ),
    ),
    "Fewer requests": (
        Setting(
            "cache", PATH, "Keep answers here; identical requests get them.", field="cache.path",
            see=_CACHE,
        ),
        Setting(
            "cache_max_size", SIZE, "Drops what was used longest ago.", "1GiB",
            field="cache.max_bytes", needs="cache",
        ),
        Setting(
            "cache_max_age", DURATION, "Ask again after so long.", "720h", field="cache.max_age",
            needs="cache",
        ),
        Setting(
            "cache_namespace", _NAME, "Gateways of one name share answers.",
            otherwise="the gateway's URL", field="cache.namespace", needs="cache",
        ),
        Setting(
            "coalesce", count(2, MOST_REQUESTS),
            "Send up to N single prompts or inputs as one request.", field="coalesce.max_requests",
            see=_JOINED,
        ),
        Setting(
            "coalesce_wait", DURATION, "The first waits so long for others.", "5ms",
            field="coalesce.max_wait", needs="coalesce",
        ),
    ),
    "Access": (
        Setting(
            "api_key", text("KEY"), "The API key itself.", field="api_key", is_own=True,
            aliases=("inference_api_key",), flag=None, see="at most one of the three",
        ),
        Setting(
            "api_key_file", PATH, "File whose first line is the API key.", field="api_key_file",
            is_own=True, see="read again when the key is refused",
        ),
        Setting(
            "api_key_env", VARIABLE, "Variable with it.", otherwise="BATCH_GATEWAY_API_KEY",
            field="api_key_env", is_own=True,
        ),
        Setting(
            "api_key_header", _NAME, "Header to send it in, as api-key for Azure.",
            otherwise="Authorization: Bearer", field="api_key_header", is_own=True,
        ),
        Setting(
            "headers", pairs("NAME=VALUE"), "Send with every request; repeatable.",
            field="headers", is_own=True, flag="--header",
        ),
        Setting("tls_ca_file", PATH, "Authorities to trust, PEM.", field="tls.ca_file",
            aliases=("tls_ca_cert_file",), see=_TLS),
        Setting("tls_client_cert_file", PATH, "Client certificate, PEM.",
            field="tls.client_cert_file"),
        Setting("tls_client_key_file", PATH, "Its key, PEM.", field="tls.client_key_file"),
        Setting("tls_min_version", _TLS_VERSION, "Oldest TLS.", "1.2",
            field="tls.minimum_version"),
        Setting(
            "tls_pin", text("SHA256"),
            "Accept the one certificate with this fingerprint, whoever issued it.",
            field="tls.pinned_certificate",
        ),
        Setting(
            "tls_server_name", _NAME, "What to ask for, and what the certificate must name.",
            otherwise="the URL's host", field="tls.server_name",
        ),
        Setting("tls_insecure_skip_verify", SWITCH, "Accept any certificate. Dangerous.",
            field="tls.insecure_skip_verify"),
    ),
    "Scheduling (llm-d and GAIE)": (
        Setting(
            "inference_objective", _NAME,
            "llm-d's InferenceObjective; batch work usually has one of negative priority.",
            field="scheduling.objective", is_own=True,
        ),
        Setting(
            "fairness_id", _NAME, "Whom the gateway shares fairly among.",
            field="scheduling.fairness_id", is_own=True,
        ),
        Setting(
            "inference_ttl", DURATION,
            "Longest wait in the gateway's queue; routers of 2026-08 do not heed it.",
            field="scheduling.ttl", is_own=True,
        ),
    ),
    "Endpoint picker (grpc:// gateways)": (
        Setting(
            "pick_timeout", DURATION, "Of the choice, queueing included.", otherwise="--timeout",
            field="endpoint_picker.pick_timeout",
            see="[endpoint pickers](endpoint-picker.md#settings)",
        ),
        Setting(
            "endpoint_subset", items("IP:PORT"), "Choose among these only; repeatable.",
            field="endpoint_picker.endpoint_subset", is_own=True,
        ),
        Setting("picker_health", _URL, "Its health service, if elsewhere.",
            field="endpoint_picker.health", is_own=True),
        Setting("picker_authority", text("HOST"), "The host that requests are for.",
            field="endpoint_picker.authority", is_own=True),
        Setting("pod_tls", SWITCH, "The pods serve TLS.", field="pod_tls.on", see=_POD_TLS),
        Setting("pod_tls_ca_file", PATH, "Authorities to trust there, PEM.",
            field="pod_tls.ca_file", needs="pod_tls"),
        Setting("pod_tls_client_cert_file", PATH, "Certificate to show, PEM.",
            field="pod_tls.client_cert_file", needs="pod_tls"),
        Setting("pod_tls_client_key_file", PATH, "Its key, PEM.",
            field="pod_tls.client_key_file", needs="pod_tls"),
        Setting("pod_tls_pin", text("SHA256"), "The one to accept, of every pod.",
            field="pod_tls.pinned_certificate", needs="pod_tls"),
        Setting(
            "pod_tls_server_name", _NAME, "What their certificates must name.",
            otherwise="each pod's IP address", field="pod_tls.server_name", needs="pod_tls",
        ),
        Setting("pod_tls_insecure_skip_verify", SWITCH, "Accept any of theirs. Dangerous.",
            field="pod_tls.insecure_skip_verify", needs="pod_tls"),
    ),
    "Network": (
        Setting("unix_socket", PATH, "Connect to this socket instead.", field="unix_socket"),
        Setting("proxy", PROXY, "HTTP proxy, or env for HTTPS_PROXY etc.", field="proxy",
            see="[proxies](transport.md#proxies)"),
        # There is one of by now; the client says so.
        Setting("transport", _NAME, "", field="transport", is_hidden=True),
    ),
    "Batch server": (
        Setting(
            "server", _URL,
            "Where batches are sent: a URL; or openai for what OpenAI's variables say.",
            "http://127.0.0.1:8080", only=_BATCHES, see="[batches](batches.md)",
        ),
        Setting("tenant", _NAME, "Whose they are, for a server that a header tells it.",
            only=_BATCHES),
        Setting("server_api_key", text("KEY"), "The key of that server itself.", flag=None,
            only=_BATCHES),
        Setting("server_api_key_file", PATH, "File whose first line is the server's key.",
            flag="--api-key-file", only=_BATCHES),
        Setting("server_api_key_env", VARIABLE, "Variable with it.", flag="--api-key-env",
            otherwise="BATCH_GATEWAY_SERVER_API_KEY", only=_BATCHES),
    ),
    "Display": (
        Setting("json", SWITCH, "Summary as one JSON object on stdout.", only=_RUN),
        Setting("quiet", SWITCH, "Say nothing unless something is wrong.", only=_RUN),
        Setting("report", PATH, "Write a page about the run there, HTML.", only=_RUN,
            see="[the report](report.md)"),
        Setting(
            "fail_if", CONDITIONS,
            "End with code 6 if so, such as 'p95>30s' or 'failed>1%'; repeatable.", only=_RUN,
            see="[conditions](running.md#conditions)",
        ),
        Setting("report_data", PATH, "Write the run's figures there: .json or .csv.", only=_RUN,
            see="[its figures](report.md#the-figures-alone)"),
    ),
    "Metrics and logs": (
        Setting("metrics_port", PORT, "Serve Prometheus metrics there; 0 takes a free one.",
            only=_RUN, see="[metrics](metrics.md)"),
        Setting("metrics_host", text("ADDRESS"), "On this address.", "127.0.0.1", only=_RUN),
        Setting("otel", SWITCH, "OpenTelemetry; start the command with opentelemetry-instrument.",
            only=_RUN, see="[OpenTelemetry](metrics.md#opentelemetry)"),
        Setting("log_format", choice("text", "json"),
            "Log every request to stderr; progress too, if json.", see="[logs](metrics.md#logs)"),
        Setting("log_level", choice("debug", "info", "warning", "error"), "How much.",
            otherwise="info"),
    ),
}  # fmt: skip

SETTINGS: Mapping[str, Setting] = {
    setting.name: setting for group in GROUPS.values() for setting in group
}
GATEWAY_SETTINGS: Mapping[str, Setting] = {
    name: setting for name, setting in SETTINGS.items() if setting.field
}
"""What a gateway may have of its own; all else is the run's."""

API_KEY_SETTINGS = ("api_key", "api_key_file", "api_key_env")


def settings_of(command: str) -> dict[str, list[Setting]]:
    """Those that a command has use for, by their headings."""
    found = {
        heading: [setting for setting in group if setting.is_of(command)]
        for heading, group in GROUPS.items()
    }
    return {heading: settings for heading, settings in found.items() if settings}
