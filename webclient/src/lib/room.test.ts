import { describe, expect, it } from "vitest";
import type { Arrival, Entry } from "./entries";
import { KEPT, KEPT_AT_END, Room } from "./room.svelte";
import { directInfo, roomInfo } from "./samples";

const message = (id: number, from = "bob"): Arrival => ({ id: `${id}`, room: "tea", from, content: "x", ts: id });
const messages = (first: number, last: number): Arrival[] =>
  Array.from({ length: last - first + 1 }, (_, index) => message(first + index));
const room = (): Room => new Room(roomInfo("tea", ["alice", "bob"]), 0);
const pending: Entry = { id: "p", from: "alice", content: "p", ts: 9_999, status: "pending" };

describe("what is new", () => {
  it("is counted, and stays marked after it was seen, until the room is left", () => {
    const tea = room();
    tea.receive(message(1), true);
    tea.receive(message(2), false);
    tea.receive(message(3), false);
    expect([tea.unread, tea.newFrom]).toEqual([2, "bob 2"]);
    tea.markSeen();
    expect([tea.unread, tea.newFrom]).toEqual([0, "bob 2"]);
    tea.markLeft();
    expect(tea.newFrom).toBeNull();
  });

  it("is no longer marked when we answer", () => {
    const tea = room();
    tea.receive(message(1), false);
    tea.markSeen();
    tea.addPending(pending);
    expect(tea.newFrom).toBeNull();
  });

  it("is found again in what is fetched after a reload", () => {
    const before = room();
    before.addPage([message(1)], false, "alice");
    before.receive(message(2), false);
    const after = room();
    after.restore(before.kept);
    after.addPage([message(1), message(2), message(3, "alice"), message(4)], false, "alice");
    expect([after.unread, after.newFrom]).toEqual([2, "bob 2"]);
  });

  it("in a room that was never opened survives a reload too", () => {
    const before = room();
    before.receive(message(2), false);
    before.receive(message(3), false);
    const after = room();
    after.restore(before.kept);
    expect(after.unread).toBe(2);
    after.receive(message(4), false);
    after.addPage(messages(1, 4), false, "alice");
    expect([after.unread, after.newFrom]).toEqual([3, "bob 2"]);
  });

  it("is not less than it was, where the page does not reach back to it", () => {
    const before = room();
    for (const next of messages(1, 80)) before.receive(next, false);
    const after = room();
    after.restore(before.kept);
    after.addPage(messages(31, 80), true, "alice");
    expect([after.unread, after.newFrom]).toEqual([80, "bob 1"]);
  });

  it("stays new when the room is left without having read to the end", () => {
    const tea = room();
    tea.receive(message(1), false);
    tea.markLeft();
    expect(tea.newFrom).toBe("bob 1");
  });

  it("is all that is fetched, where nothing had been said", () => {
    const tea = room();
    tea.startFresh();
    tea.forget();
    tea.addPage([message(1)], false, "alice");
    expect(tea.unread).toBe(1);
  });

  it("is nothing that was said before we came", () => {
    const tea = room();
    tea.addPage([message(1)], false, "alice");
    expect(tea.unread).toBe(0);
  });
});

describe("what is kept", () => {
  it("has a bound while the reader is at the end; the rest can be fetched again", () => {
    const tea = room();
    tea.addPage(messages(1, 50), false, "alice");
    tea.addPending(pending);
    for (const next of messages(51, KEPT_AT_END + 10)) tea.receive(next, true);
    expect(tea.entries).toHaveLength(KEPT_AT_END + 1);
    expect(tea.entries[0]!.id).toBe("11");
    expect(tea.unsent).toEqual([pending]);
    expect(tea.more).toBe(true);
  });

  it("has a bound for a reader of what is old, who gets no more then", () => {
    const tea = room();
    tea.addPage([message(9_000)], true, "alice");
    tea.atEnd = false;
    tea.addPage(messages(1, KEPT + 100), true, "alice");
    expect(tea.entries).toHaveLength(KEPT);
    expect(tea.more).toBe(false);
  });

  it("survives a reload: the draft and what was not sent", () => {
    const before = room();
    before.draft = "half a";
    before.addPending(pending);
    before.setFailed(pending, "no");
    const after = room();
    after.restore(JSON.parse(JSON.stringify(before.kept)));
    expect(after.draft).toBe("half a");
    expect(after.unsent).toEqual([{ ...pending, status: "failed", problem: "no" }]);
    after.discard(after.unsent[0]!);
    expect(after.unsent).toEqual([]);
  });
});

describe("a direct room", () => {
  it("is called by the other of the two, whose presence it shows", () => {
    const direct = new Room(directInfo("@x1", "alice", "bob"), 0);
    expect([direct.title, direct.partner, direct.partnerOnline]).toEqual(["bob", "bob", true]);
    direct.setPresence("bob", false);
    expect(direct.partnerOnline).toBe(false);
    direct.removeMember("bob");
    expect([direct.title, direct.partnerOnline]).toEqual(["bob", undefined]);
  });

  it.each(["alice & bob", "bob", "@x1"])("is none because it is called %j", (name) => {
    const room = new Room({ ...roomInfo(name, ["alice", "bob"]), user: "bob" }, 0);
    expect([room.title, room.partner]).toEqual([name, undefined]);
  });
});

describe("the members", () => {
  const names = (tea: Room): string[] => tea.members.map((member) => member.username);

  it("are counted, also those that nobody named", () => {
    const tea = new Room(roomInfo("tea", ["alice", "bob"], { member_count: 4 }), 0);
    expect(tea.isPartial).toBe(true);
    tea.addMember("zoe");
    tea.removeMember("carol");
    expect([tea.memberCount, tea.isPartial]).toEqual([4, true]);
    tea.setMembers(["alice", "bob", "dan", "zoe"].map((username) => ({ username, online: true })));
    expect([tea.memberCount, tea.isPartial]).toEqual([4, false]);
  });

  it("are not counted wrong by whom nobody knew", () => {
    const tea = room();
    tea.removeMember("nobody");
    tea.addMember("bob");
    expect([names(tea), tea.memberCount]).toEqual([["alice", "bob"], 2]);
  });
});
