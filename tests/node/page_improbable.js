// page_improbable.js - @improbable-eng/grpc-web.
import { grpc } from "@improbable-eng/grpc-web";
import { METHODS, SERVICE, base64Of, bytesOf, decode, encode, nameOf, probe, seen } from "./note.js";

class Note {
  constructor(note) {
    this.note = note;
  }
  toObject() {
    return this.note;
  }
  serializeBinary() {
    return encode(this.note);
  }
  static deserializeBinary(bytes) {
    return new Note(decode(bytes));
  }
}

const pairs = (metadata) => Object.entries(metadata.headersMap).flatMap(([key, values]) => values.map((value) => [key, value]));

function call(host) {
  return (method, notes, options) =>
    new Promise((resolve) => {
      const [requestStream, responseStream] = METHODS[method];
      const metadata = new grpc.Metadata();
      for (const [key, value] of options.metadata) metadata.append(key, key.endsWith("-bin") ? base64Of(bytesOf(value)) : value);
      if (options.timeout) metadata.set("grpc-timeout", `${options.timeout}m`); // its only way to a deadline
      let head = {};
      const c = grpc.invoke(
        { methodName: method, service: { serviceName: SERVICE }, requestStream, responseStream, requestType: Note, responseType: Note },
        {
          host,
          request: new Note(notes[0]),
          metadata,
          onHeaders: (h) => (head = seen(pairs(h))),
          onMessage: (note) => options.onNote(note.toObject()),
          onEnd: (code, message, trailers) => resolve({ code: nameOf(code), message, head, tail: seen(pairs(trailers)) }),
        },
      );
      options.onCancel(() => {
        c.close(); // nothing is called after this
        resolve({ code: "CANCELLED", message: "", head, tail: {} });
      });
    });
}

window.probe = (spec) => probe(call(spec.host), spec);
