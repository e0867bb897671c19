import type { Caller } from "../connection/gateway";
import type { Session } from "../connection/session.svelte";
import type { Notice } from "../page/notice.svelte";
import type { Reply } from "../wire";
import type { Room } from "./room.svelte";

/** The gateway's own limit of a page of names. */
const MAX_PAGE = 100;
const MAX_SUGGESTIONS = 8;

/** Looks up people: those who are online, and the members of a room. */
export class Directory {
  #gateway: Caller;
  #session: Session;
  #notice: Notice;

  constructor(gateway: Caller, session: Session, notice: Notice) {
    this.#gateway = gateway;
    this.#session = session;
    this.#notice = notice;
  }

  /**
   * A few people who are online and whose names start with `prefix`, without us and without `known`; nobody if they
   * cannot be fetched. For a prefix of less than two letters the gateway names only people we share a room with.
   */
  async findUsers(prefix: string, known: readonly string[] = []): Promise<string[]> {
    const excluded = new Set([...known, this.#session.username]);
    try {
      const limit = Math.min(MAX_SUGGESTIONS + excluded.size, MAX_PAGE);
      const { users } = await this.#gateway.call("find-users", { prefix, limit });
      return users.filter((name) => !excluded.has(name)).slice(0, MAX_SUGGESTIONS);
    } catch {
      return [];
    }
  }

  /**
   * Fetch all members of a room of which the gateway has named only a few. Not of a very large one, whose members'
   * coming and going it does not publish.
   */
  async completeMembers(room: Room): Promise<void> {
    if (!room.members.isPartial || room.members.count > MAX_PAGE) return;
    try {
      const { members, more } = await this.#gateway.call("list-members", { room: room.name });
      if (!more) room.members.set(members);
    } catch {
      // Then the page does not show how many are online.
    }
  }

  /** A page of members, those after a name. Undefined, and a notice, if it cannot be fetched. */
  async listMembers(room: Room, after: string): Promise<Reply<"list-members"> | undefined> {
    return this.#notice.attempt(() => this.#gateway.call("list-members", { room: room.name, after }));
  }
}
