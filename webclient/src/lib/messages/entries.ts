/** The messages of one room as the page shows them: those that are stored, in the order of the room, then our unsent ones. */

import type { Message } from "../wire";

export type Status = "sent" | "pending" | "failed";

export interface Entry {
  /** Chosen by the author: two authors may have chosen the same. */
  id: string;
  from: string;
  content: string;
  /** Unix time in milliseconds: the gateway's once sent, ours before. */
  ts: number;
  status: Status;
  /** Its position at the gateway; our own messages have none until they come in a page of history. */
  offset?: string;
  /** Why it failed, as a sentence. */
  problem?: string;
}

/** A message with the offset that came with it. */
export type Arrival = Message & { offset?: string | undefined };

/** Identifies an entry within its room; a username contains no space. */
export const keyOf = ({ from, id }: Pick<Entry, "from" | "id">): string => `${from} ${id}`;

export const isSent = (entry: Entry): boolean => entry.status === "sent";

const unsent = (entries: readonly Entry[]): Entry[] => entries.filter((entry) => !isSent(entry));

function asEntry({ id, from, content, ts, offset }: Arrival): Entry {
  return { id, from, content, ts, status: "sent", ...(offset === undefined ? {} : { offset }) };
}

/** Add a message that has just arrived, after all stored ones: events come in room order. A known one changes nothing. */
export function receive(entries: readonly Entry[], message: Arrival): Entry[] {
  const key = keyOf(message);
  const known = entries.find((entry) => keyOf(entry) === key);
  if (known) return isSent(known) ? [...entries] : confirm(entries, key, message.ts);
  return [...entries.filter(isSent), asEntry(message), ...unsent(entries)];
}

/** Our own message was stored at `ts`, which may be before messages that we have received: a retry finds it stored. */
export function confirm(entries: readonly Entry[], key: string, ts: number): Entry[] {
  const entry = entries.find((candidate) => keyOf(candidate) === key);
  if (!entry) return [...entries];
  const others = entries.filter((candidate) => candidate !== entry);
  const sent = others.filter(isSent);
  const at = sent.findLastIndex((other) => other.ts <= ts) + 1;
  const { id, from, content } = entry;
  return [...sent.slice(0, at), { id, from, content, ts, status: "sent" }, ...sent.slice(at), ...unsent(others)];
}

/** Merge a page of history, oldest first. An entry that the page lacks keeps its side: before the page, or after it. */
export function mergePage(entries: readonly Entry[], page: readonly Arrival[]): Entry[] {
  const keys = new Set(page.map(keyOf));
  const sent = entries.filter(isSent);
  const overlap = Math.max(
    0,
    sent.findIndex((entry) => keys.has(keyOf(entry))),
  );
  const absent = (entry: Entry): boolean => !keys.has(keyOf(entry));
  return [
    ...sent.slice(0, overlap),
    ...page.map(asEntry),
    ...sent.slice(overlap).filter(absent),
    ...unsent(entries).filter(absent),
  ];
}

/** Keep only the latest `count` of the stored entries, and all unsent ones. */
export function keepLatest(entries: readonly Entry[], count: number): readonly Entry[] {
  const excess = entries.filter(isSent).length - count;
  return excess > 0 ? entries.slice(excess) : entries;
}

/** The messages of others from the entry at `index` on. */
export function othersFrom(entries: readonly Entry[], index: number, me: string): Entry[] {
  return entries.slice(index).filter((entry) => isSent(entry) && entry.from !== me);
}
