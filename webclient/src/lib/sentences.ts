/** What people read when something did not go as they wanted, where the gateway's own words would not do. */

import type { Failure } from "./protocol";

export const INVALID_USERNAME = "A username is 1 to 32 lower-case letters (a to z) and digits.";
export const UNREACHABLE = "The gateway cannot be reached.";
export const SESSION_OVER = "Your session ended while you were away. Join to begin another.";

/** Of a login, or of the return after a drop, that was refused. */
export function describeRefusal(username: string, failure: Failure): string {
  switch (failure.code) {
    case "username_taken":
      if (failure.retry_after === undefined) return `“${username}” is taken: somebody is logged in with that name.`;
      return `“${username}” is taken: it is reserved for another ${describeTime(failure.retry_after)}, in case that somebody comes back.`;
    case "invalid_username":
      return INVALID_USERNAME;
    case "limit_reached":
      return "The gateway is full. Try again later.";
    default:
      return failure.message;
  }
}

/** Of people who were not added, for they left not long ago; empty where there are none. */
export function describeDeclined(usernames: readonly string[] = []): string {
  if (usernames.length === 0) return "";
  const [who, were] = usernames.length === 1 ? [usernames[0], "was"] : [enumerate(usernames), "were"];
  return `${who} ${were} not added: who leaves a room is not put into it again by others for an hour.`;
}

/** "87 seconds", rounded up; minutes where seconds would say too much. */
function describeTime(seconds: number): string {
  const whole = Math.max(1, Math.ceil(seconds));
  if (whole > 180) return `${Math.ceil(whole / 60)} minutes`;
  return whole === 1 ? "second" : `${whole} seconds`;
}

/** "bob, carol and dan" */
const enumerate = (names: readonly string[]): string => `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
