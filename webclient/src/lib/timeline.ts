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

/**
 * `newFrom` is the key of the first message that was not seen, if there is one. Of the rows `before`, those that stay
 * as they were are used again, so that one new message does not draw all others anew.
 */
export function layOut(entries: readonly Entry[], newFrom: string | null, before: readonly Row[] = []): Row[] {
  const rows: Row[] = [];
  for (const entry of entries) {
    const previous = rows.at(-1);
    const key = keyOf(entry);
    const newDay = !previous || !sameDay(previous.entry.ts, entry.ts);
    const newMessages = key === newFrom;
    const goesOn = previous?.entry.from === entry.from && entry.ts - previous.entry.ts < PAUSE;
    const first = newDay || newMessages || !goesOn;
    if (previous && !first) previous.last = false;
    rows.push({ key, entry, newDay, newMessages, first, last: true });
  }
  const known = new Map(before.map((row) => [row.key, row]));
  return rows.map((row) => {
    const old = known.get(row.key);
    return old && isSame(old, row) ? old : row;
  });
}

const isSame = (one: Row, other: Row): boolean =>
  one.entry === other.entry &&
  one.newDay === other.newDay &&
  one.newMessages === other.newMessages &&
  one.first === other.first &&
  one.last === other.last;
