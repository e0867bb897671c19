import { describe, expect, it } from "vitest";
import { Session } from "../connection/session.svelte";
import { Rooms } from "../rooms/rooms.svelte";
import { info, savedSession, savedUnsent, unsentEntry } from "../testing/chat";
import { FakeBrowser, fakeStorage } from "../testing/storage";
import { Persistence } from "./persistence.svelte";
import { Tab } from "./tab";

/** A page in a tab of a browser, on which `saved` was saved before. */
function setUp(saved = savedSession) {
  const [browser, own] = [new FakeBrowser(), fakeStorage()];
  new Tab(browser.tab(own)).write(saved);
  const [session, rooms] = [new Session(), new Rooms()];
  const persistence = new Persistence(new Tab(browser.tab(own)), session, rooms);
  const stored = () => new Tab(browser.tab(own)).read();
  /** As `Connection` does it. */
  const resume = () => {
    const { username, sid, pid } = persistence.load()!;
    session.resume(username, { sid, pid });
  };
  return { session, rooms, persistence, stored, resume };
}

describe("a reload", () => {
  it("restores the draft, the unsent messages, the order, and the open room", () => {
    const { rooms, persistence, resume } = setUp({
      ...savedUnsent,
      rooms: [...savedUnsent.rooms, { ...savedSession.rooms[0]!, name: "cake", draft: "", activity: 9 }],
    });
    resume();
    rooms.replace([info("tea", "alice"), info("cake", "alice"), info("new", "alice")]);
    persistence.restore();
    expect(rooms.list.map((room) => room.name)).toEqual(["cake", "tea", "new"]);
    expect(rooms.open).toMatchObject({ name: "tea", draft: "half a" });
    expect(rooms.open!.messages.unsent).toEqual([unsentEntry]);
  });

  it("restores nothing into a room that we are no longer in, and leaves the open room open", () => {
    const { rooms, persistence, resume } = setUp();
    resume();
    rooms.replace([info("cake", "alice")]);
    rooms.select("cake");
    persistence.restore();
    expect([rooms.open?.name, rooms.open?.draft]).toEqual(["cake", ""]);
  });

  it("loses nothing if there is another one before the rooms are known", () => {
    const { persistence, resume, stored } = setUp(savedUnsent);
    resume();
    persistence.save();
    expect(stored()).toEqual(savedUnsent);
  });

  it("saves the rooms once they are known", () => {
    const { rooms, session, persistence, resume, stored } = setUp();
    resume();
    rooms.replace([info("tea", "alice")]);
    persistence.restore();
    session.identify({ sid: "s", pid: "p2" });
    rooms.open!.draft = "half a word";
    persistence.save();
    expect(stored()).toMatchObject({ pid: "p2", open: "tea", rooms: [{ name: "tea", draft: "half a word" }] });
  });
});

describe("what would be lost with a session", () => {
  it("is what was saved until that is restored, and then what is in the rooms", () => {
    const { rooms, persistence, resume } = setUp(savedUnsent);
    resume();
    expect(persistence.unsent).toBe(1);
    expect([persistence.hasLost({ sid: "s", pid: "p" }), persistence.hasLost({ sid: "other", pid: "p" })]).toEqual([false, true]);
    rooms.replace([info("tea", "alice")]);
    persistence.restore();
    expect(persistence.unsent).toBe(1);
    rooms.open!.messages.discard(unsentEntry);
    expect(persistence.unsent).toBe(0);
  });

  it("is nothing if it had no rooms, or if there was none", () => {
    const { persistence, resume } = setUp({ ...savedSession, open: null, rooms: [] });
    expect(persistence.hasLost({ sid: "other", pid: "p" })).toBe(false);
    resume();
    expect(persistence.hasLost({ sid: "other", pid: "p" })).toBe(false);
  });
});

describe("saving", () => {
  it("leaves the session alone while another tab is in it, and remembers that over a reload", () => {
    const { session, persistence, resume, stored } = setUp();
    resume();
    session.yield();
    persistence.save();
    expect(stored()).toEqual({ ...savedSession, elsewhere: true });
    session.takeBack();
    persistence.save();
    expect(stored()).toEqual(savedSession);
  });

  it("writes nothing before there is a session, and nothing after it is over", () => {
    const { session, persistence, resume, stored } = setUp();
    persistence.save();
    expect(stored()).toEqual(savedSession);
    resume();
    persistence.forget();
    session.end();
    persistence.save();
    expect(stored()).toBeUndefined();
  });
});
