// The answers of the trials on Node's own HTTP server. Argument: the port.
"use strict";
const http = require("http");

const LARGE = Buffer.from(JSON.stringify({ data: "x".repeat(5000000) }));
const PIECES = 7;
const TYPE = { "Content-Type": "application/json" };

function whole(response, status, body) {
  response.writeHead(status, { ...TYPE, "Content-Length": body.length });
  response.end(body);
}

function stream(response, body) {
  response.writeHead(200, TYPE);
  const size = Math.floor(body.length / PIECES) + 1;
  for (let start = 0; start < body.length; start += size) {
    response.write(body.subarray(start, start + size));
  }
  response.end();
}

function respond(url, body, response) {
  if (url === "/chunked") stream(response, body);
  else if (url === "/large") whole(response, 200, LARGE);
  else if (url === "/slow") setTimeout(() => whole(response, 200, body), 300);
  else if (url.startsWith("/status/")) whole(response, Number(url.slice(8)), body);
  else whole(response, 200, body);
}

const server = http.createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => respond(request.url, Buffer.concat(parts), response));
});
server.keepAliveTimeout = 1000;
server.listen(Number(process.argv[2]), "127.0.0.1");
