/** How the messages of a room are laid out: by day, and in runs of messages that one person writes in a row. */

import { keyOf, type Entry } from "./entries";

export interface Row {
  key: string;
  entry: Entry;
  /** Whether it is the first of its day. */
  newDay: boolean;
  /** Whether it is the first new message. */
  newMessages: boolean;
  /** Whether it is the first of its run. */
  first: boolean;
  /** Whether it is the last of its run. */
  last: boolean;
}

/** Milliseconds of silence that end a run. */
const PAUSE = 5 * 60_000;

const sameDay = (a: number, b: number): boolean => new Date(a).toDateString() === new Date(b).toDateString();

/**
 * `newFrom` is the key of the first new message, if there is one. Rows of `before` that have not changed are reused, so
 * that one new message does not make Svelte render all the others again.
 */
export function layOut(entries: readonly Entry[], newFrom: string | null, before: readonly Row[] = []): Row[] {
  const rows: Row[] = [];
  for (const entry of entries) {
    const previous = rows.at(-1);
    const key = keyOf(entry);
    const newDay = !previous || !sameDay(previous.entry.ts, entry.ts);
    const newMessages = key === newFrom;
    const continues = previous?.entry.from === entry.from && entry.ts - previous.entry.ts < PAUSE;
    const first = newDay || newMessages || !continues;
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
