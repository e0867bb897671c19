import { describe, expect, it } from "vitest";
import { info, joiningChat, makeChat, openChat, savedSession, savedUnsent, unsentEntry, welcomeTo } from "../testing/chat";
import { ConnectionLost } from "./errors";
import type { Listener } from "./gateway";

describe("logging in", () => {
  it("is done when the gateway welcomes us", async () => {
    const { chat, open, welcome } = await joiningChat();
    expect(chat.session.phase).toBe("joining");
    expect(open).toHaveBeenCalledWith({ username: "alice", pid: undefined, keepTrying: false });
    welcome([info("tea", "alice", "bob")]);
    expect(chat.session.phase).toBe("online");
    expect(chat.rooms.list.map((room) => room.name)).toEqual(["tea"]);
  });

  it("shows no rooms until they are known", async () => {
    const { chat, listener } = await joiningChat();
    listener.connected(false, { sid: "s", pid: "p" });
    expect(chat.session.phase).toBe("joining");
    listener.event("welcome", welcomeTo([]));
    expect(chat.session.phase).toBe("online");
  });

  it("shows the gateway's sentence when it is refused", async () => {
    const { chat, listener, tab } = await joiningChat();
    listener.refused({ code: "username_taken", message: "The username 'alice' is taken." });
    expect(chat.session).toMatchObject({ phase: "out", problem: "The username 'alice' is taken." });
    expect(tab.forget).toHaveBeenCalled();
  });

  it("gives up when the gateway cannot be reached", async () => {
    const { chat, close, listener, tab } = await joiningChat();
    listener.lost();
    expect(close).toHaveBeenCalled();
    expect(chat.session.problem).toContain("cannot be reached");
    expect(tab.forget).not.toHaveBeenCalled();
  });
});

describe("coming back", () => {
  it("may be refused, which also says what was not sent", async () => {
    const { chat, call, listener } = await openChat(info("tea", "alice"));
    call.mockRejectedValue(new ConnectionLost());
    listener.lost();
    chat.send(chat.rooms.get("tea")!, "one");
    chat.send(chat.rooms.get("tea")!, "two");
    listener.refused({ code: "username_taken", message: "It is taken." });
    expect(chat.session.problem).toBe("It is taken. 2 messages were not sent.");
    expect(chat.rooms.list).toEqual([]);
  });

  it("as another session says so, and what was not sent", async () => {
    const { chat, call, listener, welcome } = await openChat(info("tea", "alice"));
    call.mockRejectedValue(new ConnectionLost());
    listener.lost();
    chat.send(chat.rooms.get("tea")!, "hello");
    welcome([], false, "another");
    expect(chat.rooms.list).toEqual([]);
    expect(chat.notice.text).toMatch(/^Your session ended .* A message was not sent\.$/);
  });

  it("as another session is not worth a word if no room was lost", async () => {
    const { chat, listener, welcome } = await openChat();
    listener.lost();
    welcome([], false, "another");
    expect([chat.session.phase, chat.notice.text]).toEqual(["online", ""]);
  });
});

describe("after a reload", () => {
  it("the session is resumed, however long the gateway cannot be reached", () => {
    const { chat, close, listener, open } = makeChat(savedSession);
    void chat.connection.resume();
    expect(open).toHaveBeenCalledWith({ username: "alice", pid: "p1", keepTrying: true });
    listener.lost();
    expect(chat.session.phase).toBe("resuming");
    expect(close).not.toHaveBeenCalled();
  });

  it("a session that is over is reported", () => {
    const { chat, welcome } = makeChat(savedUnsent);
    void chat.connection.resume();
    welcome([], false, "another");
    expect(chat.notice.text).toContain("A message was not sent.");
  });

  it("a session that another tab took over is only taken back when the user asks for it", () => {
    const { chat, open } = makeChat({ ...savedSession, elsewhere: true });
    void chat.connection.resume();
    expect(chat.session.phase).toBe("elsewhere");
    expect(open).not.toHaveBeenCalled();
    chat.connection.takeBack();
    expect(open).toHaveBeenCalledWith({ username: "alice", pid: "p1", keepTrying: true });
  });
});

