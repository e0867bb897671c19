import { beforeEach, describe, expect, it, vi } from "vitest";
import { Chat } from "./chat.svelte";
import { ConnectionLost, Refused, type Listener } from "./gateway";
import type { RoomInfo } from "./protocol";

const info = (room: string, ...names: string[]): RoomInfo => ({
  room,
  members: names.map((username) => ({ username, online: true })),
  member_count: names.length,
});
const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve));

/** A gateway that answers as the test tells it to. */
function setUp() {
  let listener!: Listener;
  const call = vi.fn();
  const open = vi.fn();
  const close = vi.fn();
  const chat = new Chat((given) => {
    listener = given;
    return { call, open, close };
  });
  const welcome = (rooms: RoomInfo[], recovered = false): void => {
    listener.connected(recovered);
    listener.event("welcome", { username: "alice", rooms, recovered });
  };
  chat.join("alice");
  return { chat, call, open, close, listener, welcome };
}

const message = (id: string, room = "tea", from = "bob") => ({ id, room, from, content: id, ts: 1 });
const shown = (chat: Chat, room = "tea") => chat.rooms.get(room)!.entries.map((entry) => [entry.id, entry.status]);

beforeEach(() => void vi.stubGlobal("document", { hidden: false }));

describe("logging in", () => {
  it("is done when the gateway welcomes", () => {
    const { chat, open, welcome } = setUp();
    expect(open).toHaveBeenCalledWith("alice");
    expect(chat.session.phase).toBe("joining");
    welcome([info("tea", "alice", "bob")]);
    expect(chat.session.phase).toBe("online");
    expect(chat.rooms.list.map((room) => room.name)).toEqual(["tea"]);
  });

  it("says that the name is taken", () => {
    const { chat, listener } = setUp();
    listener.ended({ code: "username_taken", message: "x" });
    expect(chat.session.phase).toBe("out");
    expect(chat.session.problem).toContain("“alice” is taken");
  });

  it("gives up when the gateway cannot be reached", () => {
    const { chat, close, listener } = setUp();
    listener.lost();
    expect(close).toHaveBeenCalled();
    expect(chat.session.problem).toContain("cannot be reached");
  });
});

describe("rooms", () => {
  it("follow the events", () => {
    const { chat, listener, welcome } = setUp();
    welcome([]);
    listener.event("room-joined", { ...info("tea", "alice", "bob"), by: "bob" });
    listener.event("user-joined", { room: "tea", username: "carol", by: "bob" });
    listener.event("user-left", { room: "tea", username: "bob" });
    listener.event("presence", { room: "tea", username: "carol", online: false });
    const room = chat.rooms.get("tea")!;
    expect(room.members).toEqual([
      { username: "alice", online: true },
      { username: "carol", online: false },
    ]);
    expect(room.memberCount).toBe(2);
  });

  it("count what was not seen, until they are opened", async () => {
    const { chat, call, listener, welcome } = setUp();
    welcome([info("tea", "alice", "bob")]);
    listener.event("message", message("1"));
    expect(chat.rooms.unread).toBe(1);
    call.mockResolvedValue({ ok: true, messages: [message("0"), message("1")], more: true });
    await chat.openRoom("tea");
    expect(call).toHaveBeenCalledWith("history", { room: "tea", limit: 50 });
    expect(chat.rooms.unread).toBe(0);
    expect(shown(chat).map(([id]) => id)).toEqual(["0", "1"]);
    await chat.loadOlder(chat.rooms.open!);
    expect(call).toHaveBeenLastCalledWith("history", { room: "tea", limit: 50, before: "0" });
  });

  it("that are created by us have no history to fetch", async () => {
    const { chat, call, welcome } = setUp();
    welcome([]);
    call.mockResolvedValue({ ok: true, ...info("tea", "alice") });
    const room = await chat.createRoom("tea", []);
    await chat.openRoom(room.name);
    expect(call).toHaveBeenCalledTimes(1);
  });

  it("stay when leaving is refused, and the reason is shown", async () => {
    const { chat, call, welcome } = setUp();
    welcome([info("tea", "alice")]);
    call.mockRejectedValue(new Refused({ code: "unavailable", message: "The store cannot write now." }));
    await chat.leaveRoom(chat.rooms.get("tea")!);
    expect(chat.notice).toBe("The store cannot write now.");
    expect(chat.rooms.list).toHaveLength(1);
  });
});

