import { parseNames } from "./names";

/** What is picked in an "Add people" box: names chosen, the text being typed, and names to choose from. */
export class People {
  #find: (prefix: string) => Promise<string[]>;
  #text = $state("");
  #chosen = $state.raw<string[]>([]);
  #found = $state.raw<string[]>([]);
  #active = $state(-1);
  #suggestions = $derived(this.#found.filter((name) => !this.#chosen.includes(name)));

  /** `find` gives the names that start with a prefix. */
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

  /** Which suggestion the arrow keys stand on; -1 for none. */
  get active(): number {
    return this.#active;
  }

  /** Fewer letters find only people whom we share a room with. */
  get help(): string {
    return this.#text.trim().length < 2 ? "Type two letters to find people you share no room with." : "";
  }

  /** The chosen names, and what is typed and not yet chosen. */
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

  /** Choose the suggestion the arrow keys stand on, else what is typed. */
  choose(name = this.#suggestions[this.#active]): void {
    const names = name === undefined ? parseNames(this.#text) : [name];
    this.#chosen = [...new Set([...this.#chosen, ...names])];
    this.close();
    this.#text = "";
  }

  /** As `choose`; where the arrow keys stand on none, the first suggestion completes what is typed. */
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
