import { beforeEach, describe, expect, it, vi } from "vitest";
import { Chat } from "./chat.svelte";
import { ConnectionLost, Refused, type Listener } from "./gateway";
import type { RoomInfo } from "./protocol";
import { directInfo, roomInfo } from "./samples";
import type { Kept, Tab } from "./tab";

const info = (room: string, ...names: string[]): RoomInfo => roomInfo(room, names);
const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve));

/** A gateway that answers as the test tells it to. `left` is what another tab of this browser left. */
function setUp(kept?: Kept, left?: Kept) {
  let listener!: Listener;
  const call = vi.fn();
  const open = vi.fn();
  const close = vi.fn();
  const tab = {
    read: () => kept,
    adopt: vi.fn(async (username?: string) => (username === undefined || username === left?.username ? left : undefined)),
    enter: vi.fn(),
    write: vi.fn<Tab["write"]>(),
    stepAside: vi.fn(),
    letGo: vi.fn(),
    forget: vi.fn(),
  };
  const chat = new Chat(
    (given) => {
      listener = given;
      return { call, open, close };
    },
    tab as unknown as Tab,
  );
  const welcome = (rooms: RoomInfo[], recovered = false, sid = "s"): void => {
    listener.connected(recovered, { sid, pid: "p2" });
    listener.event("welcome", { username: "alice", rooms, recovered });
  };
  call.mockImplementation(async (action: string) =>
    action === "history" ? { ok: true, messages: [], more: false } : { ok: true, ts: 42, rooms: [] },
  );
  if (kept) void chat.resume();
  else if (!left) void chat.join("alice");
  return { chat, call, open, close, listener, tab, welcome };
}

const sends = (call: ReturnType<typeof vi.fn>) => call.mock.calls.filter(([action]) => action === "send-msg");

const message = (id: string, room = "tea", from = "bob") => ({ id, room, from, content: id, ts: 1 });
const shown = (chat: Chat, room = "tea") => chat.rooms.get(room)!.entries.map((entry) => [entry.id, entry.status]);

beforeEach(() => void vi.stubGlobal("document", { hidden: false }));

