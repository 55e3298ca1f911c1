// node_server.js ADDRESS - probe.Probe on @grpc/grpc-js. tests/cases/probe_grpcio.py is the same service on grpcio.
import * as grpc from "@grpc/grpc-js";
import { METHODS, SERVICE, decode, encode } from "./note.js";

const SAID = "made to fail: ä%";

// google.rpc.Status { code, message: SAID, details: [Any { type_url: …/probe.Note, value: Note { text: "why", n: 7 } }] }
function details(code) {
  const any = [...lengthed(0x0a, new TextEncoder().encode("type.googleapis.com/probe.Note")), ...lengthed(0x12, encode({ text: "why", n: 7 }))];
  return Buffer.from([0x08, code, ...lengthed(0x12, new TextEncoder().encode(SAID)), ...lengthed(0x1a, any)]);
}
const lengthed = (tag, bytes) => [tag, bytes.length, ...bytes];

function failure(code) {
  const metadata = new grpc.Metadata();
  metadata.set("x-why", "because");
  metadata.set("grpc-status-details-bin", details(code));
  return { code, details: SAID, metadata };
}

const die = () => process.kill(process.pid, "SIGKILL");
let live = 0; // calls that wait for their end

// Calls that only their client, or a kill, ends.
function waits(call) {
  live++;
  call.on("cancelled", () => live--);
}

const handlers = {
  // Echoes; n grows. "die": the whole server does.
  Unary(call, done) {
    if (call.request.text === "die") die();
    else done(null, { text: call.request.text, n: call.request.n + 1 });
  },
  // Ends with the code n; "late": after its head, else with its head alone ("trailers-only").
  Fail(call, done) {
    if (call.request.text === "late") {
      const metadata = new grpc.Metadata();
      metadata.set("x-begin", "1");
      call.sendMetadata(metadata);
    }
    done(failure(call.request.n));
  },
  FailAfter(call) {
    call.write({ text: "one", n: 1 });
    call.emit("error", failure(call.request.n));
  },
  // The request's x-echo… comes back twice, as initial metadata and, named x-tail…, as trailing one; and a key with two values.
  Meta(call, done) {
    const head = new grpc.Metadata(), tail = new grpc.Metadata();
    for (const key of Object.keys(call.metadata.getMap()))
      if (key.startsWith("x-echo"))
        for (const value of call.metadata.get(key)) {
          head.add(key, value);
          tail.add(key.replace("x-echo", "x-tail"), value);
        }
    for (const value of ["a", "b"]) {
      head.add("x-two", value);
      tail.add("x-tail-two", value);
    }
    call.sendMetadata(head);
    done(null, {}, tail);
  },
  Wait: (call) => waits(call),
  Live: (call, done) => done(null, { n: live }),
  Exit: die,
  Count(call) {
    for (let i = 0; i < call.request.n; i++) call.write({ text: call.request.text, n: i });
    call.end();
  },
  Hang(call) {
    waits(call);
    call.write({ text: "first", n: 1 });
  },
  Flood(call) {
    const note = { text: "x".repeat(100000), n: 1 };
    const more = () => {
      while (!call.cancelled && call.write(note));
    };
    call.on("drain", more);
    more();
  },
  // "enough" and "no": answered at once, whatever is still to come.
  Sum(call, done) {
    let n = 0;
    call.on("data", (note) => {
      if (note.text === "die") die();
      if (note.text === "enough") done(null, { text: "enough", n });
      if (note.text === "no") done(failure(9));
      n += note.n;
    });
    call.on("end", () => done(null, { text: "sum", n }));
  },
  Chat(call) {
    call.on("data", (note) => call.write(note));
    call.on("end", () => call.end());
  },
};

const definition = Object.fromEntries(
  Object.entries(METHODS).filter(([name]) => name in handlers).map(([name, [requestStream, responseStream]]) => [
    name,
    {
      path: `/${SERVICE}/${name}`,
      requestStream,
      responseStream,
      requestSerialize: (note) => Buffer.from(encode(note)),
      requestDeserialize: decode,
      responseSerialize: (note) => Buffer.from(encode(note)),
      responseDeserialize: decode,
    },
  ]),
);

const server = new grpc.Server({ "grpc.max_receive_message_length": -1 });
server.addService(definition, handlers);
server.bindAsync(process.argv[2], grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
  console.log("serving");
});
