// page_connect_web.js - @connectrpc/connect-web with its gRPC-Web transport, on @bufbuild/protobuf's messages.
import { create, createFileRegistry } from "@bufbuild/protobuf";
import { FieldDescriptorProto_Label, FieldDescriptorProto_Type, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { METHODS, SERVICE, base64Of, bytesOf, nameOf, probe, seen } from "./note.js";

const field = (name, number, type) => ({ name, jsonName: name, number, type, label: FieldDescriptorProto_Label.OPTIONAL });
const file = {
  name: "probe.proto",
  package: "probe",
  syntax: "proto3",
  messageType: [
    { name: "Note", field: [field("text", 1, FieldDescriptorProto_Type.STRING), field("n", 2, FieldDescriptorProto_Type.UINT32)] },
  ],
  service: [
    {
      name: "Probe",
      method: Object.entries(METHODS).map(([name, [clientStreaming, serverStreaming]]) => ({
        name,
        inputType: ".probe.Note",
        outputType: ".probe.Note",
        clientStreaming,
        serverStreaming,
      })),
    },
  ],
};
const service = createFileRegistry(create(FileDescriptorSetSchema, { file: [file] })).getService(SERVICE);

function call(host) {
  const client = createClient(service, createGrpcWebTransport({ baseUrl: host }));
  return async (method, notes, options) => {
    const headers = new Headers();
    for (const [key, value] of options.metadata) headers.append(key, key.endsWith("-bin") ? base64Of(bytesOf(value)) : value);
    const abort = new AbortController();
    options.onCancel(() => abort.abort());
    let head = {}, tail = {};
    const callOptions = {
      headers,
      signal: abort.signal,
      timeoutMs: options.timeout,
      onHeader: (h) => (head = seen(h.entries())),
      onTrailer: (h) => (tail = seen(h.entries())),
    };
    try {
      const name = method[0].toLowerCase() + method.slice(1);
      if (METHODS[method][1]) for await (const note of client[name](notes[0], callOptions)) options.onNote(note);
      else options.onNote(await client[name](notes[0], callOptions));
      return { code: "OK", message: "", head, tail };
    } catch (e) {
      const error = ConnectError.from(e);
      // What came first and what came last are one to this client, and the details are no metadata.
      const metadata = seen(error.metadata.entries());
      return { code: nameOf(error.code), message: error.rawMessage, head: metadata, tail: metadata, details: error.details };
    }
  };
}

window.probe = (spec) => probe(call(spec.host), spec);
