import { describe, expect, it } from "vitest";
import { Tab, type Kept } from "./tab";

const kept: Kept = { username: "alice", sid: "s", pid: "p", elsewhere: false, open: "tea", rooms: [] };

/** As the browser's, and full at so many characters. */
function storage(limit = Infinity): Storage {
  const items = new Map<string, string>();
  return {
    get length() {
      return items.size;
    },
    key: (index) => [...items.keys()][index] ?? null,
    clear: () => items.clear(),
    getItem: (key) => items.get(key) ?? null,
    removeItem: (key) => void items.delete(key),
    setItem: (key, value) => {
      if (value.length > limit) throw new DOMException("full", "QuotaExceededError");
      items.set(key, value);
    },
  };
}

describe("Tab", () => {
  it("keeps over a reload, until it is told to forget", () => {
    const place = storage();
    new Tab(place).write(kept);
    expect(new Tab(place).read()).toEqual(kept);
    new Tab(place).forget();
    expect(new Tab(place).read()).toBeUndefined();
  });

  it("keeps nothing old where the new does not fit", () => {
    const place = storage(200);
    new Tab(place).write(kept);
    new Tab(place).write({ ...kept, open: "x".repeat(200) });
    expect(new Tab(place).read()).toBeUndefined();
  });

  it.each(["", "{", "null", "[]", '{"username":"alice"}'])("takes %j for nothing", (text) => {
    const place = storage();
    place.setItem("chat-gateway", text);
    expect(new Tab(place).read()).toBeUndefined();
  });

  it("does without a storage", () => {
    const tab = new Tab(undefined);
    tab.write(kept);
    expect(tab.read()).toBeUndefined();
  });
});
