/** The messages of one room as the page shows them: those that are stored, in room order, then our unsent ones. */

import type { Message } from "./protocol";

export type Status = "sent" | "pending" | "failed";

export interface Entry {
  /** Chosen by the sender: two senders may have chosen the same. */
  id: string;
  from: string;
  content: string;
  /** Unix time in milliseconds: the gateway's once sent, ours before. */
  ts: number;
  status: Status;
  /** Where the gateway keeps it; our own messages have none until they come in a page of history. */
  offset?: string;
  /** Why it failed, in the gateway's words. */
  problem?: string;
}

/** A message with the offset that came along with it. */
export type Arrival = Message & { offset?: string | undefined };

/** Names an entry among all of its room; a username holds no space. */
export const keyOf = ({ from, id }: Pick<Entry, "from" | "id">): string => `${from} ${id}`;

export const isSent = (entry: Entry): boolean => entry.status === "sent";

const unsent = (entries: readonly Entry[]): Entry[] => entries.filter((entry) => !isSent(entry));

function asEntry({ id, from, content, ts, offset }: Arrival): Entry {
  return { id, from, content, ts, status: "sent", ...(offset === undefined ? {} : { offset }) };
}

/** A message that just arrived goes after all that are stored: events come in room order. Known ones change nothing. */
export function receive(entries: readonly Entry[], message: Arrival): Entry[] {
  const key = keyOf(message);
  const known = entries.find((entry) => keyOf(entry) === key);
  if (known) return isSent(known) ? [...entries] : confirm(entries, key, message.ts);
  return [...entries.filter(isSent), asEntry(message), ...unsent(entries)];
}

/** Our own message was stored at `ts`. It may be older than what we received meanwhile: a retry may find it stored. */
export function confirm(entries: readonly Entry[], key: string, ts: number): Entry[] {
  const entry = entries.find((candidate) => keyOf(candidate) === key);
  if (!entry) return [...entries];
  const others = entries.filter((candidate) => candidate !== entry);
  const sent = others.filter(isSent);
  const at = sent.findLastIndex((other) => other.ts <= ts) + 1;
  const { id, from, content } = entry;
  return [...sent.slice(0, at), { id, from, content, ts, status: "sent" }, ...sent.slice(at), ...unsent(others)];
}

/** Put in a page of history, oldest first. What we have and the page lacks is older when it came before the page. */
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

/** No more than the `count` latest of those that are stored; the unsent ones stay. */
export function keepLatest(entries: readonly Entry[], count: number): readonly Entry[] {
  const excess = entries.filter(isSent).length - count;
  return excess > 0 ? entries.slice(excess) : entries;
}

/** What others said from the entry at `index` on. */
export function othersFrom(entries: readonly Entry[], index: number, me: string): Entry[] {
  return entries.slice(index).filter((entry) => isSent(entry) && entry.from !== me);
}
