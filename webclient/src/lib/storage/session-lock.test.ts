import { describe, expect, it } from "vitest";
import { settled } from "../testing/chat";
import { FakeLocks } from "../testing/storage";
import { SessionLock } from "./session-lock";

function setUp() {
  const locks = new FakeLocks();
  return [new SessionLock(locks, "chat "), new SessionLock(locks, "chat ")] as const;
}

describe("SessionLock", () => {
  it("is held by one tab at a time, until that releases it", async () => {
    const [one, two] = setUp();
    expect(await one.tryAcquire("s")).toBe(true);
    expect(await two.tryAcquire("s")).toBe(false);
    expect([one.sid, two.sid]).toEqual(["s", undefined]);
    one.release();
    await settled();
    expect(await two.tryAcquire("s")).toBe(true);
  });

  it("can be waited for", async () => {
    const [one, two] = setUp();
    await one.acquire("s");
    const waiting = two.acquire("s");
    expect(two.sid).toBe("s");
    one.release();
    expect(await waiting).toBe(true);
    expect(await one.tryAcquire("s")).toBe(false);
  });

  it("is of one session: acquiring another releases the first", async () => {
    const [one, two] = setUp();
    await one.acquire("s");
    await one.acquire("t");
    expect(await two.tryAcquire("s")).toBe(true);
  });

  it("is not granted after the wait was given up", async () => {
    const [one, two] = setUp();
    await one.acquire("s");
    const waiting = two.acquire("s");
    two.release();
    one.release();
    expect(await waiting).toBe(false);
    await settled();
    expect(await one.tryAcquire("s")).toBe(true);
  });

  it("counts as free where the browser has no locks", async () => {
    const lock = new SessionLock(undefined, "chat ");
    expect(await lock.tryAcquire("s")).toBe(true);
    expect(lock.sid).toBe("s");
    lock.release();
    expect(lock.sid).toBeUndefined();
  });
});
