/** What is saved in the browser of a session, so that a tab can resume it. These are the names in the stored JSON. */

import type { Entry } from "../messages/entries";

export interface SavedMessages {
  unsent: Entry[];
  /** How many messages have not been seen. */
  unread: number;
  /** The key of the first message that was not seen, if there is one. */
  newFrom: string | null;
  /** The key of the last message; empty if there was none, null if that is not known. */
  latest: string | null;
  /** When something last happened, in milliseconds. */
  activity: number;
}

export interface SavedRoom extends SavedMessages {
  name: string;
  draft: string;
}

export interface SavedRooms {
  /** The name of the open room, if there is one. */
  open: string | null;
  rooms: SavedRoom[];
}

export interface StoredSession extends SavedRooms {
  username: string;
  /** The id of the session, which is public. */
  sid: string;
  /** The secret that resumes the session. */
  pid: string;
}

export interface SavedSession extends StoredSession {
  /** Another tab took the session over: it must not be taken back unless the user asks for it. */
  elsewhere: boolean;
}
