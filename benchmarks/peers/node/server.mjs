// A minimal chat on Socket.IO for Node, the reference: nothing is kept, nothing is checked but membership.
// Usage: node server.mjs PACKAGES [ADAPTER URL]: the folder that holds node_modules; for one of several nodes, what connects
// them (see adapters.mjs), and the Redis server for that.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { randomBytes } from "node:crypto";
import { join, resolve } from "node:path";
import { adapters } from "./adapters.mjs";

const [packages, adapter, url] = process.argv.slice(2);
const load = createRequire(join(resolve(packages), "package.json"));
const { Server } = load("socket.io");
const http = createServer();
const shared = adapter ? await adapters[adapter](load, url) : {};
const io = new Server(http, { serveClient: false, perMessageDeflate: false, httpCompression: false, ...shared });
const users = new Map();
const rooms = new Set();

io.use((socket, next) => {
  const { username } = socket.handshake.auth;
  if (typeof username !== "string" || users.has(username)) return next(new Error("username_taken"));
  socket.data.username = username;
  next();
});

function refuse(code) {
  return { ok: false, error: { code } };
}

// With several nodes, users are found by rooms of their own.
function roomOf(name) {
  return `user ${name}`;
}

function exists(name) {
  return adapter || users.has(name);
}

function addToRoom(names, room, by) {
  for (const name of names) {
    const member = adapter ? io.in(roomOf(name)) : users.get(name);
    if (adapter) member.socketsJoin(room);
    else member.join(room);
    member.emit("room-joined", { room, by });
  }
}

io.on("connection", (socket) => {
  const { username } = socket.data;
  users.set(username, socket);
  if (adapter) socket.join(roomOf(username));
  socket.on("disconnect", () => users.delete(username));

  socket.on("create-room", ({ room, users: names = [] }, ack) => {
    if (rooms.has(room)) return ack(refuse("room_exists"));
    if (!names.every(exists)) return ack(refuse("unknown_user"));
    rooms.add(room);
    socket.join(room);
    addToRoom(names, room, username);
    ack({ ok: true, room });
  });

  socket.on("add-user", ({ room, users: names }, ack) => {
    if (!socket.rooms.has(room)) return ack(refuse("room_not_found"));
    if (!names.every(exists)) return ack(refuse("unknown_user"));
    addToRoom(names, room, username);
    ack({ ok: true, added: names });
  });

  socket.on("send-msg", ({ room, content }, ack) => {
    if (!socket.rooms.has(room)) return ack(refuse("room_not_found"));
    const id = randomBytes(12).toString("base64url");
    const ts = Date.now();
    socket.to(room).emit("message", { id, room, from: username, content, ts });
    ack({ ok: true, id, ts });
  });
});

http.listen({ port: 0, host: "127.0.0.1", backlog: 1024 }, () => {
  console.log(`ready http://127.0.0.1:${http.address().port}/`);
});
