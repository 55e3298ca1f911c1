// page_grpc_web.js - the official grpc-web, in both of its forms.
import { GrpcWebClientBase, MethodDescriptor, MethodType } from "grpc-web";
import { METHODS, SERVICE, base64Of, bytesOf, decode, encode, nameOf, probe, seen } from "./note.js";

class Note {}
const descriptors = Object.fromEntries(
  Object.entries(METHODS).map(([name, [, manyBack]]) => [
    name,
    new MethodDescriptor(`/${SERVICE}/${name}`, manyBack ? MethodType.SERVER_STREAMING : MethodType.UNARY, Note, Note, encode, decode),
  ]),
);

function call(host, client) {
  return (method, notes, options) =>
    new Promise((resolve) => {
      const metadata = {}; // one value a key
      for (const [key, value] of options.metadata)
        metadata[key] = [...(metadata[key] ? [metadata[key]] : []), key.endsWith("-bin") ? base64Of(bytesOf(value)) : value].join(", ");
      if (options.timeout) metadata.deadline = String(Date.now() + options.timeout);
      const url = `${host}/${SERVICE}/${method}`;
      let head, status, done;
      // A call is over with its status, its initial metadata, which this client tells last, and a unary one's callback.
      const over = () =>
        head && status && done && resolve({ code: nameOf(status.code), message: status.details, head, tail: seen(Object.entries(status.metadata ?? {})) });
      const c = METHODS[method][1]
        ? client.serverStreaming(url, notes[0], metadata, descriptors[method])
        : client.rpcCall(url, notes[0], metadata, descriptors[method], (error, note) => {
            if (!error) options.onNote(note);
            done = true;
            over();
          });
      c.on("metadata", (m) => {
        head = seen(Object.entries(m));
        over();
      });
      c.on("status", (s) => {
        status = s;
        over();
      });
      if (METHODS[method][1]) {
        done = true;
        c.on("data", options.onNote);
        c.on("error", () => {}); // the status says it too
      }
      options.onCancel(() => {
        c.cancel();
        resolve({ code: "CANCELLED", message: "", head: {}, tail: {} }); // it tells nobody that it did what it was asked to
      });
    });
}

const clients = { text: new GrpcWebClientBase({ format: "text" }), binary: new GrpcWebClientBase({ format: "binary" }) };
window.probe = (spec) => probe(call(spec.host, clients[spec.form]), spec);
