/** The members of one room, in order of name. */

import type { Member } from "./protocol";

export function withMember(members: readonly Member[], username: string): Member[] {
  const others = members.filter((member) => member.username !== username);
  return [...others, { username, online: true }].sort((a, b) => (a.username < b.username ? -1 : 1));
}

export const withoutMember = (members: readonly Member[], username: string): Member[] =>
  members.filter((member) => member.username !== username);

export const withPresence = (members: readonly Member[], username: string, online: boolean): Member[] =>
  members.map((member) => (member.username === username ? { username, online } : member));

const countOnline = (members: readonly Member[]): number => members.filter((member) => member.online).length;

/** "3 members, 2 online"; of a large room the gateway does not say who is online. */
export function countMembers(members: readonly Member[], count: number): string {
  const all = count === 1 ? "1 member" : `${count} members`;
  return count > members.length ? all : `${all}, ${countOnline(members)} online`;
}

/** "bob, carol, you · 2 online" */
export function describeMembers(members: readonly Member[], count: number, me: string): string {
  const names = summary(members, count, me);
  return count === 1 || count > members.length ? names : `${names} · ${countOnline(members)} online`;
}

/** "online", of the other in a direct room. */
export function describePartner(username: string, online: boolean | undefined): string {
  if (online === undefined) return `${username} has left`;
  return online ? "online" : "offline";
}

/** Names in the order of interest: the reader last, as "you", and how many there are beyond `shown`. */
export function summary(members: readonly Member[], count: number, me: string, shown = 4): string {
  const others = members.map((member) => member.username).filter((name) => name !== me);
  if (others.length === 0 && count <= 1) return "Only you";
  const names = others.slice(0, shown);
  const hidden = count - names.length - 1;
  return [...names, ...(hidden > 0 ? [`${hidden} more`] : []), "you"].join(", ");
}
