import { describe, expect, it } from "vitest";
import { receive, type Arrival, type Entry } from "./entries";
import { Unread } from "./unread.svelte";

const message = (id: number, from = "bob"): Arrival => ({ id: `${id}`, room: "tea", from, content: "x", ts: id });
const entries = (...messages: Arrival[]): Entry[] => messages.reduce<Entry[]>(receive, []);

describe("messages that arrive", () => {
  it("are counted, and the first stays marked after it was seen, until the mark is cleared", () => {
    const unread = new Unread();
    unread.add(message(2));
    unread.add(message(3));
    expect([unread.count, unread.first]).toEqual([2, "bob 2"]);
    unread.markSeen();
    expect([unread.count, unread.first]).toEqual([0, "bob 2"]);
    unread.clearMark();
    expect(unread.first).toBeNull();
  });

  it("stay new until they have been seen", () => {
    const unread = new Unread();
    unread.add(message(1));
    unread.clearMark();
    expect(unread.first).toBe("bob 1");
  });
});

describe("a recount", () => {
  const recount = (unread: Unread, latest: string | null, ...messages: Arrival[]) => {
    unread.recount(entries(...messages), latest, "alice");
    return [unread.count, unread.first];
  };

  it("counts what others wrote, from the first new message on", () => {
    const unread = new Unread();
    unread.restore(1, "bob 2");
    expect(recount(unread, "bob 2", message(1), message(2), message(3, "alice"), message(4))).toEqual([2, "bob 2"]);
  });

  it("never counts less than before if the page does not reach back to the first new message", () => {
    const unread = new Unread();
    unread.restore(80, "bob 1");
    expect(recount(unread, null, message(78), message(79), message(80))).toEqual([80, "bob 1"]);
  });

  it("counts everything after the last message that we had", () => {
    expect(recount(new Unread(), "bob 1", message(1), message(2), message(3))).toEqual([2, "bob 2"]);
  });

  it("counts everything if there had been no message", () => {
    expect(recount(new Unread(), "", message(1))).toEqual([1, "bob 1"]);
  });

  it("counts nothing if it is not known which message we had last", () => {
    expect(recount(new Unread(), null, message(1))).toEqual([0, null]);
  });
});
