import { beforeEach, expect, it, vi } from "vitest";
import { ConnectionLost, Refused } from "../connection/errors";
import { Session } from "../connection/session.svelte";
import { Notice } from "../page/notice.svelte";
import { Rooms } from "../rooms/rooms.svelte";
import { info, message } from "../testing/chat";
import { HistoryLoader } from "./history";

beforeEach(() => void vi.stubGlobal("document", { hidden: false }));

function setUp(...names: string[]) {
  const [call, session, rooms, notice] = [vi.fn(), new Session(), new Rooms(), new Notice()];
  session.join("alice");
  rooms.replace(names.map((name) => info(name, "alice", "bob")));
  call.mockResolvedValue({ messages: [message("1")], more: false });
  return { call, rooms, notice, history: new HistoryLoader({ call }, session, rooms, notice) };
}

it("the latest page is fetched once, and the page before it when it is asked for", async () => {
  const { call, rooms, history } = setUp("tea");
  const tea = rooms.get("tea")!;
  call.mockResolvedValue({ messages: [{ ...message("0"), offset: "o0" }, message("1")], more: true });
  await history.loadLatest(tea);
  await history.loadLatest(tea);
  expect(call.mock.calls).toEqual([["history", { room: "tea", limit: 50 }]]);
  expect(tea.messages.entries.map((entry) => entry.id)).toEqual(["0", "1"]);
  call.mockResolvedValue({ messages: [], more: false });
  await history.loadOlder(tea);
  expect(call).toHaveBeenLastCalledWith("history", { room: "tea", limit: 50, before: "o0" });
  await history.loadOlder(tea);
  expect(call).toHaveBeenCalledTimes(2);
});

it("catching up starts with the open room", async () => {
  const { call, rooms, history } = setUp("cake", "pie", "tea");
  rooms.select("tea");
  await history.catchUp();
  expect(call.mock.calls.map(([, request]) => request.room)).toEqual(["tea", "cake", "pie"]);
});

it("what is fetched for a room that is being read has been seen", async () => {
  const { rooms, history } = setUp("tea");
  rooms.select("tea");
  rooms.get("tea")!.messages.startFresh();
  rooms.get("tea")!.messages.forget();
  await history.catchUp();
  expect(rooms.unread).toBe(0);
});

it("waits when the gateway asks to", async () => {
  const { call, rooms, notice, history } = setUp("tea");
  call.mockRejectedValueOnce(new Refused({ code: "rate_limited", message: "x", retry_after: 0.001 }));
  await history.catchUp();
  expect(rooms.get("tea")!.messages.entries).toHaveLength(1);
  expect(notice.text).toBe("");
});

it("a page that cannot be fetched leaves the room to be fetched later, and the reason is shown", async () => {
  const { call, rooms, notice, history } = setUp("tea");
  call.mockRejectedValueOnce(new Refused({ code: "unavailable", message: "Not now." }));
  await history.catchUp();
  expect([rooms.get("tea")!.messages.stale, notice.text]).toEqual([true, "Not now."]);
  notice.dismiss();
  call.mockRejectedValueOnce(new ConnectionLost());
  await history.catchUp();
  expect([rooms.get("tea")!.messages.stale, notice.text]).toEqual([true, ""]);
});
