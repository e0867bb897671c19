import type { Member, RoomInfo } from "../wire";

/** The members of one room, ordered by name. Of a large room the gateway names only a few. */
export class Members {
  #list = $state.raw<readonly Member[]>([]);
  #count = $state(0);

  /** The members we know of. */
  get list(): readonly Member[] {
    return this.#list;
  }

  /** How many members there are, known or not. */
  get count(): number {
    return this.#count;
  }

  /** Whether there are members we do not know of. */
  get isPartial(): boolean {
    return this.#count > this.#list.length;
  }

  get usernames(): string[] {
    return this.#list.map((member) => member.username);
  }

  find(username: string | undefined): Member | undefined {
    return this.#list.find((member) => member.username === username);
  }

  refresh({ members, member_count }: Pick<RoomInfo, "members" | "member_count">): void {
    this.#list = members;
    this.#count = member_count;
  }

  /** These are all of them. */
  set(members: readonly Member[]): void {
    this.#list = members;
    this.#count = members.length;
  }

  add(username: string): void {
    if (this.find(username)) return;
    this.#list = [...this.#list, { username, online: true }].sort((a, b) => (a.username < b.username ? -1 : 1));
    this.#count += 1;
  }

  remove(username: string): void {
    const others = this.#list.filter((member) => member.username !== username);
    this.#count = this.isPartial ? this.#count - 1 : others.length;
    this.#list = others;
  }

  setPresence(username: string, online: boolean): void {
    this.#list = this.#list.map((member) => (member.username === username ? { username, online } : member));
  }
}
