/**
 * out → joining → online ⇄ reconnecting. After a reload: resuming → online. A tab that is opened anew is starting, until
 * it knows whether it goes on with a session (resuming) or not (out). Another tab may take the session over: elsewhere,
 * and from there back by resuming. To out from everywhere.
 */
export type Phase = "out" | "starting" | "joining" | "resuming" | "online" | "reconnecting" | "elsewhere";

/** What names a session to the gateway, publicly and in secret. */
export interface Identity {
  sid: string;
  pid: string;
}

/** Who we are, and how the connection stands. */
export class Session {
  #phase = $state<Phase>("out");
  #username = $state("");
  #problem = $state("");
  #identity = $state.raw<Identity>();

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

  /** Of the last session we had, until it ended. */
  get identity(): Identity | undefined {
    return this.#identity;
  }

  begin(): void {
    this.#phase = "starting";
  }

  join(username: string): void {
    this.#username = username;
    this.#problem = "";
    this.#phase = "joining";
  }

  /** There was a session before this page; it may have gone on elsewhere since. */
  remember(username: string, identity: Identity, elsewhere: boolean): void {
    this.#username = username;
    this.#identity = identity;
    this.#phase = elsewhere ? "elsewhere" : "resuming";
  }

  takeBack(): void {
    this.#phase = "resuming";
  }

  /** The gateway let us in; what we are in, it says next. */
  enter(identity: Identity): void {
    this.#identity = identity;
  }

  start(): void {
    this.#phase = "online";
  }

  lose(): void {
    if (this.#phase === "online") this.#phase = "reconnecting";
  }

  lendOut(): void {
    this.#phase = "elsewhere";
  }

  end(problem = ""): void {
    this.#phase = "out";
    this.#problem = problem;
    this.#identity = undefined;
  }
}
