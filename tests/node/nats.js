// nats.js - nats.ws as an app uses it: what each of a test's words does, and what it saw of it.
import { Empty, StringCodec, connect, headers } from "nats.ws";

const text = StringCodec();

const words = {
  // So many messages of so many bytes, in their order.
  async publish(nc, { count, size }) {
    const subscription = nc.subscribe("probe.data", { max: count });
    for (let i = 0; i < count; i++) nc.publish("probe.data", new Uint8Array(size).fill(i));
    let good = 0;
    for await (const m of subscription) good += m.data.length === size && m.data.every((byte) => byte === good % 256);
    return { good };
  },
  async request(nc) {
    nc.subscribe("probe.ask", {
      callback: (_, m) => m.respond(text.encode(`${text.decode(m.data)}: ${m.headers.values("X-Key").join(" ")}`)),
    });
    const h = headers();
    h.append("X-Key", "one");
    h.append("X-Key", "two");
    return { answer: text.decode((await nc.request("probe.ask", text.encode("hällo"), { headers: h })).data) };
  },
  async no_responders(nc) {
    return nc.request("probe.nobody", Empty).then(() => ({}), (error) => ({ error: error.code }));
  },
};

// A connection that is held while a test kills the server.
let held;

async function hold(nc) {
  const subscription = nc.subscribe("probe.again");
  const events = [];
  const back = (async () => {
    for await (const { type } of nc.status()) {
      if (type === "disconnect" || type === "reconnect") events.push(type);
      if (type === "reconnect") return;
    }
  })();
  await nc.flush();
  held = { nc, subscription, events, back };
  return {};
}

// The server is back: so is the subscription, without a word of the app.
async function again({ nc, subscription, events, back }) {
  await back;
  nc.publish("probe.again", text.encode("again"));
  for await (const m of subscription) {
    await nc.close();
    return { answer: text.decode(m.data), events };
  }
}

export async function nats(origin, spec) {
  if (spec.nats === "again") return again(held);
  const nc = await connect({ servers: origin.replace(/^http/, "ws") + spec.path, reconnectTimeWait: 50, maxReconnectAttempts: -1, waitOnFirstConnect: true });
  if (spec.nats === "hold") return hold(nc);
  try {
    return await words[spec.nats](nc, spec);
  } finally {
    await nc.close();
  }
}
