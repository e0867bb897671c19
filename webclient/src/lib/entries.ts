/** The messages of one room as the page shows them: those that are stored, in room order, then our unsent ones. */

import type { Message } from "./protocol";

export type Status = "sent" | "pending" | "failed";

export interface Entry {
  id: string;
  from: string;
  content: string;
  /** Unix time in milliseconds: the gateway's once sent, ours before. */
  ts: number;
  status: Status;
  /** Why it failed, in the gateway's words. */
  problem?: string;
}

const asEntry = ({ id, from, content, ts }: Message): Entry => ({ id, from, content, ts, status: "sent" });
const isSent = (entry: Entry): boolean => entry.status === "sent";
const unsent = (entries: readonly Entry[]): Entry[] => entries.filter((entry) => !isSent(entry));

/** A message that just arrived goes after all that are stored: events come in room order. Known ones change nothing. */
export function receive(entries: readonly Entry[], message: Message): Entry[] {
  const known = entries.find((entry) => entry.id === message.id);
  if (known) return isSent(known) ? [...entries] : confirm(entries, message.id, message.ts);
  return [...entries.filter(isSent), asEntry(message), ...unsent(entries)];
}

/** Our own message was stored at `ts`. It may be older than what we received meanwhile: a retry may find it stored. */
export function confirm(entries: readonly Entry[], id: string, ts: number): Entry[] {
  const entry = entries.find((candidate) => candidate.id === id);
  if (!entry) return [...entries];
  const others = entries.filter((candidate) => candidate.id !== id);
  const sent = others.filter(isSent);
  const at = sent.findLastIndex((other) => other.ts <= ts) + 1;
  const { from, content } = entry;
  return [...sent.slice(0, at), { id, from, content, ts, status: "sent" }, ...sent.slice(at), ...unsent(others)];
}

/** Put in a page of history, oldest first. What we have and the page lacks is older when it came before the page. */
export function mergePage(entries: readonly Entry[], page: readonly Message[]): Entry[] {
  const ids = new Set(page.map((message) => message.id));
  const sent = entries.filter(isSent);
  const overlap = Math.max(
    0,
    sent.findIndex((entry) => ids.has(entry.id)),
  );
  const absent = (entry: Entry): boolean => !ids.has(entry.id);
  return [
    ...sent.slice(0, overlap),
    ...page.map(asEntry),
    ...sent.slice(overlap).filter(absent),
    ...unsent(entries).filter(absent),
  ];
}
