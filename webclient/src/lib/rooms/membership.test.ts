import { describe, expect, it, vi } from "vitest";
import { Refused } from "../connection/errors";
import { Notice } from "../page/notice.svelte";
import { info } from "../testing/chat";
import { directInfo } from "../testing/rooms";
import { Membership } from "./membership";
import { Rooms } from "./rooms.svelte";

/** Somebody who is in "tea". */
function setUp() {
  const [call, rooms, notice] = [vi.fn(), new Rooms(), new Notice()];
  const tea = rooms.add(info("tea", "alice"));
  return { call, rooms, notice, tea, membership: new Membership({ call }, rooms, notice) };
}

describe("a room that we create", () => {
  it("is added, and has no history to fetch", async () => {
    const { call, rooms, membership } = setUp();
    call.mockResolvedValue(info("cake", "alice", "bob"));
    const room = await membership.create("cake", ["bob"], "joined");
    expect(call).toHaveBeenCalledWith("create-room", { room: "cake", users: ["bob"], history: "joined" });
    expect(room.messages.stale).toBe(false);
    expect(rooms.get("cake")).toBe(room);
  });

  it("may be refused, which the form shows and no notice", async () => {
    const { call, rooms, notice, membership } = setUp();
    call.mockRejectedValue(new Refused({ code: "room_exists", message: "A room named 'tea' exists already." }));
    await expect(membership.create("tea", [], "all")).rejects.toThrow("A room named 'tea' exists already.");
    expect([rooms.list.length, notice.text]).toEqual([1, ""]);
  });
});

describe("a direct room", () => {
  it("is the same one each time, and has a history", async () => {
    const { call, notice, membership } = setUp();
    call.mockResolvedValue(directInfo("@x1", "alice", "bob"));
    const room = await membership.openDirect("bob");
    expect(call).toHaveBeenCalledWith("open-direct", { user: "bob" });
    expect([room.name, room.title, room.messages.stale]).toEqual(["@x1", "bob", true]);
    expect(await membership.openDirect("bob")).toBe(room);
    expect(notice.text).toBe("");
  });
});

describe("people", () => {
  it("who are added are members at once, and those who were declined are named in a notice", async () => {
    const { call, notice, tea, membership } = setUp();
    call.mockResolvedValueOnce({ added: ["carol"], already: [], declined: ["bob", "dan"] });
    await membership.addPeople(tea, ["bob", "carol", "dan"]);
    expect(tea.members.usernames).toEqual(["alice", "carol"]);
    expect(notice.text).toMatch(/^bob and dan were not added/);
  });

  it("may be declined in a direct room too; the notice stays when others are added", async () => {
    const { call, notice, tea, membership } = setUp();
    call.mockResolvedValueOnce({ ...directInfo("@x1", "alice", "bob"), declined: ["bob"] });
    await membership.openDirect("bob");
    expect(notice.text).toMatch(/^bob was not added/);
    call.mockResolvedValueOnce({ added: [], already: ["carol"] });
    await membership.addPeople(tea, ["carol"]);
    expect(notice.text).toMatch(/^bob was not added/);
  });
});

describe("a room that we leave", () => {
  it("is gone", async () => {
    const { call, rooms, tea, membership } = setUp();
    call.mockResolvedValue({});
    await membership.leave(tea);
    expect(call).toHaveBeenCalledWith("leave-room", { room: "tea" });
    expect(rooms.list).toEqual([]);
  });

  it("stays if the gateway refuses that, and the reason is shown", async () => {
    const { call, rooms, notice, tea, membership } = setUp();
    call.mockRejectedValue(new Refused({ code: "unavailable", message: "The store cannot write now." }));
    await membership.leave(tea);
    expect(notice.text).toBe("The store cannot write now.");
    expect(rooms.list).toEqual([tea]);
  });
});

it("a refresh takes the rooms and their members from the gateway", async () => {
  const { call, rooms, tea, membership } = setUp();
  call.mockResolvedValue({ rooms: [info("tea", "alice", "bob"), info("cake", "alice")] });
  await membership.refresh();
  expect(tea.members.usernames).toEqual(["alice", "bob"]);
  expect(rooms.list.map((room) => room.name)).toEqual(["tea", "cake"]);
});
