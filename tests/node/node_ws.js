// node_ws.js - the client of `ws`, and nats.ws on it: reads a spec a line as JSON, answers each with a line. NODE_EXTRA_CA_CERTS has the CA.
import { createInterface } from "node:readline";
import WebSocket from "ws";
import { nats } from "./nats.js";
import { converse } from "./socket.js";

globalThis.WebSocket ??= WebSocket; // nats.ws wants it there

const lines = createInterface({ input: process.stdin });
lines.on("line", async (line) => {
  const { host, ...spec } = JSON.parse(line);
  const seen = spec.nats ? await nats(host, spec) : await converse(WebSocket, host, spec);
  process.stdout.write(JSON.stringify(seen) + "\n");
});
lines.on("close", () => process.exit(0));
