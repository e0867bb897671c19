/**
 * - `out`: not logged in; the login form shows.
 * - `starting`: a new tab is looking for a session that it can resume.
 * - `joining`: the user has asked to log in.
 * - `resuming`: going back to a session from before this page.
 * - `online`, `reconnecting`: logged in, with and without a connection.
 * - `elsewhere`: another tab has taken the session over.
 */
export type Phase = "out" | "starting" | "joining" | "resuming" | "online" | "reconnecting" | "elsewhere";

/** Every legal change of phase. */
const NEXT: Record<Phase, readonly Phase[]> = {
  out: ["starting", "joining", "resuming", "elsewhere"],
  starting: ["resuming", "out"],
  joining: ["online", "elsewhere", "out"],
  resuming: ["online", "elsewhere", "out"],
  online: ["reconnecting", "elsewhere", "out"],
  reconnecting: ["online", "elsewhere", "out"],
  elsewhere: ["resuming", "out"],
};

/** Identifies a session to the gateway: a public id, and the secret that resumes it. */
export interface Identity {
  sid: string;
  pid: string;
}

/** Who we are, and the state of our connection. */
export class Session {
  #phase = $state<Phase>("out");
  #username = $state("");
  #problem = $state("");
  #identity = $state.raw<Identity>();

  get phase(): Phase {
    return this.#phase;
  }

  /** Whether we are in our rooms, with a connection or without. */
  get isInside(): boolean {
    return this.#phase === "online" || this.#phase === "reconnecting";
  }

  /** Kept after the session has ended, as a suggestion for the next login. */
  get username(): string {
    return this.#username;
  }

  /** Why we are out, as a sentence; empty if there is nothing to say. */
  get problem(): string {
    return this.#problem;
  }

  /** Of our current or most recent session, until it ends. */
  get identity(): Identity | undefined {
    return this.#identity;
  }

  /** Look for a session to resume. */
  start(): void {
    this.#change("starting");
  }

  join(username: string): void {
    this.#change("joining");
    this.#username = username;
    this.#problem = "";
  }

  /** Resume a session from before this page. */
  resume(username: string, identity: Identity): void {
    this.#change("resuming");
    this.#username = username;
    this.#identity = identity;
  }

  /** As `resume`, of a session that another tab had taken over when this page was loaded. */
  findElsewhere(username: string, identity: Identity): void {
    this.#change("elsewhere");
    this.#username = username;
    this.#identity = identity;
  }

  /** Resume the session that another tab has taken over. */
  takeBack(): void {
    this.#change("resuming");
  }

  /** The gateway has let us in; which rooms we are in follows. */
  identify(identity: Identity): void {
    this.#identity = identity;
  }

  /** Our rooms are known. */
  enter(): void {
    this.#change("online");
  }

  /** The connection was lost. Before we are in, nothing changes: the attempt goes on. */
  lose(): void {
    if (this.#phase === "online") this.#change("reconnecting");
  }

  /** Another tab has taken the session over. */
  yield(): void {
    this.#change("elsewhere");
  }

  end(problem = ""): void {
    this.#change("out");
    this.#problem = problem;
    this.#identity = undefined;
  }

  #change(next: Phase): void {
    if (next === this.#phase) return;
    if (!NEXT[this.#phase].includes(next)) throw new Error(`A session cannot go from ${this.#phase} to ${next}.`);
    this.#phase = next;
  }
}
