/**
 * The lock that a tab holds on the session it is in (Web Locks). It ends with the tab, however the tab ends, so that a
 * new tab can tell which sessions are free. Without Web Locks every session counts as free.
 */
export class SessionLock {
  #locks: Pick<LockManager, "request"> | undefined;
  #prefix: string;
  #held: { sid: string; released: AbortController } | undefined;

  constructor(locks: Pick<LockManager, "request"> | undefined, prefix: string) {
    this.#locks = locks;
    this.#prefix = prefix;
  }

  /** The session that we hold, or are waiting for. */
  get sid(): string | undefined {
    return this.#held?.sid;
  }

  /** Hold this session and no other, if no other tab does. Resolves with whether that succeeded. */
  tryAcquire(sid: string): Promise<boolean> {
    const released = new AbortController();
    return this.#request(sid, released, { ifAvailable: true });
  }

  /** Hold this session and no other, as soon as no other tab does. */
  acquire(sid: string): Promise<boolean> {
    const released = new AbortController();
    return this.#request(sid, released, { signal: released.signal });
  }

  release(): void {
    this.#held?.released.abort();
    this.#held = undefined;
  }

  #request(sid: string, released: AbortController, options: LockOptions): Promise<boolean> {
    this.release();
    this.#held = { sid, released };
    const locks = this.#locks;
    if (!locks) return Promise.resolve(true);
    // The browser keeps the lock for as long as the promise that its callback returns is pending.
    const untilReleased = new Promise<void>((resolve) => released.signal.addEventListener("abort", () => resolve()));
    return new Promise((resolve) => {
      const request = locks.request(this.#prefix + sid, options, (lock) => {
        if (lock === null) this.#held = undefined;
        resolve(lock !== null);
        return lock === null ? undefined : untilReleased;
      });
      request.catch(() => resolve(false)); // released before it was granted
    });
  }
}
