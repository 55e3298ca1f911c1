// rpc.js - the page's gRPC-Web calls, by the official client (npm: grpc-web). Bundled by mk/demo-web; demo.js finds it
// as window.rpc. The codecs are what protoc would make of demo.proto, written out by hand: there are four messages.
import { BinaryReader, BinaryWriter } from "google-protobuf";
import { GrpcWebClientBase, MethodDescriptor, MethodType, StatusCode } from "grpc-web";

function decode(bytes, fields) {
  const message = {};
  const reader = new BinaryReader(bytes);
  while (reader.nextField()) {
    const field = fields[reader.getFieldNumber()];
    if (field) message[field.name] = reader[field.read]();
    else reader.skipField();
  }
  return message;
}

function encode(write) {
  const writer = new BinaryWriter();
  write(writer);
  return writer.getResultBuffer();
}

const greetReply = {
  1: { name: "text", read: "readString" },
  2: { name: "channel", read: "readString" },
  3: { name: "version", read: "readString" },
  4: { name: "pid", read: "readInt32" },
};
const tick = {
  1: { name: "n", read: "readUint64" },
  2: { name: "unixMs", read: "readUint64" },
  3: { name: "pid", read: "readInt32" },
};

const greet = new MethodDescriptor("/headgate.demo.v1.Demo/Greet", MethodType.UNARY, Object, Object,
  (request) => encode((w) => w.writeString(1, request.name)), (bytes) => decode(bytes, greetReply));
const watch = new MethodDescriptor("/headgate.demo.v1.Demo/Watch", MethodType.SERVER_STREAMING, Object, Object,
  (request) => encode((w) => w.writeUint32(1, request.intervalMs)), (bytes) => decode(bytes, tick));

// Both forms of gRPC-Web: binary for the unary call; text for the stream, which this client needs to see messages as they come.
const binary = new GrpcWebClientBase({ format: "binary" });
const text = new GrpcWebClientBase({ format: "text" });

window.rpc = {
  // Resolves to a GreetReply; rejects with an error that has `code` and `message`.
  greet: (origin, name) => binary.unaryCall(origin + greet.getName(), { name }, {}, greet),
  // A stream with on("data"), on("error"), on("end"), cancel().
  watch: (origin, intervalMs) => text.serverStreaming(origin + watch.getName(), { intervalMs }, {}, watch),
  statusName: (code) => Object.keys(StatusCode).find((name) => StatusCode[name] === code) ?? `status ${code}`,
};
