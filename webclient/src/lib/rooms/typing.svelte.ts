import { SvelteMap } from "svelte/reactivity";

type Timer = ReturnType<typeof setTimeout>;

/** Milliseconds after the last `typing` event of a user until they no longer count as typing. */
const TIMEOUT = 5_000;

/** Who is typing in one room. */
export class Typing {
  #timers = new SvelteMap<string, Timer>();
  #names = $derived([...this.#timers.keys()]);

  get names(): readonly string[] {
    return this.#names;
  }

  start(username: string): void {
    clearTimeout(this.#timers.get(username));
    this.#timers.set(
      username,
      setTimeout(() => this.#timers.delete(username), TIMEOUT),
    );
  }

  /** Their message has arrived, or none will. */
  stop(username: string): void {
    clearTimeout(this.#timers.get(username));
    this.#timers.delete(username);
  }
}
