// The answers of the trials in nginx's own scripting language.
const PIECES = 7;

function body(r) {
  return r.requestBuffer === undefined ? Buffer.from("") : r.requestBuffer;
}

function echo(r) {
  r.headersOut["Content-Type"] = "application/json";
  r.return(200, body(r));
}

function large(r) {
  r.headersOut["Content-Type"] = "application/json";
  r.return(200, JSON.stringify({ data: "x".repeat(5000000) }));
}

function slow(r) {
  setTimeout(() => echo(r), 300);
}

function status(r) {
  r.headersOut["Content-Type"] = "application/json";
  r.return(Number(r.uri.split("/").pop()), body(r));
}

function chunked(r) {
  r.status = 200;
  r.headersOut["Content-Type"] = "application/json";
  r.sendHeader();
  const all = body(r);
  const size = Math.floor(all.length / PIECES) + 1;
  for (let start = 0; start < all.length; start += size) {
    r.send(all.subarray(start, start + size));
  }
  r.finish();
}

export default { echo, large, slow, status, chunked };
