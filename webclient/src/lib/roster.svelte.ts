import type { Member, Reply } from "./protocol";
import type { Room } from "./room.svelte";

type Page = Reply<"list-members">;

/** All members of one room. Small rooms hear of every change; the list of a large one is fetched page by page. */
export class Roster {
  #room: Room;
  #fetch: (after: string) => Promise<Page | undefined>;
  #fetched = $state.raw<Member[]>([]);
  #more = $state(true);
  #busy = $state(false);

  /** `fetch` gives the page after a name, or undefined where it cannot be had. */
  constructor(room: Room, fetch: (after: string) => Promise<Page | undefined>) {
    this.#room = room;
    this.#fetch = fetch;
  }

  get members(): readonly Member[] {
    return this.#room.isPartial && this.#fetched.length > 0 ? this.#fetched : this.#room.members;
  }

  /** Whether there are members after the last one. */
  get more(): boolean {
    return this.#room.isPartial && this.#more;
  }

  get busy(): boolean {
    return this.#busy;
  }

  /** From the first page on: those of the room that we know of may stand anywhere in the list. */
  async loadMore(): Promise<void> {
    if (this.#busy || !this.more) return;
    this.#busy = true;
    const page = await this.#fetch(this.#fetched.at(-1)?.username ?? "");
    this.#busy = false;
    if (!page) return;
    this.#fetched = [...this.#fetched, ...page.members];
    this.#more = page.more;
  }
}
