import { beforeEach, describe, expect, it } from "vitest";
import { settled } from "../testing/chat";
import { FakeBrowser, fakeStorage } from "../testing/storage";
import type { SavedSession } from "./saved";
import { Tab } from "./tab";

const alice: SavedSession = { username: "alice", sid: "s", pid: "p", elsewhere: false, open: "tea", rooms: [] };
const bob: SavedSession = { ...alice, username: "bob", sid: "b" };

let browser: FakeBrowser;
const open = (own = fakeStorage(), path = "/"): Tab => new Tab(browser.tab(own, path));

beforeEach(() => {
  browser = new FakeBrowser();
});

describe("a reload", () => {
  it("finds what was saved, until that is forgotten", () => {
    const own = fakeStorage();
    open(own).write(alice);
    expect(open(own).read()).toEqual(alice);
    open(own).forget();
    expect(open(own).read()).toBeUndefined();
    expect(browser.shared.length).toBe(0);
  });

  it("finds what an earlier version of the page saved: the stored names never change", () => {
    const own = fakeStorage();
    const room = { name: "tea", draft: "a", unsent: [], unread: 0, newFrom: null, latest: "bob 1", activity: 5 };
    const stored = { username: "alice", sid: "s", pid: "p", open: "tea", rooms: [room] };
    own.setItem("chat-gateway / ", JSON.stringify({ sid: "s", elsewhere: true }));
    browser.shared.setItem("chat-gateway / s", JSON.stringify({ ...stored, at: Date.now() }));
    expect(open(own).read()).toEqual({ ...stored, elsewhere: true });
  });

  it("finds that another tab has taken over, and what that one has saved since", () => {
    const own = fakeStorage();
    open(own).write(alice);
    open(own).yield();
    open().write({ ...alice, open: "cake" });
    expect(open(own).read()).toEqual({ ...alice, open: "cake", elsewhere: true });
  });

  it("finds nothing old if the new did not fit", () => {
    const own = fakeStorage();
    browser = new FakeBrowser(fakeStorage(200));
    open(own).write(alice);
    open(own).write({ ...alice, open: "x".repeat(200) });
    expect(open(own).read()).toBeUndefined();
  });

  it.each(["", "{", "null", "[]", '{"username":"alice"}'])("takes %j for nothing", async (text) => {
    const own = fakeStorage();
    open(own).write(alice);
    browser.shared.setItem(browser.shared.key(0)!, text);
    expect(open(own).read()).toBeUndefined();
    expect(await open().adopt()).toBeUndefined();
    open(own).write(alice);
    own.setItem(own.key(0)!, text);
    expect(open(own).read()).toBeUndefined();
  });

  it("starts from the login form if the browser stores nothing", async () => {
    const tab = new Tab({ tab: undefined, shared: undefined, locks: undefined, prefix: "chat " });
    tab.write(alice);
    tab.enter("s");
    tab.yield();
    expect(tab.read()).toBeUndefined();
    expect(await tab.adopt("alice")).toBeUndefined();
    tab.forget();
  });
});

describe("a new tab", () => {
  /** A tab that is in a session. */
  function live(session: SavedSession, own = fakeStorage()): Tab {
    const tab = open(own);
    tab.enter(session.sid);
    tab.write(session);
    return tab;
  }

  it("adopts a session that no other tab is in", async () => {
    const first = live(alice);
    expect(await open().adopt()).toBeUndefined();
    first.leave();
    await settled();
    expect(await open().adopt()).toEqual(alice);
    expect(await open().adopt()).toBeUndefined();
  });

  it("adopts the most recent session, or one of the name that is asked for", async () => {
    for (const session of [alice, bob]) {
      live(session).leave();
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    const second = open();
    expect(await second.adopt()).toEqual(bob);
    second.leave();
    await settled();
    expect(await open().adopt("alice")).toEqual(alice);
    expect(await open().adopt("carol")).toBeUndefined();
  });

  it("adopts nothing that is over, or that belongs to a gateway under another path", async () => {
    live(alice).forget();
    live(bob).leave();
    await settled();
    expect(await open(fakeStorage(), "/chat/").adopt()).toBeUndefined();
    expect(await open().adopt("alice")).toBeUndefined();
    expect(await open().adopt()).toEqual(bob);
  });

  it("without locks only adopts a session whose name is asked for", async () => {
    live(alice);
    const plain = new Tab({ ...browser.tab(), locks: undefined });
    expect(await plain.adopt()).toBeUndefined();
    expect(await plain.adopt("alice")).toEqual(alice);
  });

  it("does not adopt a session that a duplicate has taken over", async () => {
    const own = fakeStorage();
    const first = live(alice, own);
    const duplicate = open(own);
    duplicate.enter("s");
    first.yield();
    await settled();
    expect(await open().adopt()).toBeUndefined();
    duplicate.leave();
    await settled();
    expect(await open().adopt()).toEqual(alice);
  });

  it("forgets the session it was in when it enters another one", async () => {
    const tab = live(alice);
    tab.enter("b");
    tab.write(bob);
    expect(browser.shared.length).toBe(1);
    tab.leave();
    await settled();
    expect(await open().adopt("alice")).toBeUndefined();
    expect(await open().adopt()).toEqual(bob);
  });
});
