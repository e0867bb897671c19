import { parseNames } from "../page/names";

/** The state of an "Add people" box: the names chosen, the text being typed, and the names suggested. */
export class People {
  #find: (prefix: string) => Promise<string[]>;
  #text = $state("");
  #chosen = $state.raw<string[]>([]);
  #found = $state.raw<string[]>([]);
  #active = $state(-1);
  #suggestions = $derived(this.#found.filter((name) => !this.#chosen.includes(name)));

  /** `find` resolves with names that start with a prefix. */
  constructor(find: (prefix: string) => Promise<string[]>) {
    this.#find = find;
  }

  get text(): string {
    return this.#text;
  }

  get chosen(): readonly string[] {
    return this.#chosen;
  }

  get suggestions(): readonly string[] {
    return this.#suggestions;
  }

  /** The index of the suggestion that the arrow keys are on; -1 if they are on none. */
  get active(): number {
    return this.#active;
  }

  /** With fewer letters the gateway finds only people we share a room with. */
  get help(): string {
    return this.#text.trim().length < 2 ? "Type at least two letters to search beyond your rooms." : "";
  }

  /** The names chosen, and those typed but not chosen yet. */
  get all(): string[] {
    return [...new Set([...this.#chosen, ...parseNames(this.#text)])];
  }

  async type(text: string): Promise<void> {
    this.#text = text;
    this.#active = -1;
    const found = await this.#find(text.trim().toLowerCase());
    if (this.#text === text) this.#found = found;
  }

  move(step: 1 | -1): void {
    const count = this.#suggestions.length;
    if (count > 0) this.#active = (this.#active + step + count + (this.#active < 0 && step < 0 ? 1 : 0)) % count;
  }

  /** Choose the suggestion that the arrow keys are on, else the text as typed. */
  choose(name = this.#suggestions[this.#active]): void {
    const names = name === undefined ? parseNames(this.#text) : [name];
    this.#chosen = [...new Set([...this.#chosen, ...names])];
    this.close();
    this.#text = "";
  }

  /** As `choose`, but if the arrow keys are on no suggestion, the first one that completes the text is chosen. */
  complete(): void {
    const first = this.#suggestions[0];
    const typed = this.#text.trim().toLowerCase();
    this.choose(this.#active < 0 && first?.startsWith(typed) ? first : undefined);
  }

  drop(name: string): void {
    this.#chosen = this.#chosen.filter((other) => other !== name);
  }

  dropLast(): void {
    this.#chosen = this.#chosen.slice(0, -1);
  }

  close(): void {
    this.#found = [];
    this.#active = -1;
  }
}
