// socket.js - one WebSocket as a test's spec says, by a WebSocket class as the browsers have it; the page's own or that of `ws`.
//
// spec: { path, protocols, messages, close }. messages: text, or { size } bytes; as many are awaited as are sent. close: [code, reason],
// the client closes with them then; without, the server is to end it. What was seen: { protocol, extensions, got, code, reason, clean }.

export function converse(WebSocket, origin, spec) {
  return new Promise((resolve) => {
    const ws = new WebSocket(origin.replace(/^http/, "ws") + spec.path, spec.protocols ?? []);
    const got = [];
    let protocol, extensions;
    ws.binaryType = "arraybuffer";
    const done = () => spec.close && got.length === spec.messages.length && ws.close(...spec.close);
    ws.onopen = () => {
      ({ protocol, extensions } = ws);
      for (const m of spec.messages) ws.send(typeof m === "string" ? m : new Uint8Array(m.size).fill(7));
      done();
    };
    ws.onmessage = ({ data }) => {
      if (typeof data === "string") got.push(data);
      else got.push({ size: new Uint8Array(data).reduce((n, byte) => n + (byte === 7), 0) });
      done();
    };
    ws.onerror = () => {}; // its close says it too
    ws.onclose = ({ code, reason, wasClean }) => resolve({ protocol, extensions, got, code, reason, clean: wasClean });
  });
}
