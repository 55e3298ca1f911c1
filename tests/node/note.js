// note.js - probe.Note, the one message of the tests' service, and what all clients and servers in JavaScript share:
//
//   message Note { string text = 1; uint32 n = 2; }
//
// The clients that bring a protobuf of their own (page_connect.js, page_protobuf_ts.js) do not use this codec.

export const SERVICE = "probe.Probe";

// What each method is: [the client streams, the server streams]. node_server.js says what they do.
export const METHODS = {
  Unary: [false, false],
  Fail: [false, false],
  FailAfter: [false, true],
  Meta: [false, false],
  Wait: [false, false],
  Live: [false, false],
  Exit: [false, false],
  Count: [false, true],
  Hang: [false, true],
  Flood: [false, true],
  Sum: [true, false],
  Chat: [true, true],
  Nothing: [false, false], // no server has it
};

function varint(out, v) {
  for (; v > 0x7f; v >>>= 7) out.push((v & 0x7f) | 0x80);
  out.push(v);
}

export function encode(note) {
  const text = new TextEncoder().encode(note.text ?? "");
  const head = [], tail = [];
  if (text.length) {
    head.push(0x0a);
    varint(head, text.length);
  }
  if (note.n) {
    tail.push(0x10);
    varint(tail, note.n);
  }
  const out = new Uint8Array(head.length + text.length + tail.length);
  out.set(head);
  out.set(text, head.length);
  out.set(tail, head.length + text.length);
  return out;
}

export function decode(bytes) {
  const note = { text: "", n: 0 };
  let i = 0;
  function number() {
    let v = 0, shift = 0, b;
    do {
      if (i >= bytes.length) throw new Error("a Note that is cut");
      b = bytes[i++];
      v |= (b & 0x7f) << shift;
      shift += 7;
    } while (b & 0x80);
    return v >>> 0;
  }
  while (i < bytes.length) {
    const tag = bytes[i++];
    if (tag === 0x0a) {
      const length = number();
      if (i + length > bytes.length) throw new Error("a Note that is cut");
      note.text = new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(i, i + length));
      i += length;
    } else if (tag === 0x10) note.n = number();
    else throw new Error(`a Note with tag ${tag}`);
  }
  return note;
}

const CODES = [
  "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
  "UNAUTHENTICATED",
];
export const nameOf = (code) => CODES[code] ?? `code ${code}`;

const hexOf = (bytes) => [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");
export const bytesOf = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (b) => parseInt(b, 16));
export const base64Of = (bytes) => btoa(String.fromCharCode(...bytes));

// Metadata as the tests compare it: only what is the service's own, "a, b" where a key came twice, bytes as hex.
export function seen(pairs) {
  const out = {};
  for (const [key, value] of pairs) {
    if (!/^(x-|grpc-status-details-bin)/.test(key)) continue;
    const values = key.endsWith("-bin")
      ? typeof value === "string" ? value.split(/, ?/).map((v) => hexOf(Uint8Array.from(atob(v), (c) => c.charCodeAt(0)))) : [hexOf(value)]
      : [value];
    out[key] = [...(out[key] ? [out[key]] : []), ...values].join(", ");
  }
  return out;
}

// One call of a spec that a test wrote; `call` is what the client's file provides:
//   call(method, notes, { metadata, timeout, open, onNote, onCancel }) → { code, message, head, tail }
// metadata: pairs, -bin values in hex; timeout: ms; open: the client's stream is not ended; onNote: a note came; onCancel(fn): fn cancels.
// The spec says the same, whether the client compresses what it sends (compress), and when the call is cancelled or its server killed: at_first, with its first note; when_live, as soon as
// the server has it.
export async function probe(call, spec) {
  const got = [];
  const notes = spec.notes.map((n) => (n.size ? { text: "x".repeat(n.size), n: n.n } : n));
  let cancel = () => {};
  const aside = (method, onNote = () => {}) => call(method, [{}], { metadata: [], onCancel: () => {}, onNote });
  const under_way = call(spec.method, notes, {
    metadata: spec.metadata ?? [],
    timeout: spec.timeout,
    open: spec.open ?? false,
    onCancel: (fn) => (cancel = fn),
    onNote: (note) => {
      got.push(note.text.length > 1000 ? { size: note.text.length, n: note.n } : { text: note.text, n: note.n });
      if (got.length !== 1) return;
      if (spec.at_first === "cancel") cancel();
      if (spec.at_first === "kill") aside("Exit");
    },
  });
  for (let live = 0; spec.when_live && !live; ) await aside("Live", (note) => (live = note.n));
  if (spec.when_live) cancel();
  const outcome = await Promise.race([under_way, new Promise((_, reject) => setTimeout(reject, 60000, new Error("the call does not end")))]);
  if (spec.flood) got.splice(1);
  return { ...outcome, got };
}
