import { beforeEach, describe, expect, it, vi } from "vitest";
import { roomInfo as info } from "../testing/rooms";
import { Rooms } from "./rooms.svelte";

const message = (room: string, ts: number) => ({ id: `${ts}`, room, from: "bob", content: "x", ts });

function setUp() {
  const rooms = new Rooms();
  rooms.add(info("tea"), 1);
  rooms.add(info("cake"), 2);
  return rooms;
}
const names = (rooms: Rooms): string[] => rooms.list.map((room) => room.name);

beforeEach(() => void vi.stubGlobal("document", { hidden: false }));

describe("Rooms", () => {
  it("list the most recently active room first, in the same array while the order is the same", () => {
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

  it("show what is open as read, while the reader is at its end and looks at the page", () => {
    const rooms = setUp();
    const tea = rooms.get("tea")!;
    expect(rooms.isRead(tea)).toBe(false);
    rooms.select("tea");
    expect([rooms.isRead(tea), rooms.isRead(rooms.get("cake"))]).toEqual([true, false]);
    tea.messages.atEnd = false;
    tea.receive(message("tea", 4), rooms.isRead(tea));
    rooms.markSeen();
    expect(rooms.unread).toBe(1);
    tea.messages.atEnd = true;
    vi.stubGlobal("document", { hidden: true });
    rooms.markSeen();
    expect(rooms.unread).toBe(1);
    vi.stubGlobal("document", { hidden: false });
    rooms.markSeen();
    expect(rooms.unread).toBe(0);
  });

  it("save the open room and the order", () => {
    const rooms = setUp();
    rooms.select("tea");
    expect(rooms.saved).toMatchObject({ open: "tea", rooms: [{ name: "cake" }, { name: "tea" }] });
  });

  it("are closed when they are gone", () => {
    const rooms = setUp();
    rooms.select("tea");
    rooms.replace([info("cake")]);
    expect(rooms.open).toBeUndefined();
    expect(names(rooms)).toEqual(["cake"]);
  });
});
