// Objects on standard input, as JSON, before the schemas of the operators that know them; their
// problems, and the fields that no schema has looked at: nobody would heed those.
import { readFileSync } from "node:fs";
import { HTTPRoute } from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1";
import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1";
import {
  PrometheusRule,
  ServiceMonitor,
} from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const KINDS = { HTTPRoute, PrometheusRule, ScaledObject, ServiceMonitor };

function watched(value, path, unread) {
  if (value === null || typeof value !== "object") return value;
  const isList = Array.isArray(value);
  const copy = isList ? [] : {};
  for (const [key, one] of Object.entries(value)) {
    copy[key] = watched(one, `${path}.${key}`, unread);
    if (!isList) unread.add(`${path}.${key}`);
  }
  return new Proxy(copy, {
    get(target, key) {
      unread.delete(`${path}.${String(key)}`);
      return target[key];
    },
  });
}

for (const given of JSON.parse(readFileSync(0, "utf-8"))) {
  const known = new KINDS[given.kind](given);
  const unread = new Set();
  const name = `${given.kind} ${given.metadata.name}`;
  if (known.apiVersion !== given.apiVersion) console.log(`${name}: ${given.apiVersion}`);
  for (const part of ["metadata", "spec"]) known[part] = watched(given[part], part, unread);
  try {
    known.validate();
  } catch (error) {
    console.log(`${name}: ${error.message}`);
  }
  for (const path of unread) console.log(`${name}: ${path} is unknown`);
}
