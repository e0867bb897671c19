/**
 * Sentences of the page that depend on data. They say what the gateway has no sentence for: where it sends one, in the
 * `message` of an error, the page shows that.
 */

import type { Member } from "../wire";

export const UNREACHABLE = "The gateway cannot be reached.";
export const SESSION_OVER = "Your session ended while you were away. Join to start a new one.";
export const SESSION_LOST = "Your session ended while you were away, so you are no longer in your rooms.";

/** "2 messages were not sent."; empty if all were. */
export function describeUnsent(count: number): string {
  if (count === 0) return "";
  return count === 1 ? "A message was not sent." : `${count} messages were not sent.`;
}

/** Of people whom the gateway did not add because they had left not long before. */
export function describeDeclined(usernames: readonly string[]): string {
  const were = usernames.length === 1 ? "was" : "were";
  return `${enumerate(usernames)} ${were} not added: anyone who leaves a room cannot be added back to it for an hour.`;
}

/** "bob is typing"; empty if nobody is. */
export function describeTyping(usernames: readonly string[]): string {
  if (usernames.length === 0) return "";
  if (usernames.length > 2) return `${usernames.length} people are typing`;
  return `${enumerate(usernames)} ${usernames.length === 1 ? "is" : "are"} typing`;
}

/** "3 members, 2 online"; of a large room the gateway does not say who is online. */
export function countMembers(members: readonly Member[], count: number): string {
  const all = count === 1 ? "1 member" : `${count} members`;
  return count > members.length ? all : `${all}, ${countOnline(members)} online`;
}

/** "bob, carol, you · 2 online" */
export function describeMembers(members: readonly Member[], count: number, me: string): string {
  const names = listNames(members, count, me);
  return count === 1 || count > members.length ? names : `${names} · ${countOnline(members)} online`;
}

/** Of the partner in a direct room, who is undefined as a member after leaving. */
export function describePartner(username: string, online: boolean | undefined): string {
  if (online === undefined) return `${username} has left`;
  return online ? "online" : "offline";
}

/** "bob, carol, 3 more, you": at most `shown` names, then how many others there are, then the reader. */
export function listNames(members: readonly Member[], count: number, me: string, shown = 4): string {
  const others = members.map((member) => member.username).filter((name) => name !== me);
  if (others.length === 0 && count <= 1) return "Only you";
  const names = others.slice(0, shown);
  const hidden = count - names.length - 1;
  return [...names, ...(hidden > 0 ? [`${hidden} more`] : []), "you"].join(", ");
}

const countOnline = (members: readonly Member[]): number => members.filter((member) => member.online).length;

/** "bob, carol and dan" */
function enumerate(names: readonly string[]): string {
  const last = names.at(-1) ?? "";
  return names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${last}` : last;
}
