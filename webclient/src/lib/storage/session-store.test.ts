import { describe, expect, it, vi } from "vitest";
import { fakeStorage } from "../testing/storage";
import type { StoredSession } from "./saved";
import { SessionStore } from "./session-store";

const alice: StoredSession = { username: "alice", sid: "s", pid: "p", open: "tea", rooms: [] };
const bob: StoredSession = { ...alice, username: "bob", sid: "b" };
const DAY = 24 * 3600 * 1000;

function setUp() {
  const storage = fakeStorage();
  return { storage, store: new SessionStore(storage, "chat ") };
}

describe("SessionStore", () => {
  it("returns what was written, until it is removed", () => {
    const { storage, store } = setUp();
    store.write(alice);
    store.write({ ...alice, open: "cake" });
    expect(store.read("s")).toEqual({ ...alice, open: "cake" });
    store.remove("s");
    expect(store.read("s")).toBeUndefined();
    expect(storage.length).toBe(0);
  });

  it("lists the most recently written session first", () => {
    vi.useFakeTimers();
    const { store } = setUp();
    for (const session of [alice, bob, alice]) {
      store.write(session);
      vi.advanceTimersByTime(1);
    }
    expect(store.list()).toEqual([alice, bob]);
    vi.useRealTimers();
  });

  it("drops what is a week old, and nothing younger", () => {
    vi.useFakeTimers();
    const { storage, store } = setUp();
    store.write(alice);
    vi.advanceTimersByTime(7 * DAY - 1);
    expect(store.list()).toEqual([alice]);
    vi.advanceTimersByTime(1);
    expect(store.list()).toEqual([]);
    expect(storage.length).toBe(0);
    vi.useRealTimers();
  });

  it.each(["", "{", "null", "[]", '{"username":"alice"}'])("drops %j, which is no session", (text) => {
    const { storage, store } = setUp();
    store.write(alice);
    storage.setItem(storage.key(0)!, text);
    expect(store.read("s")).toBeUndefined();
    expect(store.list()).toEqual([]);
    expect(storage.length).toBe(0);
  });

  it("leaves alone what is not its own", () => {
    const { storage, store } = setUp();
    storage.setItem("another page", "{");
    new SessionStore(storage, "chat-2 ").write(bob);
    expect(store.list()).toEqual([]);
    expect(storage.length).toBe(2);
  });

  it("throws when there is no room, and does nothing without a storage", () => {
    expect(() => new SessionStore(fakeStorage(10), "chat ").write(alice)).toThrow("full");
    const store = new SessionStore(undefined, "chat ");
    store.write(alice);
    store.remove("s");
    expect([store.read("s"), store.list()]).toEqual([undefined, []]);
  });
});
