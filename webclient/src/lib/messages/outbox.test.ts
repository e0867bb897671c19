import { expect, it, vi } from "vitest";
import { ConnectionLost, Refused } from "../connection/errors";
import { Session } from "../connection/session.svelte";
import { Room } from "../rooms/room.svelte";
import { info, settled } from "../testing/chat";
import { Outbox } from "./outbox";

function setUp() {
  const [call, session, room] = [vi.fn(), new Session(), new Room(info("tea", "alice"), 0)];
  session.join("alice");
  call.mockResolvedValue({ id: "x", ts: 42 });
  const statuses = () => room.messages.entries.map((entry) => entry.status);
  return { call, room, statuses, outbox: new Outbox({ call }, session) };
}

it("a message is pending until its ack, then has the gateway's time", async () => {
  const { room, outbox } = setUp();
  outbox.send(room, "hello");
  expect(room.messages.last).toMatchObject({ status: "pending", content: "hello", from: "alice" });
  await settled();
  expect(room.messages.last).toMatchObject({ status: "sent", ts: 42 });
});

it("a message that is refused fails with the gateway's sentence; a retry sends it with the same id", async () => {
  const { call, room, outbox } = setUp();
  call.mockRejectedValueOnce(new Refused({ code: "unavailable", message: "Try again." }));
  outbox.send(room, "hello");
  await settled();
  expect(room.messages.last).toMatchObject({ status: "failed", problem: "Try again." });
  outbox.retry(room, room.messages.last!);
  expect(room.messages.last).toMatchObject({ status: "pending" });
  await settled();
  expect(room.messages.last).toMatchObject({ status: "sent" });
  expect(call.mock.calls[1]).toEqual(call.mock.calls[0]);
});

it("messages wait for the connection, and are then sent in order, with the same ids", async () => {
  const { call, room, statuses, outbox } = setUp();
  call.mockRejectedValue(new ConnectionLost());
  outbox.send(room, "one");
  outbox.send(room, "two");
  await settled();
  expect(statuses()).toEqual(["pending", "pending"]);
  const first = call.mock.calls;
  call.mockReset().mockResolvedValue({ id: "x", ts: 42 });
  outbox.flush([room]);
  expect(call.mock.calls).toEqual(first);
  await settled();
  expect(statuses()).toEqual(["sent", "sent"]);
});

it("a flush sends neither what is on its way nor what has failed", async () => {
  const { call, room, outbox } = setUp();
  call.mockRejectedValueOnce(new Refused({ code: "too_large", message: "x" }));
  outbox.send(room, "failed");
  await settled();
  outbox.send(room, "in flight");
  outbox.flush([room]);
  expect(call).toHaveBeenCalledTimes(2);
});
