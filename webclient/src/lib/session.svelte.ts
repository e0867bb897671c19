import type { Failure } from "./protocol";

/** out → joining → online ⇄ reconnecting, and back to out from everywhere. */
export type Phase = "out" | "joining" | "online" | "reconnecting";

/** Who we are, and how the connection stands. */
export class Session {
  #phase = $state<Phase>("out");
  #username = $state("");
  #problem = $state("");

  get phase(): Phase {
    return this.#phase;
  }

  /** Kept after the end, for the next login. */
  get username(): string {
    return this.#username;
  }

  /** Why we are out, in a sentence; empty when there is nothing to say. */
  get problem(): string {
    return this.#problem;
  }

  join(username: string): void {
    this.#username = username;
    this.#problem = "";
    this.#phase = "joining";
  }

  resume(): void {
    this.#phase = "online";
  }

  lose(): void {
    if (this.#phase === "online") this.#phase = "reconnecting";
  }

  end(problem = ""): void {
    this.#phase = "out";
    this.#problem = problem;
  }
}

/** What a person reads when the login, or the return after a drop, is refused. */
export function describeRefusal(username: string, failure: Failure): string {
  switch (failure.code) {
    case "username_taken":
      return `“${username}” is taken: somebody is logged in with that name.`;
    case "invalid_username":
      return INVALID_USERNAME;
    case "limit_reached":
      return "The gateway is full. Try again later.";
    default:
      return failure.message;
  }
}

export const INVALID_USERNAME = "A username is 1 to 32 lower-case letters (a to z) and digits.";
export const UNREACHABLE = "The gateway cannot be reached.";
export const CLOSED_ELSEWHERE = "The gateway closed this session: it may go on in another tab. You can join again.";
