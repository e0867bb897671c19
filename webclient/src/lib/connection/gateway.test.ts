import { io } from "socket.io-client";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ConnectionLost, Refused, ReplyTimeout } from "./errors";
import { Gateway, type Login } from "./gateway";

vi.mock("socket.io-client", () => ({ io: vi.fn() }));

/** A socket of which the test says what happens to it. */
class FakeSocket {
  connected = false;
  recovered = false;
  /** Whether the stock client tries again on its own. */
  active = true;
  id: string | undefined;
  _pid: string | undefined;
  handlers = new Map<string, (...parameters: unknown[]) => void>();
  emitWithAck = vi.fn();
  connect = vi.fn();
  disconnect = vi.fn();
  on = (name: string, handler: () => void) => this.handlers.set(name, handler);
  onAny = (handler: () => void) => this.handlers.set("any", handler);
  timeout = () => this;
  offAny = () => this;

  off() {
    this.handlers.clear();
    return this;
  }

  fire(name: string, ...parameters: unknown[]): void {
    this.handlers.get(name)?.(...parameters);
  }

  accept(pid = "p"): void {
    Object.assign(this, { connected: true, id: "s", _pid: pid });
    this.fire("connect");
  }

  refuse(code?: string): void {
    this.active = false;
    this.fire("connect_error", Object.assign(new Error("No."), code === undefined ? {} : { data: { code } }));
  }
}

const listener = { event: vi.fn(), connected: vi.fn(), lost: vi.fn(), refused: vi.fn(), takenOver: vi.fn() };

function open(login: Partial<Login> = {}) {
  const socket = new FakeSocket();
  vi.mocked(io).mockReturnValue(socket as never);
  const gateway = new Gateway(listener);
  gateway.open({ username: "alice", keepTrying: false, ...login });
  return { gateway, socket };
}

/** What the stock client would send to log in. */
function credentials(): unknown {
  const give = vi.fn();
  const options = vi.mocked(io).mock.lastCall![0] as unknown as { auth: (give: unknown) => void };
  options.auth(give);
  return give.mock.lastCall![0];
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("document", { baseURI: "https://a.example/chat/" });
});
afterEach(() => {
  vi.clearAllMocks();
  vi.useRealTimers();
});

describe("logging in", () => {
  it("is under the path of the page, with the name, and with the pid of an earlier session", () => {
    open({ pid: "p1" });
    expect(vi.mocked(io).mock.lastCall![0]).toMatchObject({ path: "/chat/socket.io" });
    expect(credentials()).toEqual({ username: "alice", pid: "p1" });
    open();
    expect(credentials()).toEqual({ username: "alice" });
  });

  it("leaves the pid to the stock client once that has one", () => {
    const { socket } = open({ pid: "p1" });
    socket.accept("p2");
    expect(listener.connected).toHaveBeenCalledWith(false, { sid: "s", pid: "p2" });
    expect(credentials()).toEqual({ username: "alice" });
  });

  it("ends with a refusal, in the gateway's words", () => {
    const { socket } = open();
    socket.refuse("username_taken");
    expect(listener.refused).toHaveBeenCalledWith({ code: "username_taken", message: "No." });
    expect(socket.disconnect).toHaveBeenCalled();
  });

  it("goes on while the stock client keeps trying", () => {
    const { socket } = open();
    socket.fire("connect_error", new Error("timeout"));
    expect(listener.lost).toHaveBeenCalled();
    expect(listener.refused).not.toHaveBeenCalled();
  });

  it("ends with a temporary refusal, unless it is to keep trying or was successful before", () => {
    open().socket.refuse("limit_reached");
    expect(listener.refused).toHaveBeenCalledTimes(1);
    const before = open();
    before.socket.accept();
    for (const { socket } of [open({ keepTrying: true }), before]) {
      socket.refuse("unavailable");
      vi.advanceTimersByTime(2_000);
      expect(socket.connect).toHaveBeenCalledTimes(1);
    }
    expect(listener.lost).toHaveBeenCalledTimes(2);
    expect(listener.refused).toHaveBeenCalledTimes(1);
  });

  it("is not tried again after it was closed", () => {
    const { gateway, socket } = open({ keepTrying: true });
    socket.refuse("unavailable");
    gateway.close();
    vi.advanceTimersByTime(10_000);
    expect(socket.connect).not.toHaveBeenCalled();
  });
});

describe("a connection", () => {
  it("passes events on, with their offsets", () => {
    const { socket } = open();
    socket.accept();
    socket.fire("any", "typing", { room: "tea", username: "bob" }, "o1");
    expect(listener.event).toHaveBeenCalledWith("typing", { room: "tea", username: "bob" }, "o1");
  });

  it("that the gateway ends was taken over; one that drops was lost", () => {
    const { socket } = open();
    socket.accept();
    socket.fire("disconnect");
    expect(listener.lost).toHaveBeenCalledTimes(1);
    socket.active = false;
    socket.fire("disconnect");
    expect(listener.takenOver).toHaveBeenCalledTimes(1);
    expect(listener.lost).toHaveBeenCalledTimes(1);
  });

  it("replaces the one before it, of which nothing is heard any more", () => {
    const { gateway, socket } = open();
    vi.mocked(io).mockReturnValue(new FakeSocket() as never);
    gateway.open({ username: "bob", keepTrying: false });
    expect(socket.disconnect).toHaveBeenCalled();
    socket.accept();
    expect(listener.connected).not.toHaveBeenCalled();
  });
});

describe("a request", () => {
  const leave = (gateway: Gateway) => gateway.call("leave-room", { room: "tea" });

  it("resolves with the reply, or rejects with the gateway's sentence", async () => {
    const { gateway, socket } = open();
    socket.accept();
    socket.emitWithAck.mockResolvedValueOnce({ ok: true });
    await expect(leave(gateway)).resolves.toEqual({ ok: true });
    expect(socket.emitWithAck).toHaveBeenCalledWith("leave-room", { room: "tea" });
    const error = { code: "unavailable", message: "Not now." };
    socket.emitWithAck.mockResolvedValueOnce({ ok: false, error });
    const refusal = await leave(gateway).catch((reason: Refused) => reason);
    expect(refusal).toBeInstanceOf(Refused);
    expect(refusal).toMatchObject({ message: "Not now.", failure: error });
  });

  it("tells a reply that is late from a connection that is lost", async () => {
    const { gateway, socket } = open();
    await expect(leave(gateway)).rejects.toBeInstanceOf(ConnectionLost);
    socket.accept();
    socket.emitWithAck.mockRejectedValueOnce(new Error("operation has timed out"));
    await expect(leave(gateway)).rejects.toBeInstanceOf(ReplyTimeout);
    socket.emitWithAck.mockImplementationOnce(async () => {
      socket.connected = false;
      throw new Error("socket has been disconnected");
    });
    await expect(leave(gateway)).rejects.toBeInstanceOf(ConnectionLost);
  });
});
