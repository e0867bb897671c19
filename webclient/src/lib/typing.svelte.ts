import { SvelteMap } from "svelte/reactivity";

type Timer = ReturnType<typeof setTimeout>;

/** Milliseconds: how often we say that we type, and how long it is believed of others. */
export const SAY_EVERY = 3_000;
const BELIEVED_FOR = 5_000;

/** Who types in one room. */
export class Typing {
  #timers = new SvelteMap<string, Timer>();
  #names = $derived([...this.#timers.keys()]);

  get names(): readonly string[] {
    return this.#names;
  }

  hear(username: string): void {
    clearTimeout(this.#timers.get(username));
    this.#timers.set(
      username,
      setTimeout(() => this.#timers.delete(username), BELIEVED_FOR),
    );
  }

  /** What was typed has arrived, or will not. */
  stop(username: string): void {
    clearTimeout(this.#timers.get(username));
    this.#timers.delete(username);
  }
}

/** "bob is typing" */
export function describeTyping(names: readonly string[]): string {
  const [one, two] = names;
  if (one === undefined) return "";
  if (two === undefined) return `${one} is typing`;
  return names.length === 2 ? `${one} and ${two} are typing` : `${names.length} people are typing`;
}
