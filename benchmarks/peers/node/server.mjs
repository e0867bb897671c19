// A minimal chat on Socket.IO for Node, the reference: nothing is kept, nothing is checked but membership.
// Usage: node server.mjs PACKAGES, the folder that holds node_modules.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { randomBytes } from "node:crypto";
import { join, resolve } from "node:path";

const { Server } = createRequire(join(resolve(process.argv[2]), "package.json"))("socket.io");
const http = createServer();
const io = new Server(http, { serveClient: false, perMessageDeflate: false, httpCompression: false });
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

function addToRoom(names, room, by) {
  for (const name of names) {
    const member = users.get(name);
    member.join(room);
    member.emit("room-joined", { room, by });
  }
}

io.on("connection", (socket) => {
  const { username } = socket.data;
  users.set(username, socket);
  socket.on("disconnect", () => users.delete(username));

  socket.on("create-room", ({ room, users: names = [] }, ack) => {
    if (rooms.has(room)) return ack(refuse("room_exists"));
    if (!names.every((name) => users.has(name))) return ack(refuse("unknown_user"));
    rooms.add(room);
    socket.join(room);
    addToRoom(names, room, username);
    ack({ ok: true, room });
  });

  socket.on("add-user", ({ room, users: names }, ack) => {
    if (!socket.rooms.has(room)) return ack(refuse("room_not_found"));
    if (!names.every((name) => users.has(name))) return ack(refuse("unknown_user"));
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
