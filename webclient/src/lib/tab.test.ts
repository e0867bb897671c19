import { beforeEach, describe, expect, it } from "vitest";
import { Tab, type Kept } from "./tab";

const kept: Kept = { username: "alice", sid: "s", pid: "p", elsewhere: false, open: "tea", rooms: [] };
const bob: Kept = { ...kept, username: "bob", sid: "b" };

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

/** As the browser's, one lock at a time for each name. Node has them too, but not in every version we build with. */
class Locks {
  #lines = new Map<string, Promise<unknown>>();

  request = (async (name: string, options: LockOptions, callback: LockGrantedCallback<unknown>) => {
    const before = this.#lines.get(name);
    if (before && options.ifAvailable) return callback(null);
    const turn = (async () => {
      await before;
      if (!options.signal?.aborted) await callback({ name, mode: "exclusive" });
    })();
    this.#lines.set(name, turn);
    await turn;
    if (this.#lines.get(name) === turn) this.#lines.delete(name);
  }) as LockManager["request"];
}

let shared: Storage;
let locks: Locks;
const open = (own = storage(), path = "/"): Tab => new Tab({ own, shared, locks, path });
const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve));

beforeEach(() => {
  shared = storage();
  locks = new Locks();
});

describe("a reload", () => {
  it("finds what was kept, until that is forgotten", () => {
    const own = storage();
    open(own).write(kept);
    expect(open(own).read()).toEqual(kept);
    open(own).forget();
    expect(open(own).read()).toBeUndefined();
    expect(shared.length).toBe(0);
  });

  it("finds that another tab took over, and what that one wrote since", () => {
    const own = storage();
    open(own).write(kept);
    open(own).stepAside();
    open().write({ ...kept, open: "cake" });
    expect(open(own).read()).toEqual({ ...kept, open: "cake", elsewhere: true });
  });

  it("finds nothing old where the new did not fit", () => {
    const own = storage();
    shared = storage(200);
    open(own).write(kept);
    open(own).write({ ...kept, open: "x".repeat(200) });
    expect(open(own).read()).toBeUndefined();
  });

  it.each(["", "{", "null", "[]", '{"username":"alice"}'])("takes %j for nothing", async (text) => {
    const own = storage();
    open(own).write(kept);
    for (let index = 0; index < shared.length; index += 1) shared.setItem(shared.key(index)!, text);
    expect(open(own).read()).toBeUndefined();
    expect(await open().adopt()).toBeUndefined();
    open(own).write(kept);
    own.setItem(own.key(0)!, text);
    expect(open(own).read()).toBeUndefined();
  });

  it("does without any place", async () => {
    const tab = new Tab({ own: undefined, shared: undefined, locks: undefined, path: "/" });
    tab.write(kept);
    tab.enter("s");
    tab.stepAside();
    expect(tab.read()).toBeUndefined();
    expect(await tab.adopt("alice")).toBeUndefined();
    tab.forget();
  });
});

describe("a tab that is opened anew", () => {
  /** A tab that is in a session. */
  function live(session: Kept, own = storage()): Tab {
    const tab = open(own);
    tab.enter(session.sid);
    tab.write(session);
    return tab;
  }

  it("goes on with a session that no other tab is in", async () => {
    const first = live(kept);
    expect(await open().adopt()).toBeUndefined();
    first.letGo();
    await settled();
    expect(await open().adopt()).toEqual(kept);
    expect(await open().adopt()).toBeUndefined();
  });

  it("goes on with the one that was left last, or with the one of the name that is asked for", async () => {
    for (const session of [kept, bob]) {
      live(session).letGo();
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    const second = open();
    expect(await second.adopt()).toEqual(bob);
    second.letGo();
    await settled();
    expect(await open().adopt("alice")).toEqual(kept);
    expect(await open().adopt("carol")).toBeUndefined();
  });

  it("leaves alone what is over, very old, or another gateway's", async () => {
    live(kept).forget();
    live(bob).letGo();
    expect(await open(storage(), "/chat/").adopt()).toBeUndefined();
    const key = shared.key(0)!;
    shared.setItem(key, JSON.stringify({ ...bob, at: Date.now() - 8 * 24 * 3600 * 1000 }));
    expect(await open().adopt()).toBeUndefined();
    expect(shared.length).toBe(0);
  });

  it("without locks goes on only where the name is asked for", async () => {
    live(kept);
    const plain = new Tab({ own: storage(), shared, locks: undefined, path: "/" });
    expect(await plain.adopt()).toBeUndefined();
    expect(await plain.adopt("alice")).toEqual(kept);
  });

  it("waits for a session that another tab is in, where it took that over", async () => {
    const own = storage();
    const first = live(kept, own);
    const double = open(own);
    double.enter("s");
    first.stepAside();
    await settled();
    expect(await open().adopt()).toBeUndefined(); // the double has it
    double.letGo();
    await settled();
    expect(await open().adopt()).toEqual(kept);
  });

  it("forgets the session it was in before another one", async () => {
    const tab = live(kept);
    tab.enter("b");
    tab.write(bob);
    expect(shared.length).toBe(1);
    tab.letGo();
    await settled();
    expect(await open().adopt("alice")).toBeUndefined();
    expect(await open().adopt()).toEqual(bob);
  });
});