describe("logging in", () => {
  it("is done when the gateway welcomes", async () => {
    const { chat, open, welcome } = setUp();
    expect(chat.session.phase).toBe("joining");
    await settled();
    expect(open).toHaveBeenCalledWith("alice", undefined, false);
    welcome([info("tea", "alice", "bob")]);
    expect(chat.session.phase).toBe("online");
    expect(chat.rooms.list.map((room) => room.name)).toEqual(["tea"]);
  });

  it("shows no rooms before it knows them: the last ones may be on their way", () => {
    const { chat, listener } = setUp();
    listener.connected(false, { sid: "s", pid: "p" });
    expect(chat.session.phase).toBe("joining");
    listener.event("welcome", { username: "alice", rooms: [], recovered: false });
    expect(chat.session.phase).toBe("online");
  });

  it("says that the name is taken", () => {
    const { chat, listener } = setUp();
    listener.refused({ code: "username_taken", message: "x" });
    expect(chat.session.phase).toBe("out");
    expect(chat.session.problem).toContain("“alice” is taken");
  });

  it("as it was before the drop may be refused, and what was not sent is told of", () => {
    const { chat, call, listener, welcome } = setUp();
    welcome([info("tea", "alice")]);
    call.mockRejectedValue(new ConnectionLost());
    listener.lost();
    chat.send(chat.rooms.get("tea")!, "one");
    chat.send(chat.rooms.get("tea")!, "two");
    listener.refused({ code: "username_taken", message: "x" });
    expect(chat.session.problem).toMatch(/is taken.* 2 messages were not sent\.$/);
  });

  it("gives up when the gateway cannot be reached", () => {
    const { chat, close, listener, tab } = setUp();
    listener.lost();
    expect(close).toHaveBeenCalled();
    expect(chat.session.problem).toContain("cannot be reached");
    expect(tab.forget).not.toHaveBeenCalled();
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

  it("count what was not seen, until they are opened and read to the end", () => {
    const { chat, listener, welcome } = setUp();
    welcome([info("tea", "alice", "bob")]);
    listener.event("message", message("1"));
    expect(chat.rooms.unread).toBe(1);
    chat.openRoom("tea");
    expect(chat.rooms.unread).toBe(0);
    listener.event("message", message("2"));
    expect(chat.rooms.unread).toBe(0);
    chat.rooms.open!.atEnd = false;
    listener.event("message", message("3"));
    expect(chat.rooms.unread).toBe(1);
    chat.rooms.open!.atEnd = true;
    chat.look();
    expect(chat.rooms.unread).toBe(0);
  });

  it("show their last page, and the one before it when asked", async () => {
    const { chat, call, welcome } = setUp();
    call.mockResolvedValue({ ok: true, messages: [{ ...message("0"), offset: "o0" }, message("1")], more: true });
    welcome([info("tea", "alice", "bob")]);
    await settled();
    expect(call).toHaveBeenCalledWith("history", { room: "tea", limit: 50 });
    expect(shown(chat).map(([id]) => id)).toEqual(["0", "1"]);
    await chat.loadOlder(chat.rooms.get("tea")!);
    expect(call).toHaveBeenLastCalledWith("history", { room: "tea", limit: 50, before: "o0" });
  });

  it("that are created by us have no history to fetch", async () => {
    const { chat, call, welcome } = setUp();
    welcome([]);
    call.mockResolvedValue({ ok: true, ...info("tea", "alice") });
    const room = await chat.createRoom("tea", [], "joined");
    expect(call).toHaveBeenLastCalledWith("create-room", { room: "tea", users: [], history: "joined" });
    chat.openRoom(room.name);
    expect(call).toHaveBeenCalledTimes(1);
  });

  it("for two are the gateway's, whatever other rooms are called, and have a history", async () => {
    const { chat, call, welcome } = setUp();
    welcome([info("alice & bob", "alice", "bob", "eve"), info("bob", "alice", "eve")]);
    await settled();
    call.mockResolvedValueOnce({ ok: true, ...directInfo("@x1", "alice", "bob") });
    const room = await chat.openDirect("bob");
    expect(call).toHaveBeenLastCalledWith("open-direct", { user: "bob" });
    expect(room).toMatchObject({ name: "@x1", title: "bob", stale: true });
    call.mockResolvedValueOnce({ ok: true, ...directInfo("@x1", "alice", "bob") });
    expect(await chat.openDirect("bob")).toBe(room);
    expect(chat.notice).toBe("");
  });

  it("that somebody left and is not added to again say so", async () => {
    const { chat, call, welcome } = setUp();
    welcome([info("tea", "alice")]);
    await settled();
    const tea = chat.rooms.get("tea")!;
    call.mockResolvedValueOnce({ ok: true, added: ["carol"], already: [], declined: ["bob", "dan"] });
    await chat.addPeople(tea, ["bob", "carol", "dan"]);
    expect(chat.notice).toMatch(/^bob and dan were not added/);
    expect(tea.members.map((member) => member.username)).toEqual(["alice", "carol"]);
    chat.dismissNotice();
    call.mockResolvedValueOnce({ ok: true, ...directInfo("@x1", "alice", "bob"), declined: ["bob"] });
    await chat.openDirect("bob");
    expect(chat.notice).toMatch(/^bob was not added/);
    call.mockResolvedValueOnce({ ok: true, added: [], already: ["carol"] });
    await chat.addPeople(tea, ["carol"]);
    expect(chat.notice).toMatch(/^bob was not added/);
  });

  it("of some size have their members fetched, and of a very large one not", async () => {
    const { chat, call, welcome } = setUp();
    const names = Array.from({ length: 12 }, (_, index) => `m${index + 10}`);
    const [some, crowd] = [roomInfo("some", names.slice(0, 10), { member_count: 12 }), roomInfo("crowd", names)];
    welcome([some, { ...crowd, member_count: 101 }, info("tea", "alice")]);
    await settled();
    const lists = () => call.mock.calls.filter(([action]) => action === "list-members");
    call.mockResolvedValueOnce({ ok: true, members: crowd.members, member_count: 12, more: false });
    for (const room of chat.rooms.list) await chat.learnMembers(room);
    expect(lists()).toEqual([["list-members", { room: "some" }]]);
    expect(chat.rooms.get("some")).toMatchObject({ isPartial: false, memberCount: 12 });
    chat.rooms.get("some")!.refresh(some);
    call.mockRejectedValueOnce(new ConnectionLost());
    await chat.learnMembers(chat.rooms.get("some")!);
    expect([chat.rooms.get("some")!.isPartial, chat.notice]).toEqual([true, ""]);
  });

  it("wait when the gateway asks to", async () => {
    const { chat, call, welcome } = setUp();
    call.mockRejectedValueOnce(new Refused({ code: "rate_limited", message: "x", retry_after: 0.001 }));
    call.mockResolvedValueOnce({ ok: true, messages: [message("1")], more: false });
    welcome([info("tea", "alice")]);
    await vi.waitFor(() => expect(shown(chat)).toHaveLength(1));
    expect(chat.notice).toBe("");
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

describe("people", () => {
  it("are found besides ourselves and those who are known, a few at a time", async () => {
    const { chat, call, welcome } = setUp();
    welcome([]);
    const everybody = ["alice", "bob", ...Array.from({ length: 20 }, (_, index) => `c${index + 10}`)];
    call.mockImplementation(async (_, { limit }: { limit: number }) => ({ users: everybody.slice(0, limit) }));
    expect(await chat.findUsers("", ["bob"])).toEqual(everybody.slice(2, 10));
    call.mockRejectedValue(new Refused({ code: "forbidden", message: "x" }));
    expect(await chat.findUsers("")).toEqual([]);
  });
});

describe("sending", () => {
  it("is pending until the ack, then has the gateway's time", async () => {
    const { chat, welcome } = setUp();
    welcome([info("tea", "alice")]);
    const room = chat.rooms.get("tea")!;
    chat.send(room, "hello");
    expect(room.entries[0]).toMatchObject({ status: "pending", content: "hello", from: "alice" });
    await settled();
    expect(room.entries[0]).toMatchObject({ status: "sent", ts: 42 });
  });

  it("fails with the gateway's words, and a retry sends the same id", async () => {
    const { chat, call, welcome } = setUp();
    welcome([info("tea", "alice")]);
    await settled();
    const room = chat.rooms.get("tea")!;
    call.mockRejectedValueOnce(new Refused({ code: "unavailable", message: "Try again." }));
    chat.send(room, "hello");
    await settled();
    expect(room.entries[0]).toMatchObject({ status: "failed", problem: "Try again." });
    call.mockResolvedValue({ ok: true, ts: 42 });
    chat.retry(room, room.entries[0]!);
    await settled();
    expect(room.entries[0]).toMatchObject({ status: "sent" });
    expect(sends(call)[1]).toEqual(sends(call)[0]);
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
    const first = sends(call).map(([, request]) => request.id);
    expect(shown(chat).map(([, status]) => status)).toEqual(["pending", "pending"]);
    call.mockReset().mockImplementation(async (action: string) => {
      if (action === "history") return { ok: true, messages: [], more: false };
      return action === "list-rooms" ? { ok: true, rooms: [info("tea", "alice")] } : { ok: true, ts: 42 };
    });
    welcome([info("tea", "alice")], true);
    await settled();
    const again = sends(call).map(([, request]) => request.id);
    expect(again).toEqual(first);
    expect(shown(chat).map(([, status]) => status)).toEqual(["sent", "sent"]);
  });
});

describe("coming back", () => {
  it("recovered keeps the messages and asks who is here", async () => {
    const { chat, call, listener, welcome } = setUp();
    welcome([info("tea", "alice", "bob")]);
    listener.event("message", message("1"));
    await settled();
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
    chat.openRoom("tea");
    await settled();
    listener.lost();
    call.mockResolvedValue({ ok: true, messages: [message("1"), message("7")], more: true });
    vi.stubGlobal("document", { hidden: true });
    welcome([info("tea", "alice")]);
    await settled();
    expect(chat.rooms.list.map((room) => room.name)).toEqual(["tea"]);
    expect(shown(chat).map(([id]) => id)).toEqual(["1", "7"]);
    expect(chat.rooms.unread).toBe(1);
  });

  it("as another session says so, and what was not sent", () => {
    const { chat, call, listener, welcome } = setUp();
    welcome([info("tea", "alice")]);
    call.mockRejectedValue(new ConnectionLost());
    listener.lost();
    chat.send(chat.rooms.get("tea")!, "hello");
    welcome([], false, "another");
    expect(chat.rooms.list).toEqual([]);
    expect(chat.notice).toContain("Your session ended");
    expect(chat.notice).toContain("A message was not sent.");
  });
});

describe("a reload", () => {
  const unsent = { id: "u", from: "alice", content: "hi", ts: 5, status: "pending" as const };
  const kept: Kept = {
    username: "alice",
    sid: "s",
    pid: "p1",
    elsewhere: false,
    open: "tea",
    rooms: [
      { name: "tea", draft: "half a", unsent: [unsent], unread: 0, newFrom: null, latest: "bob 1", activity: 5 },
      { name: "cake", draft: "", unsent: [], unread: 0, newFrom: null, latest: "bob 1", activity: 9 },
    ],
  };

  it("goes on with the session, the open room, the draft, the order and what was not sent", async () => {
    const { chat, call, open, welcome } = setUp(kept);
    expect(open).toHaveBeenCalledWith("alice", "p1");
    expect(chat.session.phase).toBe("resuming");
    call.mockImplementation(async (action: string, { room }: { room: string }) =>
      action === "history" ? { ok: true, messages: [message("1", room), message("2", room)], more: false } : { ts: 42 },
    );
    welcome([info("cake", "alice", "bob"), info("tea", "alice", "bob")]);
    expect(chat.session.phase).toBe("online");
    expect(chat.rooms.list.map((room) => room.name)).toEqual(["cake", "tea"]);
    expect(chat.rooms.open).toMatchObject({ name: "tea", draft: "half a" });
    await settled();
    expect(sends(call)).toEqual([["send-msg", { room: "tea", content: "hi", id: "u" }]]);
    expect(chat.rooms.get("cake")!.unread).toBe(1);
    expect(chat.rooms.get("tea")!.unread).toBe(0);
    expect(chat.rooms.get("tea")!.newFrom).toBe("bob 2");
  });

  it("loses nothing when it is reloaded again before the gateway answers", () => {
    const { chat, tab } = setUp(kept);
    chat.keep();
    expect(tab.write).toHaveBeenLastCalledWith(kept);
  });

  it("into a session that is over says so", () => {
    const { chat, welcome } = setUp(kept);
    welcome([], false, "another");
    expect(chat.notice).toContain("A message was not sent.");
  });

  it("keeps trying while the gateway cannot be reached", () => {
    const { chat, close, listener } = setUp(kept);
    listener.lost();
    expect(chat.session.phase).toBe("resuming");
    expect(close).not.toHaveBeenCalled();
  });

  it("takes nothing back from another tab without being asked", () => {
    const { chat, open, welcome, tab } = setUp({ ...kept, elsewhere: true });
    expect(chat.session.phase).toBe("elsewhere");
    expect(open).not.toHaveBeenCalled();
    chat.takeBack();
    expect(open).toHaveBeenCalledWith("alice", "p1");
    welcome([info("tea", "alice")]);
    chat.keep();
    expect(tab.write.mock.lastCall![0]).toMatchObject({ pid: "p2", elsewhere: false, open: "tea" });
    expect(tab.write.mock.lastCall![0].rooms[0]).toMatchObject({ name: "tea", draft: "half a" });
  });
});

describe("a tab that is opened anew", () => {
  const left: Kept = {
    username: "alice",
    sid: "s",
    pid: "p1",
    elsewhere: false,
    open: "tea",
    rooms: [{ name: "tea", draft: "half a", unsent: [], unread: 0, newFrom: null, latest: null, activity: 5 }],
  };
  const unsent = { id: "u", from: "alice", content: "hi", ts: 5, status: "pending" as const };
  const leftUnsent: Kept = { ...left, rooms: [{ ...left.rooms[0]!, unsent: [unsent] }] };

  it("goes on with the session that a closed one left", async () => {
    const { chat, open, tab, welcome } = setUp(undefined, left);
    const resumed = chat.resume();
    expect(chat.session.phase).toBe("starting");
    await resumed;
    expect(chat.session.phase).toBe("resuming");
    expect(open).toHaveBeenCalledWith("alice", "p1");
    welcome([info("tea", "alice")]);
    expect(chat.rooms.open).toMatchObject({ name: "tea", draft: "half a" });
    expect(tab.enter).toHaveBeenCalledWith("s");
  });

  it("logs nobody in who did not ask: where that session is over, it says so", async () => {
    const { chat, close, listener, tab } = setUp(undefined, leftUnsent);
    await chat.resume();
    listener.connected(false, { sid: "another", pid: "p2" });
    expect(close).toHaveBeenCalled();
    expect(tab.forget).toHaveBeenCalled();
    expect(chat.session).toMatchObject({ phase: "out", username: "alice" });
    expect(chat.session.problem).toMatch(/^Your session ended .* A message was not sent\.$/);
  });

  it("begins without one, and goes on with it when its name is asked for", async () => {
    const { chat, open, tab, welcome } = setUp(undefined, left);
    tab.adopt.mockResolvedValueOnce(undefined);
    await chat.resume();
    expect(chat.session.phase).toBe("out");
    await chat.join("alice");
    expect(open).toHaveBeenCalledWith("alice", "p1", false);
    welcome([info("tea", "alice")]);
    expect(chat.rooms.get("tea")).toMatchObject({ draft: "half a" });
  });

  it("joins by that name also where the session is over, and tells only what was not sent", async () => {
    for (const [before, notice] of [[left, ""], [leftUnsent, "A message was not sent."]] as const) {
      const { chat, welcome } = setUp(undefined, before);
      await chat.join("alice");
      welcome([], false, "another");
      expect([chat.session.phase, chat.notice]).toEqual(["online", notice]);
    }
  });

  it("leaves the session to the next try where the gateway is full or cannot be reached", async () => {
    for (const fail of [
      (listener: Listener) => listener.lost(),
      (listener: Listener) => listener.refused({ code: "limit_reached", message: "x" }),
    ]) {
      const { chat, listener, tab } = setUp(undefined, left);
      await chat.join("alice");
      fail(listener);
      expect(chat.session.phase).toBe("out");
      expect(tab.letGo).toHaveBeenCalled();
      expect(tab.forget).not.toHaveBeenCalled();
    }
  });
});

describe("typing", () => {
  it("is said now and then, and not to nobody", () => {
    const { chat, call, welcome } = setUp();
    welcome([info("tea", "alice", "bob"), info("alone", "alice")]);
    const said = () => call.mock.calls.filter(([action]) => action === "typing").length;
    chat.sayTyping(chat.rooms.get("alone")!);
    expect(said()).toBe(0);
    for (let times = 0; times < 5; times += 1) chat.sayTyping(chat.rooms.get("tea")!);
    expect(said()).toBe(1);
    chat.send(chat.rooms.get("tea")!, "there");
    chat.sayTyping(chat.rooms.get("tea")!);
    expect(said()).toBe(2);
  });

  it("is shown until what was typed arrives", () => {
    const { chat, listener, welcome } = setUp();
    welcome([info("tea", "alice", "bob")]);
    listener.event("typing", { room: "tea", username: "bob" });
    expect(chat.rooms.get("tea")!.typing.names).toEqual(["bob"]);
    listener.event("message", message("1"));
    expect(chat.rooms.get("tea")!.typing.names).toEqual([]);
  });
});

describe("the end", () => {
  it("of a log-out is silent, and keeps the name for the next time", () => {
    const { chat, close, tab, welcome } = setUp();
    welcome([info("tea", "alice")]);
    chat.logOut();
    expect(close).toHaveBeenCalled();
    chat.keep();
    expect(tab.forget).toHaveBeenCalled();
    expect(tab.write).not.toHaveBeenCalled();
    expect(chat.session).toMatchObject({ phase: "out", problem: "", username: "alice" });
    expect(chat.rooms.list).toEqual([]);
  });

  it("of this tab, not of the session, is another tab that took over", () => {
    const { chat, listener, tab, welcome } = setUp();
    welcome([info("tea", "alice")]);
    listener.takenOver();
    expect(chat.session.phase).toBe("elsewhere");
    chat.keep();
    expect(tab.stepAside).toHaveBeenCalled();
    expect(tab.write).not.toHaveBeenCalled();
    chat.logOut();
    expect(tab.letGo).toHaveBeenCalled();
    expect(tab.forget).not.toHaveBeenCalled(); // the other tab has it
  });
});
