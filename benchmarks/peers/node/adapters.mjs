// The adapters that Socket.IO offers for several nodes on one Redis server, with their default options.
export const adapters = {
  async redis(load, url) {
    const [publisher, subscriber] = await connect(load, url, 2);
    return { adapter: load("@socket.io/redis-adapter").createAdapter(publisher, subscriber) };
  },
  async sharded(load, url) {
    const [publisher, subscriber] = await connect(load, url, 2);
    return { adapter: load("@socket.io/redis-adapter").createShardedAdapter(publisher, subscriber) };
  },
  // The only one with which clients can recover what they have missed.
  async streams(load, url) {
    const [client] = await connect(load, url, 1);
    return { adapter: load("@socket.io/redis-streams-adapter").createAdapter(client), connectionStateRecovery: {} };
  },
};

function connect(load, url, count) {
  const { createClient } = load("redis");
  return Promise.all(Array.from({ length: count }, () => createClient({ url }).connect()));
}
