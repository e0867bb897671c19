import { describe, expect, it } from "vitest";
import { confirm, keepLatest, mergePage, othersFrom, receive, type Entry } from "./entries";
import type { Message } from "../wire";

const message = (id: string, ts = Number(id)): Message => ({ id, room: "tea", from: "bob", content: `${id}!`, ts });
const sent = (id: string, ts?: number): Entry => receive([], message(id, ts))[0]!;
const pending = (id: string): Entry => ({ id, from: "alice", content: id, ts: 99, status: "pending" });
const ids = (entries: Entry[]): string[] => entries.map((entry) => entry.id);

describe("receive", () => {
  it("puts a message after the stored ones and before the unsent ones", () => {
    expect(ids(receive([sent("1"), pending("mine")], message("2")))).toEqual(["1", "2", "mine"]);
  });

  it("shows a message that arrives twice only once", () => {
    expect(ids(receive([sent("1"), sent("2")], message("1")))).toEqual(["1", "2"]);
  });

  it("shows both messages if two authors chose the same id", () => {
    expect(receive([sent("1")], { ...message("1"), from: "eve" }).map((entry) => entry.from)).toEqual(["bob", "eve"]);
  });

  it("takes a replay of our own message as its ack", () => {
    const [entry] = receive([pending("5")], { ...message("5"), from: "alice" });
    expect(entry).toMatchObject({ id: "5", status: "sent", ts: 5 });
  });
});

describe("confirm", () => {
  it("moves our message to the stored ones, with the gateway's time", () => {
    const entries = confirm([sent("1"), pending("a"), pending("b")], "alice b", 7);
    expect(entries.map((entry) => [entry.id, entry.status, entry.ts])).toEqual([
      ["1", "sent", 1],
      ["b", "sent", 7],
      ["a", "pending", 99],
    ]);
  });

  it("puts a message that was stored before the connection dropped where it belongs", () => {
    expect(ids(confirm([sent("1"), sent("3"), pending("mine")], "alice mine", 2))).toEqual(["1", "mine", "3"]);
  });

  it("drops the reason of an earlier failure", () => {
    const failed: Entry = { ...pending("a"), status: "failed", problem: "no" };
    expect(confirm([failed], "alice a", 7)[0]).not.toHaveProperty("problem");
  });

  it("changes nothing if the message is gone", () => {
    expect(ids(confirm([sent("1")], "gone", 7))).toEqual(["1"]);
  });
});

describe("mergePage", () => {
  it("puts an older page first", () => {
    expect(ids(mergePage([sent("3"), pending("p")], [message("1"), message("2")]))).toEqual(["1", "2", "3", "p"]);
  });

  it("keeps what arrived after the page was fetched", () => {
    expect(ids(mergePage([sent("2"), sent("3")], [message("1"), message("2")]))).toEqual(["1", "2", "3"]);
  });

  it("keeps what is older than the page", () => {
    expect(ids(mergePage([sent("1"), sent("2"), sent("3")], [message("2"), message("3")]))).toEqual(["1", "2", "3"]);
  });

  it("drops a pending message that the page shows as stored", () => {
    expect(ids(mergePage([pending("2"), pending("p")], [message("1"), { ...message("2"), from: "alice" }]))).toEqual([
      "1",
      "2",
      "p",
    ]);
  });
});

describe("keepLatest", () => {
  it("drops the oldest, and nothing that is unsent", () => {
    expect(ids([...keepLatest([sent("1"), sent("2"), sent("3"), pending("p")], 2)])).toEqual(["2", "3", "p"]);
    expect(ids([...keepLatest([sent("1"), pending("p")], 2)])).toEqual(["1", "p"]);
  });
});

describe("othersFrom", () => {
  it("is what others wrote from there on", () => {
    const entries = [sent("1"), sent("2"), { ...sent("3"), from: "me" }, sent("4"), pending("p")];
    expect(ids(othersFrom(entries, 1, "me"))).toEqual(["2", "4"]);
  });
});
