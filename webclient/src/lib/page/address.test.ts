import { expect, it } from "vitest";
import { basePath, hashOf, roomIn } from "./address";

it.each([
  ["https://a.example/", "/"],
  ["https://a.example/index.html?x=/y#z/", "/"],
  ["https://a.example/chat/#tea", "/chat/"],
])("%j is under %j", (page, path) => expect(basePath(page)).toBe(path));

it.each(["tea", "a b#c/d?e&f", "غرفة الشاي", "100%"])("%j is found in its own hash", (room) =>
  expect(roomIn(hashOf(room))).toBe(room),
);

it.each(["", "#", "#%", "#%E0%A4%A"])("%j names no room", (hash) => expect(roomIn(hash)).toBeNull());
