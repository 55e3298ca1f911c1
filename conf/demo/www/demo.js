// demo.js - keeps one card a channel live: who answers, how fast, its event stream and its gRPC-Web
// calls (rpc.js makes them). Written by hand, without a framework; everything that it shows came
// through the gate a moment ago.
"use strict";

const CHANNELS = [
  { name: "stable", host: "www.localhost" },
  { name: "beta", host: "beta.localhost" },
  { name: "alpha", host: "alpha.localhost" },
];
const SAMPLES = 30;
const SLOW_MS = 250;
const WATCH_MS = 1000;    // between two messages of the gRPC stream
const WATCH_TICKS = 1800; // then a new one: a browser keeps the text of a whole stream
const AGAIN_MS = 300;

const origin = (host) => `${location.protocol}//${host}${location.port ? ":" + location.port : ""}`;

function makeCard(channel) {
  const card = document.getElementById("card").content.cloneNode(true).firstElementChild;
  card.classList.add(channel.name);
  card.classList.toggle("here", location.hostname === channel.host);
  card.querySelector("h2").textContent = channel.name;
  const link = card.querySelector(".host");
  link.textContent = channel.host;
  link.href = origin(channel.host) + "/";
  const kill = card.querySelector(".kill");
  kill.addEventListener("click", async () => {
    await navigator.clipboard.writeText(kill.textContent.trim());
    kill.classList.add("copied");
    setTimeout(() => kill.classList.remove("copied"), 1500);
  });
  document.getElementById("channels").append(card);
  return card;
}

function setField(card, name, text) {
  card.querySelector(`[data-is="${name}"]`).textContent = text;
}

function setState(card, state, text) {
  card.classList.remove("good", "slow", "bad");
  card.classList.add(state);
  card.querySelector(".light").setAttribute("aria-label", text);
}

// Runs the animation anew even when the last one has not ended.
function flash(card, name) {
  const field = card.querySelector(`[data-is="${name}"]`);
  field.classList.remove("flash");
  void field.offsetWidth;
  field.classList.add("flash");
}

function formatUptime(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

// Latencies as a curve on a logarithmic scale: one request that waited must not flatten all others.
function drawSpark(card, samples) {
  const x = (i) => 240 - ((samples.length - 1 - i) * 240) / (SAMPLES - 1);
  const y = (ms) => 46 - 42 * Math.min(1, Math.log10(1 + ms) / 4);
  const points = samples.map((ms, i) => `${x(i).toFixed(1)},${y(ms).toFixed(1)}`);
  const line = "M" + points.join("L");
  card.querySelector(".line").setAttribute("d", line);
  card.querySelector(".area").setAttribute("d", `${line}L240,48L${x(0).toFixed(1)},48Z`);
}

function showInfo(card, state, info, latency) {
  const kill = card.querySelector(".kill code");
  card.querySelector(".version").textContent = info.version;
  for (const name of ["pid", "requests"]) setField(card, name, info[name]);
  setField(card, "instance", info.instance.replace(/^.*\//, "")); // the card names the channel
  setField(card, "uptime", formatUptime(info.uptime));
  setField(card, "latency", `${latency.toFixed(latency < 10 ? 1 : 0)} ms`);
  kill.textContent = `kill -9 ${info.pid}`;
  if (state.pid !== undefined && state.pid !== info.pid) flash(card, "pid");
  state.pid = info.pid;
  state.samples = [...state.samples, latency].slice(-SAMPLES);
  drawSpark(card, state.samples);
  setState(card, latency < SLOW_MS ? "good" : "slow", latency < SLOW_MS ? "answers" : "answers slowly");
  card.querySelector(".problem").hidden = true;
}

function showProblem(card, channel, problem) {
  const line = card.querySelector(".problem");
  setState(card, "bad", "does not answer");
  line.hidden = false;
  line.textContent = problem;
  if (location.hostname === channel.host) return;
  // A browser tells a page nothing about a certificate that it does not trust.
  const link = document.createElement("a");
  link.href = origin(channel.host) + "/";
  link.textContent = "open it once";
  line.append(" If the browser does not trust the demo's CA yet, ", link, ".");
}

async function ask(card, channel, state) {
  const start = performance.now();
  try {
    const answer = await fetch(origin(channel.host) + "/api/info", { cache: "no-store" });
    if (!answer.ok) throw new Error(`the gate answered ${answer.status}`);
    showInfo(card, state, await answer.json(), performance.now() - start);
  } catch (error) {
    showProblem(card, channel, error instanceof TypeError ? "No answer." : `${error.message}.`);
  }
}

function listen(card, channel) {
  const source = new EventSource(origin(channel.host) + "/api/clock");
  source.onmessage = (event) => setField(card, "clock", event.data.slice(11, 19));
  source.onerror = () => {
    setField(card, "clock", "…");
    // After an answer that is no stream the browser gives up for good; a gate that is between
    // two backends is no reason to.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => listen(card, channel), 2000);
  };
}

// ---- gRPC-Web

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

async function greetForEver(card, channel) {
  for (;;) {
    const start = performance.now();
    try {
      const reply = await window.rpc.greet(origin(channel.host), channel.name);
      setField(card, "greet", `${reply.text} · ${(performance.now() - start).toFixed(1)} ms`);
    } catch (error) {
      setField(card, "greet", window.rpc.statusName(error.code));
    }
    await sleep(1000);
  }
}

// One stream until it ends: resolves to the error that ended it, or to undefined.
function watchOnce(channel, onTick) {
  return new Promise((done) => {
    const stream = window.rpc.watch(origin(channel.host), WATCH_MS);
    let ticks = 0;
    stream.on("data", (tick) => {
      onTick(tick);
      if (++ticks < WATCH_TICKS) return;
      stream.cancel();
      done();
    });
    stream.on("error", done);
    stream.on("end", () => done());
  });
}

async function watchForEver(card, channel) {
  let broken; // { name, at } until the next stream's first message
  const onTick = (tick) => {
    setField(card, "watch", `message ${tick.n} from ${tick.pid}`);
    if (!broken) return;
    const gap = ((performance.now() - broken.at) / 1000).toFixed(1);
    setField(card, "broken", `${broken.name}, back in ${gap} s`);
    broken = undefined;
  };
  for (;;) {
    const error = await watchOnce(channel, onTick);
    if (error) {
      const name = window.rpc.statusName(error.code);
      broken ??= { name, at: performance.now() };
      setField(card, "watch", "…");
      setField(card, "broken", name);
      flash(card, "broken");
      await sleep(AGAIN_MS);
    }
  }
}

async function watch(channel) {
  const card = makeCard(channel);
  const state = { samples: [] };
  listen(card, channel);
  card.querySelector(".rpc").hidden = !window.rpc;
  if (window.rpc) {
    greetForEver(card, channel);
    watchForEver(card, channel);
  }
  for (;;) {
    await ask(card, channel, state);
    await sleep(1000);
  }
}

document.getElementById("here").textContent = location.host;
document.getElementById("no-rpc").hidden = Boolean(window.rpc);
CHANNELS.forEach(watch);