describe("sending", () => {
  it("is pending until the ack, then has the gateway's time", async () => {
    const { chat, call, welcome } = setUp();
    welcome([info("tea", "alice")]);
    call.mockResolvedValue({ ok: true, ts: 42 });
    const room = chat.rooms.get("tea")!;
    chat.send(room, "hello");
    expect(room.entries[0]).toMatchObject({ status: "pending", content: "hello", from: "alice" });
    await settled();
    expect(room.entries[0]).toMatchObject({ status: "sent", ts: 42 });
  });

  it("fails with the gateway's words, and a retry sends the same id", async () => {
    const { chat, call, welcome } = setUp();
    welcome([info("tea", "alice")]);
    const room = chat.rooms.get("tea")!;
    call.mockRejectedValueOnce(new Refused({ code: "unavailable", message: "Try again." }));
    chat.send(room, "hello");
    await settled();
    expect(room.entries[0]).toMatchObject({ status: "failed", problem: "Try again." });
    call.mockResolvedValue({ ok: true, ts: 42 });
    chat.retry(room, room.entries[0]!);
    await settled();
    expect(room.entries[0]).toMatchObject({ status: "sent" });
    expect(call.mock.calls[1]).toEqual(call.mock.calls[0]);
  });

  it("waits for the connection, and then goes out in order, with the same ids", async () => {
    const { chat, call, listener, welcome } = setUp();
    welcome([info("tea", "alice")]);
    const room = chat.rooms.get("tea")!;
    call.mockRejectedValue(new ConnectionLost());
    listener.lost();
    expect(chat.session.phase).toBe("reconnecting");
    chat.send(room, "one");
    chat.send(room, "two");
    await settled();
    const first = call.mock.calls.map(([, request]) => request.id);
    expect(shown(chat).map(([, status]) => status)).toEqual(["pending", "pending"]);
    call.mockReset().mockImplementation(async (action: string) => {
      return action === "list-rooms" ? { ok: true, rooms: [info("tea", "alice")] } : { ok: true, ts: 42 };
    });
    welcome([info("tea", "alice")], true);
    await settled();
    const again = call.mock.calls.filter(([action]) => action === "send-msg").map(([, request]) => request.id);
    expect(again).toEqual(first);
    expect(shown(chat).map(([, status]) => status)).toEqual(["sent", "sent"]);
  });
});

describe("coming back", () => {
  it("recovered keeps the messages and asks who is here", async () => {
    const { chat, call, listener, welcome } = setUp();
    welcome([info("tea", "alice", "bob")]);
    listener.event("message", message("1"));
    listener.lost();
    call.mockResolvedValue({ ok: true, rooms: [info("tea", "alice", "bob", "carol")] });
    welcome([], true);
    listener.event("message", message("2"));
    await settled();
    expect(shown(chat).map(([id]) => id)).toEqual(["1", "2"]);
    expect(chat.rooms.get("tea")!.memberCount).toBe(3);
  });

  it("not recovered takes the rooms from the welcome and fetches the open one again", async () => {
    const { chat, call, listener, welcome } = setUp();
    welcome([info("tea", "alice"), info("old", "alice")]);
    call.mockResolvedValue({ ok: true, messages: [message("1")], more: false });
    await chat.openRoom("tea");
    listener.lost();
    call.mockResolvedValue({ ok: true, messages: [message("7")], more: true });
    welcome([info("tea", "alice")]);
    await settled();
    expect(chat.rooms.list.map((room) => room.name)).toEqual(["tea"]);
    expect(shown(chat).map(([id]) => id)).toEqual(["7"]);
  });

  it("to nothing says so", () => {
    const { chat, listener, welcome } = setUp();
    welcome([info("tea", "alice")]);
    listener.lost();
    welcome([]);
    expect(chat.rooms.list).toEqual([]);
    expect(chat.notice).toContain("away for too long");
  });
});

describe("the end", () => {
  it("of a log-out is silent, and keeps the name for the next time", () => {
    const { chat, close, welcome } = setUp();
    welcome([info("tea", "alice")]);
    chat.logOut();
    expect(close).toHaveBeenCalled();
    expect(chat.session).toMatchObject({ phase: "out", problem: "", username: "alice" });
    expect(chat.rooms.list).toEqual([]);
  });

  it("by the gateway is explained", () => {
    const { chat, listener, welcome } = setUp();
    welcome([]);
    listener.ended();
    expect(chat.session.problem).toContain("another tab");
  });
});
