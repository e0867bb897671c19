import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { ConnectionLost } from "../connection/errors";
import { Session } from "../connection/session.svelte";
import { info } from "../testing/chat";
import { Room } from "./room.svelte";
import { TypingSignal } from "./typing-signal";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function setUp() {
  const [call, session] = [vi.fn(async () => ({})), new Session()];
  session.join("alice");
  session.enter();
  return { call, session, signal: new TypingSignal({ call } as never, session) };
}
const tea = (): Room => new Room(info("tea", "alice", "bob"), 0);

it("is sent every few seconds, however much is typed", () => {
  const { call, signal } = setUp();
  for (let times = 0; times < 5; times += 1) signal.send(tea());
  expect(call.mock.calls).toEqual([["typing", { room: "tea" }]]);
  vi.advanceTimersByTime(3_000);
  signal.send(tea());
  expect(call).toHaveBeenCalledTimes(2);
});

it("is sent at once for the next message", () => {
  const { call, signal } = setUp();
  signal.send(tea());
  signal.reset();
  signal.send(tea());
  expect(call).toHaveBeenCalledTimes(2);
});

it("is not sent to an empty room, or without a connection", () => {
  const { call, session, signal } = setUp();
  signal.send(new Room(info("alone", "alice"), 0));
  session.lose();
  signal.send(tea());
  expect(call).not.toHaveBeenCalled();
});

it("may be lost", async () => {
  const { call, signal } = setUp();
  call.mockRejectedValueOnce(new ConnectionLost());
  signal.send(tea());
  await vi.advanceTimersByTimeAsync(0);
});
