// node_ws_server.js ADDRESS - the server of `ws`: echoes. /close closes with 4001; the message "die" kills it. Of subprotocols it speaks "b".
import { WebSocketServer } from "ws";

const [host, port] = process.argv[2].split(":");
const server = new WebSocketServer({
  host,
  port: Number(port),
  perMessageDeflate: { threshold: 0 },
  handleProtocols: (protocols) => protocols.has("b") && "b",
});
server.on("connection", (ws, request) => {
  if (request.url === "/ws/close") ws.close(4001, "enough");
  ws.on("message", (data, binary) => {
    if (String(data.subarray(0, 4)) === "die") process.kill(process.pid, "SIGKILL");
    ws.send(data, { binary });
  });
});
server.on("listening", () => console.log("serving"));
