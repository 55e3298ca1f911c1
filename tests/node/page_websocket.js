// page_websocket.js - the browser's own WebSocket, and nats.ws on it.
import { nats } from "./nats.js";
import { converse } from "./socket.js";

window.probe = ({ host, ...spec }) => (spec.nats ? nats(host, spec) : converse(WebSocket, host, spec));
