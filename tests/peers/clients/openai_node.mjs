// The openai package for Node: drives the API once through, and prints what it saw as JSON.
// Arguments: base URL, API key. requests.jsonl and held.jsonl are in the working folder.
import assert from "node:assert/strict";
import fs from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import OpenAI, { toFile } from "openai";

const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const name = "requests.jsonl";
const requests = fs.readFileSync(name);

async function* inPieces() {
  for (let start = 0; start < requests.length; start += 100) {
    yield requests.subarray(start, start + 100);
  }
}

const WAYS = [
  () => fs.createReadStream(name),
  () => fs.openAsBlob(name).then((blob) => toFile(blob, name)),
  () => toFile(requests, name, { type: "application/jsonl" }),
  () => toFile(inPieces(), name),
  () => new File([requests], name),
  () => new Response(requests, { headers: { "content-type": "text/plain" } }),
];

async function uploads() {
  const ids = [];
  for (const way of WAYS) {
    const file = await client.files.create({ file: await way(), purpose: "batch" });
    const content = await (await client.files.content(file.id)).arrayBuffer();
    assert.deepEqual(Buffer.from(content), requests);
    assert.deepEqual(await client.files.retrieve(file.id), file);
    ids.unshift(file.id);
  }
  const listed = [];
  for await (const file of client.files.list({ limit: 4 })) listed.push(file.id);
  assert.deepEqual(listed, ids);
  return ids;
}

function submit(id) {
  const endpoint = "/v1/chat/completions";
  const metadata = { by: "node" };
  return client.batches.create({ input_file_id: id, endpoint, completion_window: "24h", metadata });
}

async function until(id, isThere) {
  for (;;) {
    const batch = await client.batches.retrieve(id);
    if (isThere(batch)) return batch;
    await pause(50);
  }
}

const text = async (id) => (id ? (await client.files.content(id)).text() : "");

async function results(id) {
  const batch = await until(id, (now) => now.completed_at || now.cancelled_at || now.failed_at);
  const output = await text(batch.output_file_id);
  return { batch, output, errors: await text(batch.error_file_id) };
}

async function refusal(promise) {
  const error = await promise.then(() => null, (error) => error);
  return [error.constructor.name, error.status, error.message];
}

const [id, ...others] = await uploads();
const completed = await results((await submit(id)).id);

const held = await client.files.create({ file: fs.createReadStream("held.jsonl"), purpose: "batch" });
const { id: heldId } = await submit(held.id);
await until(heldId, (now) => now.request_counts?.completed === 2);
await client.batches.cancel(heldId);
const cancelled = await results(heldId);

const batches = [];
for await (const batch of client.batches.list({ limit: 1 })) batches.push(batch.id);
const deleted = await Promise.all(others.map((other) => client.files.delete(other)));
const stranger = new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 });
const refusals = {
  file: await refusal(client.files.retrieve(others[0])),
  batch: await refusal(client.batches.retrieve("batch_none")),
  purpose: await refusal(client.files.create({ file: await WAYS[2](), purpose: "none" })),
  over: await refusal(client.batches.cancel(completed.batch.id)),
  key: await refusal(stranger.batches.list()),
};
const allDeleted = deleted.every((one) => one.deleted);
console.log(JSON.stringify({ completed, cancelled, batches, allDeleted, refusals }));
