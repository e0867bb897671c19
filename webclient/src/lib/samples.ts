/** What several tests need. */

import type { RoomInfo } from "./protocol";

/** A room of these people, all of them online; `more` says what else is so. */
export const roomInfo = (room: string, names: readonly string[] = [], more: Partial<RoomInfo> = {}): RoomInfo => ({
  room,
  kind: "group",
  history: "all",
  members: names.map((username) => ({ username, online: true })),
  member_count: names.length,
  ...more,
});

/** As `roomInfo`, of a direct room. */
export const directInfo = (room: string, me: string, user: string): RoomInfo =>
  roomInfo(room, [me, user], { kind: "direct", user });
