// Many stock Socket.IO clients in one process, steered from Python: commands are JSON lines on stdin, and what the
// sockets report is JSON lines on stdout. The process ends when stdin does.
//
// Commands: {do, socket, …}, where `socket` is a number that Python chose; each also has `call`, echoed in its reply.
// Reports:  {call, value}               the reply to a command, or to an emit: the arguments of its ack
//           {socket, on, value}         "connect", "connect_error", "disconnect", "event" with {name, args}, "return"
//                                       with the offset from which it asks to go on, or "stranded" with how many
//                                       packets it has set aside when it lost its connection

import http from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { io } = createRequire(`${process.argv[2]}/`)("socket.io-client");

const sockets = new Map();
const unacked = new Map(); // socket → the calls that wait for its acks
const cables = new Map(); // socket → all its TCP connections
const unsaid = [];

// All reports of one iteration of the event loop are one write.
function say(report) {
  unsaid.push(JSON.stringify(report), "\n");
  if (unsaid.length === 2) setImmediate(() => process.stdout.write(unsaid.splice(0).join("")));
}

// {"$bytes": "<base64>"} stands for a Buffer, which JSON lacks.
function revive(_key, value) {
  if (typeof value?.$bytes === "string") return Buffer.from(value.$bytes, "base64");
  return value;
}

// Remembers the connections that it makes, those that become WebSockets too.
class Cables extends http.Agent {
  live = new Set();

  createConnection(...args) {
    const tcp = super.createConnection(...args);
    this.live.add(tcp);
    return tcp.once("close", () => this.live.delete(tcp));
  }
}

// A command that returns undefined replies later.
const commands = {
  open({ socket: number, url, options }) {
    const agent = new Cables();
    const socket = io(url, { forceNew: true, agent, ...options });
    const report = (on, value) => say({ socket: number, on, value });
    sockets.set(number, socket);
    unacked.set(socket, new Set());
    cables.set(socket, agent.live);
    socket.io.on("open", () => report("return", { offset: socket._lastOffset ?? null }));
    socket.on("connect", () => report("connect", { id: socket.id, recovered: socket.recovered }));
    socket.on("connect_error", (error) => {
      const response = error.context?.responseText; // of a long-polling request that was refused
      report("connect_error", { message: error.message, data: error.data, response });
    });
    socket.on("disconnect", (reason) => {
      report("disconnect", { reason });
      for (const call of unacked.get(socket) ?? []) say({ call, failure: `disconnected before the ack: ${reason}` });
      unacked.get(socket)?.clear();
      setImmediate(() => {
        if (socket.receiveBuffer.length > 0) report("stranded", { packets: socket.receiveBuffer.length });
      });
    });
    socket.onAny((name, ...args) => {
      if (typeof args.at(-1) === "function") args.pop()(...args); // an event that wants an ack gets its arguments back
      report("event", { name, args });
    });
    return null;
  },

  // With `ack`, the reply is the arguments of the ack. A socket with `retries` goes on over lost connections.
  emit({ call, socket: number, name, args, ack }) {
    const socket = sockets.get(number);
    if (!ack) {
      socket.emit(name, ...args);
      return null;
    }
    if (socket._opts.retries) {
      socket.emit(name, ...args, (error, ...value) => say(error ? { call, failure: String(error) } : { call, value }));
      return;
    }
    unacked.get(socket).add(call);
    socket.emit(name, ...args, (...value) => {
      unacked.get(socket)?.delete(call);
      say({ call, value });
    });
  },

  // A burst in one iteration of the event loop; the reply is every ack with its index, in the order they came.
  burst({ call, socket: number, events }) {
    const socket = sockets.get(number);
    const acks = [];
    unacked.get(socket).add(call);
    events.forEach(([name, ...args], index) => {
      socket.emit(name, ...args, (reply) => {
        acks.push([index, reply]);
        if (acks.length < events.length) return;
        unacked.get(socket)?.delete(call);
        say({ call, value: acks });
      });
    });
  },

  // On purpose: the Socket.IO DISCONNECT packet.
  disconnect({ socket }) {
    sockets.get(socket).disconnect();
    return null;
  },

  // The transport ends without a Socket.IO word: the connection of a WebSocket is reset, long-polling is closed.
  // A client with `reconnection` comes back by itself.
  //
  // Not by `engine.close()`: it waits for an upgrade under way, and closes amid the packets of the last poll. Those the
  // stock client sets aside until it is back, and delivers them then in addition to having them replayed.
  drop({ socket: number }) {
    const { engine } = sockets.get(number).io;
    const tcp = engine.transport.ws?._socket;
    if (tcp) tcp.resetAndDestroy();
    else if (engine.upgrading) for (const end of ["upgrade", "upgradeError"]) engine.once(end, () => dropSoon(number));
    else engine.transport.close();
    return null;
  },

  // The cable is pulled: every connection that the socket has is reset, whatever it is amid.
  cut({ socket }) {
    for (const tcp of cables.get(sockets.get(socket))) tcp.resetAndDestroy();
    return null;
  },

  // Connect, and disconnect before the client has had much of it, as React's StrictMode does: "at once", when the
  // transport is "open", that many iterations of the event loop later, or when it is connected, where it may "talk" first.
  // The reply comes when the client has disconnected.
  flicker({ call, url, options, when }) {
    const socket = io(url, { forceNew: true, reconnection: false, ...options });
    const end = () => {
      socket.disconnect();
      say({ call, value: null });
    };
    const wait = (turns) => (turns > 0 ? setImmediate(wait, turns - 1) : end());
    if (when === "at once") return void end();
    socket.on("connect_error", (error) => say({ call, failure: error.data?.code ?? error.message }));
    if (when === "open") socket.io.once("open", end);
    else if (typeof when === "number") socket.io.once("open", () => wait(when));
    else {
      socket.once("connect", () => {
        if (when === "talk") for (let i = 0; i < 8; i++) socket.emit("create-room", { room: `${Math.random()}` });
        end();
      });
    }
  },

  connect({ socket }) {
    sockets.get(socket).connect();
    return null;
  },

  state({ socket }) {
    const { connected, id, recovered, io: manager } = sockets.get(socket);
    const { transport, upgrading } = manager.engine ?? {};
    return { connected, id, recovered, transport: transport?.name, upgrading: upgrading === true };
  },

  // Ends whatever the socket still does, reconnecting included, and forgets it.
  forget({ socket: number }) {
    const socket = sockets.get(number);
    sockets.delete(number);
    unacked.delete(socket);
    cables.delete(socket);
    socket.io.reconnection(false);
    socket.disconnect();
    socket.io.engine?.close();
    return null;
  },
};

function dropSoon(number) {
  setImmediate(() => sockets.has(number) && commands.drop({ socket: number }));
}

createInterface({ input: process.stdin, crlfDelay: Infinity })
  .on("line", (line) => {
    const command = JSON.parse(line, revive);
    try {
      const value = commands[command.do](command);
      if (value !== undefined) say({ call: command.call, value });
    } catch (error) {
      say({ call: command.call, failure: String(error.stack) });
    }
  })
  .on("close", () => setImmediate(() => process.exit(0)));
