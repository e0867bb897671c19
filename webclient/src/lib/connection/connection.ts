import type { Notice } from "../page/notice.svelte";
import { describeUnsent, SESSION_LOST, SESSION_OVER, UNREACHABLE } from "../page/sentences";
import type { Failure } from "../wire";
import type { Rooms } from "../rooms/rooms.svelte";
import type { Persistence } from "../storage/persistence.svelte";
import type { SavedSession } from "../storage/saved";
import { isTemporary } from "./errors";
import type { Gateway } from "./gateway";
import type { Identity, Session } from "./session.svelte";

interface Parts {
  gateway: Pick<Gateway, "open" | "close">;
  session: Session;
  rooms: Rooms;
  persistence: Persistence;
  notice: Notice;
}

/** Logs in, resumes and logs out, and follows what happens to the connection in between. */
export class Connection {
  #parts: Parts;
  /** The session was found in this browser: it may be resumed, but nobody has asked for a new one. */
  #isAdopted = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  // --- what the user wants

  /** Go back to the session that this tab was in before a reload, else to one whose tab is gone. */
  async resume(): Promise<void> {
    const { session, persistence } = this.#parts;
    const saved = persistence.load();
    if (saved) return this.#resume(saved);
    session.start();
    const adopted = await persistence.adopt();
    if (!adopted) return session.end();
    this.#isAdopted = true;
    this.#resume(adopted);
  }

  /** Log in. If a session of this browser holds the name, that session is resumed. */
  async join(username: string): Promise<void> {
    const { gateway, session, persistence } = this.#parts;
    session.join(username);
    const adopted = await persistence.adopt(username);
    gateway.open({ username, pid: adopted?.pid, keepTrying: false });
  }

  /** Resume the session that another tab has taken over. */
  takeBack(): void {
    const { gateway, session } = this.#parts;
    session.takeBack();
    gateway.open({ username: session.username, pid: session.identity?.pid, keepTrying: true });
  }

  logOut(): void {
    const { gateway, session, persistence } = this.#parts;
    gateway.close();
    if (session.phase === "elsewhere") persistence.leave();
    else persistence.forget();
    this.#end();
  }

  // --- what happens to the connection

  /** The gateway has let us in. Returns false if that was not wanted, and the connection has been closed again. */
  connected(identity: Identity): boolean {
    const { session, persistence } = this.#parts;
    if (persistence.hasLost(identity)) {
      if (this.#isAdopted) {
        this.#endAdopted();
        return false;
      }
      this.#loseRooms();
    }
    this.#isAdopted = false;
    session.identify(identity);
    persistence.enter(identity);
    return true;
  }

  lost(): void {
    const { gateway, session, persistence } = this.#parts;
    if (session.phase !== "joining") return session.lose();
    gateway.close();
    persistence.leave();
    this.#end(UNREACHABLE);
  }

  refused(failure: Failure): void {
    const { persistence } = this.#parts;
    const problem = `${failure.message} ${describeUnsent(persistence.unsent)}`;
    if (isTemporary(failure)) persistence.leave();
    else persistence.forget();
    this.#end(problem);
  }

  takenOver(): void {
    this.#parts.session.yield();
  }

  #resume({ username, sid, pid, elsewhere }: SavedSession): void {
    const { gateway, session } = this.#parts;
    if (elsewhere) return session.findElsewhere(username, { sid, pid });
    session.resume(username, { sid, pid });
    gateway.open({ username, pid, keepTrying: true });
  }

  /** The session we had is over, and this is a new one. Somebody who has just joined has not been away. */
  #loseRooms(): void {
    const { session, rooms, persistence, notice } = this.#parts;
    const reason = session.phase === "joining" ? "" : SESSION_LOST;
    notice.show(`${reason} ${describeUnsent(persistence.unsent)}`);
    persistence.discard();
    rooms.clear();
  }

  /** The session that was found in this browser is over. This is a new one, which nobody has asked for. */
  #endAdopted(): void {
    const { gateway, persistence } = this.#parts;
    const problem = `${SESSION_OVER} ${describeUnsent(persistence.unsent)}`;
    gateway.close();
    persistence.forget();
    this.#end(problem);
  }

  #end(problem = ""): void {
    const { session, rooms, notice } = this.#parts;
    session.end(problem.trim());
    rooms.clear();
    notice.dismiss();
    this.#isAdopted = false;
  }
}
