import type { Member, Reply } from "../wire";
import type { Members } from "./members.svelte";

type Page = Reply<"list-members">;

/** The list of all members of one room. If the room does not know them all, they are fetched page by page. */
export class Roster {
  #members: Members;
  #fetch: (after: string) => Promise<Page | undefined>;
  #fetched = $state.raw<Member[]>([]);
  #more = $state(true);
  #busy = $state(false);

  /** `fetch` resolves with the page after a name, or with undefined if it could not be fetched. */
  constructor(members: Members, fetch: (after: string) => Promise<Page | undefined>) {
    this.#members = members;
    this.#fetch = fetch;
  }

  get members(): readonly Member[] {
    return this.#members.isPartial && this.#fetched.length > 0 ? this.#fetched : this.#members.list;
  }

  /** Whether there are members after the last one. */
  get more(): boolean {
    return this.#members.isPartial && this.#more;
  }

  get busy(): boolean {
    return this.#busy;
  }

  /** Starts from the first page: the members that the room knows may be anywhere in the list. */
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
