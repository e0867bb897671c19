import { describe, expect, it } from "vitest";
import { Session } from "./session.svelte";

const identity = { sid: "s", pid: "p" };

describe("a session", () => {
  it("is joined, entered, lost, entered again, and ended with a reason", () => {
    const session = new Session();
    session.join("alice");
    expect([session.phase, session.isInside]).toEqual(["joining", false]);
    session.identify(identity);
    session.enter();
    expect([session.phase, session.isInside]).toEqual(["online", true]);
    session.lose();
    expect([session.phase, session.isInside]).toEqual(["reconnecting", true]);
    session.enter();
    session.end("No more.");
    expect(session).toMatchObject({ phase: "out", problem: "No more.", username: "alice", identity: undefined });
  });

  it("keeps trying when the connection is lost before it was entered", () => {
    const session = new Session();
    session.resume("alice", identity);
    session.lose();
    expect(session.phase).toBe("resuming");
  });

  it("moves to another tab and back", () => {
    const session = new Session();
    session.findElsewhere("alice", identity);
    session.takeBack();
    expect(session).toMatchObject({ phase: "resuming", username: "alice", identity });
    session.enter();
    session.yield();
    expect(session.phase).toBe("elsewhere");
  });

  it("refuses a change that is not in the table, and stays as it was", () => {
    const session = new Session();
    expect(() => session.enter()).toThrow("from out to online");
    session.start();
    expect(() => session.join("alice")).toThrow("from starting to joining");
    expect(session).toMatchObject({ phase: "starting", username: "" });
  });

  it("forgets the last problem when somebody joins", () => {
    const session = new Session();
    session.join("alice");
    session.end("No.");
    session.join("bob");
    expect(session.problem).toBe("");
  });
});
