import { describe, expect, it } from "vitest";
import type { Arrival, Entry } from "./entries";
import { KEPT, KEPT_AT_END, Messages } from "./messages.svelte";

const message = (id: number, from = "bob"): Arrival => ({ id: `${id}`, room: "tea", from, content: "x", ts: id });
const range = (first: number, last: number): Arrival[] =>
  Array.from({ length: last - first + 1 }, (_, index) => message(first + index));
const pending: Entry = { id: "p", from: "alice", content: "p", ts: 9_999, status: "pending" };

/** The same messages on the page after a reload. */
function reload(before: Messages): Messages {
  const after = new Messages();
  after.restore(JSON.parse(JSON.stringify(before.saved)));
  return after;
}

describe("what is new", () => {
  it("is marked until the reader leaves the room", () => {
    const messages = new Messages();
    messages.receive(message(1), true);
    messages.receive(message(2), false);
    messages.markSeen();
    expect([messages.unread, messages.newFrom]).toEqual([0, "bob 2"]);
    messages.markLeft();
    expect(messages.newFrom).toBeNull();
  });

  it("is not new any more once we reply", () => {
    const messages = new Messages();
    messages.receive(message(1), false);
    messages.addPending(pending);
    expect([messages.unread, messages.newFrom]).toEqual([0, null]);
  });

  it("is found again in the page that is fetched after a reload", () => {
    const before = new Messages();
    before.addPage([message(1)], false, "alice");
    before.receive(message(2), false);
    const after = reload(before);
    after.addPage([message(1), message(2), message(3, "alice"), message(4)], false, "alice");
    expect([after.unread, after.newFrom]).toEqual([2, "bob 2"]);
  });

  it("survives a reload even in a room that was never opened", () => {
    const before = new Messages();
    before.receive(message(2), false);
    before.receive(message(3), false);
    const after = reload(before);
    expect(after.unread).toBe(2);
    after.receive(message(4), false);
    after.addPage(range(1, 4), false, "alice");
    expect([after.unread, after.newFrom]).toEqual([3, "bob 2"]);
  });

  it("is not less than it was if the page does not reach back to it", () => {
    const before = new Messages();
    for (const next of range(1, 80)) before.receive(next, false);
    const after = reload(before);
    after.addPage(range(31, 80), true, "alice");
    expect([after.unread, after.newFrom]).toEqual([80, "bob 1"]);
  });

  it("is everything that is fetched, if there had been nothing", () => {
    const messages = new Messages();
    messages.startFresh();
    messages.forget();
    messages.addPage([message(1)], false, "alice");
    expect(messages.unread).toBe(1);
  });

  it("is not what was there before we came", () => {
    const messages = new Messages();
    messages.addPage([message(1)], false, "alice");
    expect(messages.unread).toBe(0);
  });
});

describe("what is kept", () => {
  it("is bounded while the reader is at the end; older messages can be fetched again", () => {
    const messages = new Messages();
    messages.addPage(range(1, 50), false, "alice");
    messages.addPending(pending);
    for (const next of range(51, KEPT_AT_END + 10)) messages.receive(next, true);
    expect(messages.entries).toHaveLength(KEPT_AT_END + 1);
    expect(messages.oldest!.id).toBe("11");
    expect(messages.unsent).toEqual([pending]);
    expect(messages.more).toBe(true);
  });

  it("is bounded for a reader of old messages, who cannot go back further then", () => {
    const messages = new Messages();
    messages.addPage([message(9_000)], true, "alice");
    messages.atEnd = false;
    messages.addPage(range(1, KEPT + 100), true, "alice");
    expect(messages.entries).toHaveLength(KEPT);
    expect(messages.more).toBe(false);
  });

  it("is only what is unsent, when events were missed", () => {
    const messages = new Messages();
    messages.addPage(range(1, 3), true, "alice");
    messages.addPending(pending);
    messages.forget();
    expect(messages.entries).toEqual([pending]);
    expect([messages.stale, messages.more]).toEqual([true, false]);
  });
});

describe("a message of ours", () => {
  it("is pending, fails, is pending again, and is confirmed with the gateway's time", () => {
    const messages = new Messages();
    messages.addPending(pending);
    messages.setFailed(pending, "no");
    expect(messages.unsent).toEqual([{ ...pending, status: "failed", problem: "no" }]);
    messages.setPending(pending);
    expect(messages.last).toMatchObject({ status: "pending" });
    messages.confirm(pending, 42);
    expect(messages.unsent).toEqual([]);
    expect(messages.last).toMatchObject({ status: "sent", ts: 42 });
  });

  it("can be discarded", () => {
    const messages = new Messages();
    messages.addPending(pending);
    messages.discard(messages.unsent[0]!);
    expect(messages.entries).toEqual([]);
  });
});

it("the last activity is that of the newest message of any author", () => {
  const messages = new Messages(5);
  messages.addPage([message(3)], false, "alice");
  expect(messages.activity).toBe(5);
  messages.receive(message(7), true);
  expect(messages.activity).toBe(7);
  messages.addPending(pending);
  expect(messages.activity).toBe(9_999);
});
