import { describe, expect, it } from "vitest";
import { Rooms } from "./rooms.svelte";
import { roomInfo as info } from "./samples";

const message = (room: string, ts: number) => ({ id: `${ts}`, room, from: "bob", content: "x", ts });

function setUp() {
  const rooms = new Rooms();
  rooms.add(info("tea"), 1);
  rooms.add(info("cake"), 2);
  return rooms;
}
const names = (rooms: Rooms): string[] => rooms.list.map((room) => room.name);

describe("Rooms", () => {
  it("have the liveliest first, and the same list while the order is the same", () => {
    const rooms = setUp();
    const before = rooms.list;
    expect(names(rooms)).toEqual(["cake", "tea"]);
    rooms.get("cake")!.receive(message("cake", 3), true);
    expect(rooms.list).toBe(before);
    rooms.get("tea")!.receive(message("tea", 4), true);
    expect(names(rooms)).toEqual(["tea", "cake"]);
  });

  it("sum up what is unread and what is unsent", () => {
    const rooms = setUp();
    rooms.get("tea")!.receive(message("tea", 4), false);
    rooms.get("cake")!.receive(message("cake", 5), false);
    rooms.get("cake")!.addPending({ ...message("cake", 6), from: "alice", status: "pending" });
    expect([rooms.unread, rooms.unsent]).toEqual([1, 1]);
  });

  it("are closed when they are gone", () => {
    const rooms = setUp();
    rooms.select("tea");
    rooms.replace([info("cake")]);
    expect(rooms.open).toBeUndefined();
    expect(names(rooms)).toEqual(["cake"]);
  });
});
