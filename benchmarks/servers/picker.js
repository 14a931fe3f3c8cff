// The cheapest endpoint picker that still does the whole protocol: every request is given to the
// pods in turn, bodies are sent back as they came. Started as `node picker.js PORT ip:port...`.
'use strict';
const http2 = require('node:http2');

const [port, ...pods] = process.argv.slice(2);
const NAME = Buffer.from('x-gateway-destination-endpoint');

function varint(number) {
  const bytes = [];
  for (; number > 127; number = Math.floor(number / 128)) bytes.push((number % 128) | 128);
  bytes.push(number);
  return Buffer.from(bytes);
}

// A field that is a string, bytes or a message: its tag, its length and its parts.
function field(number, ...parts) {
  const content = Buffer.concat(parts);
  return Buffer.concat([Buffer.from([number * 8 + 2]), varint(content.length), content]);
}

function framed(message) {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

// ProcessingResponse.request_headers with the choice as a header, and dynamic_metadata with it.
function choice(pod) {
  const value = Buffer.from(pod);
  const header = field(1, field(1, NAME), field(3, value)); // HeaderValueOption.header
  const common = field(1, field(2, field(1, header))); // set_headers of header_mutation
  const inner = field(1, field(1, NAME), field(2, field(3, value))); // Struct.fields
  const outer = field(1, field(1, Buffer.from('envoy.lb')), field(2, field(5, inner)));
  return framed(Buffer.concat([field(1, common), field(8, outer)]));
}

const CHOICES = pods.map(choice);
const HEADERS_SEEN = framed(field(2, field(1)));
const END = Buffer.from([16, 1]);
const NOTHING = Buffer.alloc(0);

// A BodyResponse in field `number` whose streamed_response is the body.
function streamed(number, body, last) {
  const response = field(3, field(1, body), last ? END : NOTHING);
  return framed(field(number, field(1, field(3, response))));
}

// Tag and bounds of each field of a message; only those with a length and varints occur.
function* fieldsOf(bytes, start, end) {
  let at = start;
  const next = () => {
    let number = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      number += (byte & 127) * scale;
      if (byte < 128) return number;
    }
  };
  while (at < end) {
    const tag = next();
    const length = next();
    if ((tag & 7) === 2) {
      yield [tag >> 3, at, at + length];
      at += length;
    } else {
      yield [tag >> 3, length, length];
    }
  }
}

function bodyOf(bytes, start, end) {
  let body = NOTHING;
  let last = false;
  for (const [number, from, to] of fieldsOf(bytes, start, end)) {
    if (number === 1) body = bytes.subarray(from, to);
    else if (number === 2) last = from === 1;
  }
  return [body, last];
}

let turn = 0;

class Conversation {
  constructor(stream) {
    this.stream = stream;
    this.requestBody = [];
  }

  answer(message) {
    for (const [number, start, end] of fieldsOf(message, 0, message.length)) {
      if (number === 4) this.requestPart(...bodyOf(message, start, end));
      else if (number === 3) this.stream.write(HEADERS_SEEN);
      else if (number === 5) this.stream.write(streamed(4, ...bodyOf(message, start, end)));
    }
  }

  requestPart(body, last) {
    this.requestBody.push(body);
    if (!last) return;
    const whole = Buffer.concat(this.requestBody);
    turn = (turn + 1) % CHOICES.length;
    this.stream.write(Buffer.concat([CHOICES[turn], streamed(3, whole, true)]));
  }
}

function serve(stream) {
  const conversation = new Conversation(stream);
  let rest = NOTHING;
  stream.respond(
    { ':status': 200, 'content-type': 'application/grpc' },
    { waitForTrailers: true },
  );
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  stream.on('error', () => {}); // whoever asked has gone
  stream.on('data', (data) => {
    let bytes = rest.length ? Buffer.concat([rest, data]) : data;
    while (bytes.length >= 5) {
      const size = 5 + bytes.readUInt32BE(1);
      if (bytes.length < size) break;
      conversation.answer(bytes.subarray(5, size));
      bytes = bytes.subarray(size);
    }
    rest = bytes;
  });
  stream.on('end', () => stream.end());
}

const settings = { maxConcurrentStreams: 1000000, initialWindowSize: 1 << 20 };
// Envoy resets every stream at its end, which Node.js would take for an attack.
const server = http2.createServer({ settings, streamResetBurst: 1e9, streamResetRate: 1e9 });
server.on('stream', serve);
server.on('session', (session) => {
  session.on('error', () => {});
  // As servers do that watch how much comes: 64 KB for all streams together would be the limit.
  session.setLocalWindowSize(1 << 24);
});
server.listen(Number(port), '127.0.0.1');
