// page_nice_grpc_web.js - nice-grpc-web.
import { ClientError, Metadata, createChannel, createClient } from "nice-grpc-web";
import { METHODS, SERVICE, bytesOf, decode, encode, nameOf, probe, seen } from "./note.js";

const definition = Object.fromEntries(
  Object.entries(METHODS).map(([name, [requestStream, responseStream]]) => [
    name,
    {
      path: `/${SERVICE}/${name}`,
      requestStream,
      responseStream,
      requestSerialize: encode,
      requestDeserialize: decode,
      responseSerialize: encode,
      responseDeserialize: decode,
      options: {},
    },
  ]),
);

const pairs = (metadata) => [...metadata].flatMap(([key, values]) => values.map((value) => [key, value]));

function call(host) {
  const client = createClient(definition, createChannel(host));
  return async (method, notes, options) => {
    const metadata = new Metadata();
    for (const [key, value] of options.metadata) metadata.append(key, key.endsWith("-bin") ? bytesOf(value) : value);
    if (options.timeout) metadata.set("grpc-timeout", `${options.timeout}m`); // its deadlines are another package's
    const abort = new AbortController();
    options.onCancel(() => abort.abort());
    let head = {}, tail = {};
    const callOptions = {
      metadata,
      signal: abort.signal,
      onHeader: (h) => (head = seen(pairs(h))),
      onTrailer: (h) => (tail = seen(pairs(h))),
    };
    try {
      if (METHODS[method][1]) for await (const note of client[method](notes[0], callOptions)) options.onNote(note);
      else options.onNote(await client[method](notes[0], callOptions));
      return { code: "OK", message: "", head, tail };
    } catch (error) {
      if (error.name === "AbortError") return { code: "CANCELLED", message: "", head, tail };
      if (!(error instanceof ClientError)) return { code: String(error), message: "", head, tail };
      return { code: nameOf(error.code), message: error.details, head, tail };
    }
  };
}

window.probe = (spec) => probe(call(spec.host), spec);
