import { expect, it } from "vitest";
import { hashOf, roomIn } from "./address";

it.each(["tea", "a b#c/d?e&f", "غرفة الشاي", "100%"])("%j is found in its own hash", (room) =>
  expect(roomIn(hashOf(room))).toBe(room),
);

it.each(["", "#", "#%", "#%E0%A4%A"])("%j names no room", (hash) => expect(roomIn(hash)).toBeNull());
