import { beforeEach, describe, expect, it, vi } from "vitest";
import { ConnectionLost } from "./connection/errors";
import { info, makeChat, message, openChat, savedSession, settled, shown, unsentEntry } from "./testing/chat";
import { directInfo } from "./testing/rooms";

beforeEach(() => void vi.stubGlobal("document", { hidden: false }));

describe("events", () => {
  it("change the rooms and their members", async () => {
    const { chat, listener } = await openChat();
    listener.event("room-joined", { ...info("tea", "alice", "bob"), by: "bob" });
    listener.event("user-joined", { room: "tea", username: "carol", by: "bob" });
    listener.event("user-left", { room: "tea", username: "bob" });
    listener.event("presence", { room: "tea", username: "carol", online: false });
    const { members, addedBy } = chat.rooms.get("tea")!;
    expect(addedBy).toBe("bob");
    expect(members.list).toEqual([
      { username: "alice", online: true },
      { username: "carol", online: false },
    ]);
    listener.event("user-left", { room: "tea", username: "alice" });
    expect(chat.rooms.list).toEqual([]);
  });

  it("count as unread until their room is opened and read to the end", async () => {
    const { chat, listener } = await openChat(info("tea", "alice", "bob"));
    listener.event("message", message("1"));
    expect(chat.rooms.unread).toBe(1);
    chat.openRoom("tea");
    expect(chat.rooms.unread).toBe(0);
    listener.event("message", message("2"));
    expect(chat.rooms.unread).toBe(0);
    chat.rooms.open!.messages.atEnd = false;
    listener.event("message", message("3", "tea", "alice"));
    expect(chat.rooms.unread).toBe(0);
    listener.event("message", message("4"));
    expect(chat.rooms.unread).toBe(1);
  });

  it("show who is typing, until the message arrives", async () => {
    const { chat, listener } = await openChat(info("tea", "alice", "bob"));
    listener.event("typing", { room: "tea", username: "bob" });
    expect(chat.rooms.get("tea")!.typing.names).toEqual(["bob"]);
    listener.event("message", message("1"));
    expect(chat.rooms.get("tea")!.typing.names).toEqual([]);
  });

  it("that are unknown, or about a room that is gone, are ignored", async () => {
    const { chat, listener } = await openChat(info("tea", "alice"));
    listener.event("news" as "typing", { room: "tea", username: "bob" });
    listener.event("message", message("1", "gone"));
    listener.event("presence", { room: "gone", username: "bob", online: true });
    expect(shown(chat)).toEqual([]);
  });
});

describe("rooms", () => {
  it("have their history fetched, the open one first", async () => {
    const { chat, requests, welcome } = makeChat();
    await chat.connection.join("alice");
    welcome([info("tea", "alice", "bob"), info("cake", "alice")]);
    await settled();
    expect(requests("history")).toEqual([
      { room: "cake", limit: 50 },
      { room: "tea", limit: 50 },
    ]);
  });

  it("that we create have no history to fetch; direct rooms have", async () => {
    const { chat, call, requests } = await openChat();
    call.mockResolvedValueOnce(info("tea", "alice"));
    chat.openRoom((await chat.membership.create("tea", [], "all")).name);
    expect(requests("history")).toEqual([]);
    call.mockResolvedValueOnce(directInfo("@x1", "alice", "bob"));
    chat.openRoom((await chat.membership.openDirect("bob")).name);
    expect(requests("history")).toEqual([{ room: "@x1", limit: 50 }]);
  });
});

describe("coming back", () => {
  it("with recovery keeps the messages, and asks who is here", async () => {
    const { chat, call, listener, welcome } = await openChat(info("tea", "alice", "bob"));
    listener.event("message", message("1"));
    listener.lost();
    expect(chat.session.phase).toBe("reconnecting");
    call.mockResolvedValue({ rooms: [info("tea", "alice", "bob", "carol")] });
    welcome([], true);
    listener.event("message", message("2"));
    await settled();
    expect(shown(chat).map(([id]) => id)).toEqual(["1", "2"]);
    expect(chat.rooms.get("tea")!.members.count).toBe(3);
  });

  it("without recovery takes the rooms from the welcome, and fetches their history again", async () => {
    const { chat, call, listener, welcome } = await openChat(info("tea", "alice"), info("old", "alice"));
    listener.event("message", message("1"));
    chat.openRoom("tea");
    listener.lost();
    call.mockResolvedValue({ messages: [message("1"), message("7")], more: true });
    vi.stubGlobal("document", { hidden: true });
    welcome([info("tea", "alice")]);
    await settled();
    expect(chat.rooms.list.map((room) => room.name)).toEqual(["tea"]);
    expect(shown(chat).map(([id]) => id)).toEqual(["1", "7"]);
    expect(chat.rooms.unread).toBe(1);
  });

  it("sends what was written without a connection, before anything that is written later", async () => {
    const { chat, call, listener, requests } = await openChat(info("tea", "alice"));
    const tea = chat.rooms.get("tea")!;
    call.mockRejectedValue(new ConnectionLost());
    listener.lost();
    chat.send(tea, "one");
    await settled();
    call.mockReset().mockResolvedValue({ ts: 42, rooms: [info("tea", "alice")] });
    listener.connected(true, { sid: "s", pid: "p" });
    chat.send(tea, "two");
    await settled();
    expect(requests("send-msg")).toMatchObject([{ content: "one" }, { content: "two" }]);
    expect(shown(chat).map(([, status]) => status)).toEqual(["sent", "sent"]);
  });
});

it("sending ends the pause until typing is signalled again", async () => {
  const { chat, requests } = await openChat(info("tea", "alice", "bob"));
  const tea = chat.rooms.get("tea")!;
  chat.typing.send(tea);
  chat.send(tea, "there");
  chat.typing.send(tea);
  expect(requests("typing")).toHaveLength(2);
});

it("a reload goes on with the session, the open room, the draft, the order, and what was not sent", async () => {
  const [tea] = savedSession.rooms;
  const rooms = [
    { ...tea!, unsent: [unsentEntry] },
    { ...tea!, name: "cake", draft: "", activity: 9 },
  ];
  const { chat, call, requests, welcome } = makeChat({ ...savedSession, rooms });
  void chat.connection.resume();
  call.mockImplementation(async (action: string, { room }: { room: string }) =>
    action === "history" ? { messages: [message("1", room), message("2", room)], more: false } : { ts: 42 },
  );
  welcome([info("cake", "alice", "bob"), info("tea", "alice", "bob")]);
  expect(chat.session.phase).toBe("online");
  expect(chat.rooms.list.map((room) => room.name)).toEqual(["cake", "tea"]);
  expect(chat.rooms.open).toMatchObject({ name: "tea", draft: "half a" });
  await settled();
  expect(requests("send-msg")).toEqual([{ room: "tea", content: "hi", id: "u" }]);
  expect(chat.rooms.get("cake")!.messages.unread).toBe(1);
  expect(chat.rooms.get("tea")!.messages).toMatchObject({ unread: 0, newFrom: "bob 2" });
});