describe("in a new tab", () => {
  it("a session whose tab is gone is resumed", async () => {
    const { chat, open, tab, welcome } = makeChat(undefined, savedSession);
    const resumed = chat.connection.resume();
    expect(chat.session.phase).toBe("starting");
    await resumed;
    expect(chat.session.phase).toBe("resuming");
    expect(open).toHaveBeenCalledWith({ username: "alice", pid: "p1", keepTrying: true });
    welcome([info("tea", "alice")]);
    expect(tab.enter).toHaveBeenCalledWith("s");
  });

  it("nobody is logged in who has not asked for it: if that session is over, the form says so", async () => {
    for (const recovered of [false, true]) {
      const { chat, close, listener, tab } = makeChat(undefined, savedUnsent);
      await chat.connection.resume();
      listener.connected(recovered, { sid: "another", pid: "p2" });
      expect(close).toHaveBeenCalled();
      expect(tab.forget).toHaveBeenCalled();
      expect(chat.session).toMatchObject({ phase: "out", username: "alice" });
      expect(chat.session.problem).toMatch(/^Your session ended .* A message was not sent\.$/);
    }
  });

  it("joining with the name of a session of this browser resumes that session", async () => {
    const { chat, open, tab, welcome } = makeChat(undefined, savedSession);
    tab.adopt.mockResolvedValueOnce(undefined);
    await chat.connection.resume();
    expect(chat.session.phase).toBe("out");
    await chat.connection.join("alice");
    expect(open).toHaveBeenCalledWith({ username: "alice", pid: "p1", keepTrying: false });
    welcome([info("tea", "alice")]);
    expect(chat.rooms.get("tea")).toMatchObject({ draft: "half a" });
  });

  it("joining works even if that session is over, and only says what was not sent", async () => {
    for (const [left, notice] of [
      [savedSession, ""],
      [savedUnsent, "A message was not sent."],
    ] as const) {
      const { chat, welcome } = makeChat(undefined, left);
      await chat.connection.join("alice");
      welcome([], false, "another");
      expect([chat.session.phase, chat.notice.text]).toEqual(["online", notice]);
    }
  });

  it("a temporary refusal leaves the session for the next attempt", async () => {
    for (const fail of [
      (listener: Listener) => listener.lost(),
      (listener: Listener) => listener.refused({ code: "limit_reached", message: "x" }),
      (listener: Listener) => listener.refused({ code: "unavailable", message: "x" }),
    ]) {
      const { chat, listener, tab } = makeChat(undefined, savedSession);
      await chat.connection.join("alice");
      fail(listener);
      expect(chat.session.phase).toBe("out");
      expect(tab.leave).toHaveBeenCalled();
      expect(tab.forget).not.toHaveBeenCalled();
    }
  });

  it("a refusal counts the unsent messages of the session that was found", async () => {
    const { chat, listener } = makeChat(undefined, { ...savedUnsent, rooms: [{ ...savedUnsent.rooms[0]!, unsent: [unsentEntry, { ...unsentEntry, id: "v" }] }] });
    await chat.connection.join("alice");
    listener.refused({ code: "unavailable", message: "Try again." });
    expect(chat.session.problem).toBe("Try again. 2 messages were not sent.");
  });
});

describe("the end", () => {
  it("of a log-out is silent, and the name is kept for the next login", async () => {
    const { chat, close, tab } = await openChat(info("tea", "alice"));
    chat.connection.logOut();
    expect(close).toHaveBeenCalled();
    expect(tab.forget).toHaveBeenCalled();
    expect(chat.session).toMatchObject({ phase: "out", problem: "", username: "alice" });
    expect(chat.rooms.list).toEqual([]);
  });

  it("in this tab is not the end of a session that another tab has taken over", async () => {
    const { chat, listener, tab } = await openChat(info("tea", "alice"));
    listener.takenOver();
    expect(chat.session.phase).toBe("elsewhere");
    chat.connection.logOut();
    expect(tab.leave).toHaveBeenCalled();
    expect(tab.forget).not.toHaveBeenCalled();
  });
});
