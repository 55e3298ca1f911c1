// page_protobuf_ts.js - @protobuf-ts/grpcweb-transport, in both of its forms, on protobuf-ts' own messages.
import { GrpcWebFetchTransport } from "@protobuf-ts/grpcweb-transport";
import { MessageType, ScalarType } from "@protobuf-ts/runtime";
import { ServiceType } from "@protobuf-ts/runtime-rpc";
import { METHODS, SERVICE, base64Of, bytesOf, probe, seen } from "./note.js";

const Note = new MessageType("probe.Note", [
  { no: 1, name: "text", kind: "scalar", T: ScalarType.STRING },
  { no: 2, name: "n", kind: "scalar", T: ScalarType.UINT32 },
]);
const service = new ServiceType(
  SERVICE,
  Object.entries(METHODS).map(([name, [clientStreaming, serverStreaming]]) => ({ name, clientStreaming, serverStreaming, I: Note, O: Note })),
);

// A list where a key came twice.
const pairs = (metadata) => Object.entries(metadata ?? {}).flatMap(([key, value]) => [].concat(value).map((v) => [key, v]));

function call(host, format) {
  const transport = new GrpcWebFetchTransport({ baseUrl: host, format });
  return async (method, notes, options) => {
    const meta = {};
    for (const [key, value] of options.metadata) (meta[key] ??= []).push(key.endsWith("-bin") ? base64Of(bytesOf(value)) : value);
    const abort = new AbortController();
    options.onCancel(() => abort.abort());
    const info = service.methods.find((m) => m.name === method);
    const many = info.serverStreaming;
    const c = transport[many ? "serverStreaming" : "unary"](info, Note.create(notes[0]),
      transport.mergeOptions({ meta, timeout: options.timeout, abort: abort.signal }));
    for (const p of [c.headers, c.response, c.status, c.trailers]) p?.catch?.(() => {}); // each of them fails with the call
    let head = {};
    c.headers.then((h) => (head = seen(pairs(h))), () => {});
    try {
      if (many) for await (const note of c.responses) options.onNote(note);
      else options.onNote(await c.response);
      const status = await c.status;
      return { code: status.code, message: status.detail, head, tail: seen(pairs(await c.trailers)) };
    } catch (error) {
      return { code: error.code, message: error.message, head, tail: seen(pairs(error.meta)) };
    }
  };
}

window.probe = (spec) => probe(call(spec.host, spec.form), spec);
