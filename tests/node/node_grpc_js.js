// node_grpc_js.js ADDRESS CA - the client of @grpc/grpc-js: reads a call a line as JSON ({ host, …spec }), answers each with a line.
import * as grpc from "@grpc/grpc-js";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { METHODS, SERVICE, bytesOf, decode, encode, nameOf, probe, seen } from "./note.js";

const [address, ca] = process.argv.slice(2);
const clients = {};

function clientOf(host, compress) {
  return (clients[host + compress] ??= new grpc.Client(address, grpc.credentials.createSsl(readFileSync(ca)), {
    "grpc.ssl_target_name_override": host,
    "grpc.default_authority": host,
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
    "grpc.enable_retries": 0,
    "grpc.enable_http_proxy": 0,
    ...(compress && { "grpc.default_compression_algorithm": 2 }), // gzip
  }));
}

const pairs = (metadata) =>
  Object.keys(metadata?.getMap() ?? {}).flatMap((key) => metadata.get(key).map((value) => [key, value]));

function call({ host, compress }) {
  return (method, notes, options) =>
    new Promise((resolve) => {
      const metadata = new grpc.Metadata();
      for (const [key, value] of options.metadata) metadata.add(key, key.endsWith("-bin") ? Buffer.from(bytesOf(value)) : value);
      const [many, manyBack] = METHODS[method];
      const client = clientOf(host, compress);
      const kind = { falsefalse: "makeUnaryRequest", falsetrue: "makeServerStreamRequest", truefalse: "makeClientStreamRequest",
                     truetrue: "makeBidiStreamRequest" }[`${many}${manyBack}`];
      const deadline = options.timeout ? { deadline: Date.now() + options.timeout } : {};
      const args = [`/${SERVICE}/${method}`, (note) => Buffer.from(encode(note)), decode];
      if (!many) args.push(notes[0]);
      args.push(metadata, deadline);
      if (!manyBack) args.push((error, note) => note && options.onNote(note));
      const c = client[kind](...args);
      let head = {};
      c.on("metadata", (m) => (head = seen(pairs(m))));
      c.on("data", options.onNote);
      c.on("error", () => {}); // the status says it too
      c.on("status", (status) =>
        resolve({ code: nameOf(status.code), message: status.details, head, tail: seen(pairs(status.metadata)) }));
      options.onCancel(() => c.cancel());
      if (many) {
        for (const note of notes) c.write(note);
        if (!options.open) c.end();
      }
    });
}

const lines = createInterface({ input: process.stdin });
lines.on("line", async (line) => {
  const spec = JSON.parse(line);
  const outcome = await probe(call(spec), spec);
  process.stdout.write(JSON.stringify(outcome) + "\n");
});
lines.on("close", () => process.exit(0));
