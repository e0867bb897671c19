/** How the messages of a room are laid out: under their days, and together where one person goes on talking. */

import { keyOf, type Entry } from "./entries";

export interface Row {
  key: string;
  entry: Entry;
  /** It is the first of its day. */
  newDay: boolean;
  /** It is the first that was not seen when the room was opened. */
  newMessages: boolean;
  /** It begins what one person says in a row. */
  first: boolean;
  /** It ends what one person says in a row. */
  last: boolean;
}

/** Milliseconds of silence after which a person begins anew. */
const PAUSE = 5 * 60_000;

const sameDay = (a: number, b: number): boolean => new Date(a).toDateString() === new Date(b).toDateString();

/** `newFrom` is the key of the first message that was not seen, if there is one. */
export function layOut(entries: readonly Entry[], newFrom: string | null): Row[] {
  const rows: Row[] = [];
  for (const entry of entries) {
    const before = rows.at(-1);
    const key = keyOf(entry);
    const newDay = !before || !sameDay(before.entry.ts, entry.ts);
    const newMessages = key === newFrom;
    const goesOn = before?.entry.from === entry.from && entry.ts - before.entry.ts < PAUSE;
    const first = newDay || newMessages || !goesOn;
    if (before && !first) before.last = false;
    rows.push({ key, entry, newDay, newMessages, first, last: true });
  }
  return rows;
}
