/* The load generator: many WebSocket clients in one thread, cheap enough not to be what is measured.
 *
 *     load socketio|plain PORT[,PORT...] PID[,PID...]
 *
 * connects to the servers at 127.0.0.1:PORT, to each in turn, and reads the CPU time of the processes PID (all threads). It
 * takes commands on stdin, one a line, and replies to each with one line of JSON on stdout:
 *
 *     connect TOTAL PARALLEL PROBE           log in until there are TOTAL connections, PARALLEL at a time
 *     rooms COUNT MEMBERS                    put the first COUNT x MEMBERS connections into rooms of their own
 *     run SENDERS WINDOW BYTES SECONDS RATE PROBE
 *                                            SENDERS members of each room send in turn, WINDOW messages in flight,
 *                                            RATE a second in all (0: each as soon as an earlier one has arrived)
 *     idle SECONDS                           do nothing but reply to heartbeats
 *
 * Every PROBE ms (0: never) a WebSocket ping measures the lag of the server. A connection that was there before, the
 * first one, sends it.
 *
 * A message is in flight until its sender has the ack and every other member of the room has the message. Each
 * carries its sender and a number that counts up; each member must see each sender's numbers one by one. Whatever
 * else happens (a gap, a duplicate, a wrong length, an error, a closed connection) is one line {"error": ...} and
 * exit status 1: the figures of a broken server are never printed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_DEPTH = 16, MAX_SERVERS = 16, READ_SIZE = 1 << 20, BATCH = 1024, MARK = 18 };
static const double PATIENCE = 60; /* seconds without a byte after which the server is taken for dead */

enum state { NEW, CONNECTING, UPGRADING, JOINING, READY };

struct flight {
    double sent;
    uint32_t missing; /* members who do not have it yet */
    bool acked;
};

struct conn {
    int fd;
    enum state state;
    uint32_t index, room, place; /* its room, and which of the members it is */
    uint32_t next_number;        /* of its next message */
    uint32_t in_flight;
    struct flight flights[MAX_DEPTH];
    char *rest; /* the beginning of a frame whose end has not come yet */
    size_t rest_size;
    char *unsent;
    size_t unsent_size;
};

static struct conn *conns;
static uint32_t conn_count, ready_count;
static int epoll_fd;
static bool plain, has_welcome;
static int ports[MAX_SERVERS], port_count;
static clockid_t clocks[MAX_SERVERS]; /* of the processes whose CPU time is read */
static int clock_count;
static char *read_buffer;
static double last_heard;
static bool stdin_ready;

/* What `rooms` has made, and the requests of it that are under way. */
static uint32_t generation, room_count, member_count;
static uint32_t pending_requests;

/* What `run` is doing. */
static struct {
    bool on;
    uint32_t senders, window, depth, size;
    double started, deadline, rate;
    uint64_t sent, completed, delivered;
    uint32_t in_flight, next_sender;
    uint32_t *expected; /* by connection and sender's place: the number that must come next */
    float *latencies;
    size_t latency_count, latency_room;
} run;

/* The server's lag, from ping to pong. */
static struct {
    double interval, due, sent; /* seconds; `sent` is 0 where no pong is awaited */
    float *lags;
    size_t count, room;
} probes;

static _Noreturn void die(const char *format, ...) {
    char text[700];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *c = text; *c; c++)
        if (*c == '"' || *c == '\\') *c = '\'';
        else if ((unsigned char)*c < ' ' || (unsigned char)*c > '~') *c = '?';
    printf("{\"error\": \"%s\"}\n", text);
    fflush(stdout);
    exit(1);
}

static void *must(void *memory) {
    if (memory == NULL) die("out of memory");
    return memory;
}

static double seconds(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t) != 0) die("the server has ended");
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double now(void) { return seconds(CLOCK_MONOTONIC); }

/* What everybody has used of the processors' time. */
struct usage {
    double servers[MAX_SERVERS], own;
};

static struct usage usage(void) {
    struct usage used = {.own = seconds(CLOCK_PROCESS_CPUTIME_ID)};
    for (int i = 0; i < clock_count; i++) used.servers[i] = seconds(clocks[i]);
    return used;
}

static void print_usage(const struct usage *from, const struct usage *to) {
    printf(", \"cpu\": [");
    for (int i = 0; i < clock_count; i++) printf("%s%.6f", i ? ", " : "", to->servers[i] - from->servers[i]);
    printf("], \"generator_cpu\": %.6f", to->own - from->own);
}

static int port_of(const struct conn *c) { return ports[c->index % (uint32_t)port_count]; }

static void keep(float **values, size_t *count, size_t *room, double value) {
    if (*count == *room) {
        *room = *room ? 2 * *room : 4096;
        *values = must(realloc(*values, *room * sizeof **values));
    }
    (*values)[(*count)++] = (float)value;
}

/* --- writing */

static void send_bytes(struct conn *c, const char *data, size_t size) {
    if (c->unsent_size == 0) {
        ssize_t n = send(c->fd, data, size, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) die("send: %s", strerror(errno));
        if (n < 0) n = 0;
        data += n;
        size -= (size_t)n;
        if (size == 0) return;
    }
    c->unsent = must(realloc(c->unsent, c->unsent_size + size));
    memcpy(c->unsent + c->unsent_size, data, size);
    c->unsent_size += size;
}

static void flush_unsent(struct conn *c) {
    if (c->unsent_size == 0) return;
    char *data = c->unsent;
    size_t size = c->unsent_size;
    c->unsent = NULL;
    c->unsent_size = 0;
    send_bytes(c, data, size);
    free(data);
}

/* A client's frames are masked; with a mask of zero the payload stays as it is. */
static void send_frame(struct conn *c, uint8_t opcode, const char *payload, size_t size) {
    char frame[16384];
    size_t head = 2;
    if (size + 14 > sizeof frame) die("a frame of %zu bytes", size);
    frame[0] = (char)(0x80 | opcode);
    if (size < 126) {
        frame[1] = (char)(0x80 | size);
    } else {
        frame[1] = (char)(0x80 | 126);
        frame[2] = (char)(size >> 8);
        frame[3] = (char)size;
        head = 4;
    }
    memset(frame + head, 0, 4);
    memcpy(frame + head + 4, payload, size);
    send_bytes(c, frame, head + 4 + size);
}

static void send_text(struct conn *c, const char *format, ...) {
    char text[8192];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (size < 0 || (size_t)size >= sizeof text) die("a request of %d bytes", size);
    send_frame(c, 1, text, (size_t)size);
}

/* `fields` is the inside of a JSON object. */
static void send_action(struct conn *c, const char *action, uint32_t number, const char *fields) {
    if (plain)
        send_text(c, "{\"action\":\"%s\",%s,\"ref\":%" PRIu32 "}", action, fields, number);
    else
        send_text(c, "42%" PRIu32 "[\"%s\",{%s}]", number, action, fields);
}

/* --- messages */

static void hex(char *to, uint32_t value) {
    for (int i = 7; i >= 0; i--, value >>= 4) to[i] = "0123456789abcdef"[value & 15];
}

static uint32_t unhex(const char *from) {
    uint32_t value = 0;
    for (int i = 0; i < 8; i++) {
        char c = from[i];
        value = value << 4 | (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return value;
}

static void send_message(struct conn *c) {
    char fields[8192], *content;
    int head = snprintf(fields, sizeof fields, "\"room\":\"g%" PRIu32 "r%" PRIu32 "\",\"content\":\"", generation, c->room);
    uint32_t number = c->next_number++;
    struct flight *flight = &c->flights[number % MAX_DEPTH];
    content = fields + head;
    memset(content, 'x', run.size);
    content[0] = '@';
    hex(content + 1, c->index);
    content[9] = '.';
    hex(content + 10, number);
    memcpy(content + run.size, "\"", 2);
    flight->missing = member_count - 1;
    flight->acked = false;
    flight->sent = now();
    c->in_flight++;
    run.in_flight++;
    run.sent++;
    send_action(c, "send-msg", number, fields);
}

/* The next sender in turn: neighbours in this order are in different rooms. */
static struct conn *sender(uint32_t turn) {
    return &conns[turn % room_count * member_count + turn / room_count % run.senders];
}

static void fill_window(void) {
    uint32_t senders = room_count * run.senders;
    double time = now();
    if (time >= run.deadline) return;
    while (run.in_flight < run.window) {
        if (run.rate > 0 && (double)run.sent >= run.rate * (time - run.started)) return;
        uint32_t tried = 0;
        while (sender(run.next_sender)->in_flight >= run.depth) {
            run.next_sender = (run.next_sender + 1) % senders;
            if (++tried == senders) return;
        }
        send_message(sender(run.next_sender));
        run.next_sender = (run.next_sender + 1) % senders;
    }
}

static void advance(struct conn *c, struct flight *flight) {
    if (flight->missing > 0 || !flight->acked) return;
    c->in_flight--;
    run.in_flight--;
    run.completed++;
    fill_window();
}

static void on_message(struct conn *c, const char *text, size_t size) {
    static const char key[] = "\"content\":\"@";
    static size_t hint; /* where it was in the last message: nearly always right */
    const size_t key_size = sizeof key - 1;
    if (!run.on) die("a message that nobody sent");
    if (hint + key_size > size || memcmp(text + hint, key, key_size) != 0) {
        const char *found = memmem(text, size, key, key_size);
        if (found == NULL) die("a message without our content: %.*s", (int)(size < 200 ? size : 200), text);
        hint = (size_t)(found - text);
    }
    const char *content = text + hint + key_size - 1;
    if ((size_t)(content - text) + run.size + 1 > size || content[run.size] != '"') die("a message of another length");
    uint32_t from = unhex(content + 1), number = unhex(content + 10);
    if (from >= conn_count || conns[from].room != c->room || from == c->index || conns[from].place >= run.senders)
        die("%" PRIu32 " got a message of %" PRIu32 ", who is not in the same room", c->index, from);
    uint32_t *expected = &run.expected[(size_t)c->index * run.senders + conns[from].place];
    if (number != *expected)
        die("%" PRIu32 " got message %" PRIu32 " of %" PRIu32 " where %" PRIu32 " was next", c->index, number, from, *expected);
    ++*expected;
    run.delivered++;
    struct flight *flight = &conns[from].flights[number % MAX_DEPTH];
    if (--flight->missing == 0) {
        keep(&run.latencies, &run.latency_count, &run.latency_room, now() - flight->sent);
        advance(&conns[from], flight);
    }
}

static void on_reply(struct conn *c, uint32_t number, const char *text, size_t size) {
    if (memmem(text, size, "\"ok\":true", 9) == NULL) die("refused: %.*s", (int)(size < 500 ? size : 500), text);
    if (!run.on) {
        pending_requests--;
        return;
    }
    struct flight *flight = &c->flights[number % MAX_DEPTH];
    if (flight->acked || number >= c->next_number || c->next_number - number > MAX_DEPTH) die("an ack that nobody waits for");
    flight->acked = true;
    advance(c, flight);
}

/* --- reading */

static void on_ready(struct conn *c) {
    if (c->state == READY) return;
    c->state = READY;
    ready_count++;
}

static bool starts(const char *text, size_t size, const char *with) {
    size_t length = strlen(with);
    return size >= length && memcmp(text, with, length) == 0;
}

static void on_socketio(struct conn *c, const char *text, size_t size) {
    if (starts(text, size, "42[\"message\",")) on_message(c, text, size);
    else if (starts(text, size, "43")) {
        char *end;
        uint32_t number = (uint32_t)strtoul(text + 2, &end, 10);
        on_reply(c, number, end, size - (size_t)(end - text));
    } else if (starts(text, size, "42[\"welcome\",")) on_ready(c);
    else if (starts(text, size, "42")) return;
    else if (starts(text, size, "2")) send_frame(c, 1, "3", 1);
    else if (starts(text, size, "0{")) send_text(c, "40{\"username\":\"u%" PRIu32 "\"}", c->index);
    else if (starts(text, size, "40{")) {
        if (!has_welcome) on_ready(c);
    } else die("an unexpected packet: %.*s", (int)(size < 200 ? size : 200), text);
}

static void on_plain(struct conn *c, const char *text, size_t size) {
    if (starts(text, size, "{\"event\":\"message\"")) on_message(c, text, size);
    else if (starts(text, size, "{\"event\":\"reply\",\"ref\":")) on_reply(c, (uint32_t)strtoul(text + 23, NULL, 10), text, size);
    else if (starts(text, size, "{\"event\":\"welcome\"")) on_ready(c);
    else if (!starts(text, size, "{\"event\":")) die("an unexpected frame: %.*s", (int)(size < 200 ? size : 200), text);
}

static void on_frame(struct conn *c, uint8_t opcode, const char *payload, size_t size) {
    switch (opcode) {
    case 0x81:
        if (plain) on_plain(c, payload, size);
        else on_socketio(c, payload, size);
        return;
    case 0x88: die("connection %" PRIu32 " was closed with %d", c->index, size < 2 ? 0 : (uint8_t)payload[0] << 8 | (uint8_t)payload[1]);
    case 0x89: send_frame(c, 10, payload, size); return;
    case 0x8a:
        if (probes.sent > 0) keep(&probes.lags, &probes.count, &probes.room, now() - probes.sent);
        probes.sent = 0;
        return;
    default: die("a frame that begins with %02x", opcode);
    }
}

/* How much of the data were whole frames. */
static size_t take_frames(struct conn *c, char *data, size_t size) {
    size_t at = 0;
    while (size - at >= 2) {
        const uint8_t *head = (const uint8_t *)data + at;
        size_t length = head[1], begin = 2;
        if (length == 126) {
            if (size - at < 4) break;
            length = (size_t)head[2] << 8 | head[3];
            begin = 4;
        } else if (length > 126) die("a frame of more than 64 KiB");
        if (size - at < begin + length) break;
        on_frame(c, head[0], data + at + begin, length);
        at += begin + length;
    }
    return at;
}

static size_t take_upgrade(struct conn *c, const char *data, size_t size) {
    const char *end = memmem(data, size, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    if (!starts(data, size, "HTTP/1.1 101")) die("not upgraded: %.*s", (int)(size < 400 ? size : 400), data);
    c->state = JOINING;
    return (size_t)(end + 4 - data);
}

static void on_readable(struct conn *c) {
    for (;;) {
        char *buffer = read_buffer; /* one for all: what is left over is kept aside */
        size_t size = c->rest_size;
        if (size) {
            memcpy(buffer, c->rest, size);
            free(c->rest);
            c->rest = NULL;
            c->rest_size = 0;
        }
        ssize_t n = recv(c->fd, buffer + size, READ_SIZE - size, 0);
        if (n == 0) die("connection %" PRIu32 " was lost", c->index);
        if (n < 0 && errno != EAGAIN) die("recv: %s", strerror(errno));
        bool drained = n < 0 || (size_t)n < READ_SIZE - size;
        if (n > 0) size += (size_t)n;
        size_t taken = 0;
        if (c->state == UPGRADING) taken = take_upgrade(c, buffer, size);
        if (c->state != UPGRADING) taken += take_frames(c, buffer + taken, size - taken);
        if (taken < size) {
            c->rest_size = size - taken;
            c->rest = must(malloc(c->rest_size));
            memcpy(c->rest, buffer + taken, c->rest_size);
        }
        if (drained) return;
    }
}

static void on_writable(struct conn *c) {
    if (c->state != CONNECTING) {
        flush_unsent(c);
        return;
    }
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) die("connect: %s", strerror(error));
    char path[64], request[512];
    if (plain) snprintf(path, sizeof path, "/username/u%" PRIu32 "?format=json", c->index);
    else snprintf(path, sizeof path, "/socket.io/?EIO=4&transport=websocket");
    int size = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                        path, port_of(c));
    c->state = UPGRADING;
    send_bytes(c, request, (size_t)size);
}

static void pump(int milliseconds) {
    struct epoll_event events[BATCH];
    int count = epoll_wait(epoll_fd, events, BATCH, milliseconds);
    if (count < 0 && errno != EINTR) die("epoll_wait: %s", strerror(errno));
    if (count > 0) last_heard = now();
    for (int i = 0; i < count; i++) {
        struct conn *c = events[i].data.ptr;
        if (c == NULL) {
            stdin_ready = true;
            continue;
        }
        if (events[i].events & (EPOLLOUT | EPOLLERR)) on_writable(c);
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(c);
    }
}

static void pump_or_die(int milliseconds, const char *what) {
    pump(milliseconds);
    if (now() - last_heard > PATIENCE) die("nothing heard for %.0f s: %s", PATIENCE, what);
}

/* Until the server has had nothing to say for so long: what was caused is over. Heartbeats may go on for ever. */
static void settle(double quiet) {
    double started = last_heard = now();
    while (now() - last_heard < quiet && now() - started < 10 * quiet) pump(10);
    last_heard = now();
}

/* --- commands */

static void open_connection(struct conn *c) {
    static const int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->state = CONNECTING;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port_of(c)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS)
        die("connect: %s", strerror(errno));
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event) != 0) die("epoll_ctl: %s", strerror(errno));
}

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void print_distribution(const char *name, float *values, size_t count) {
    qsort(values, count, sizeof *values, by_size);
    if (count)
        printf(", \"%s\": {\"count\": %zu, \"p50\": %.6f, \"p99\": %.6f, \"max\": %.6f}", name, count, values[count / 2],
               values[count * 99 / 100], values[count - 1]);
}

static void start_probes(double milliseconds) {
    memset(&probes, 0, sizeof probes);
    probes.interval = milliseconds / 1000;
}

static void probe(void) {
    double time = now();
    if (probes.interval == 0 || time < probes.due || probes.sent > 0 || conns[0].state != READY) return;
    probes.due = time + probes.interval;
    probes.sent = time;
    send_frame(&conns[0], 9, "", 0);
}

static void print_probes(void) {
    print_distribution("lag", probes.lags, probes.count);
    free(probes.lags);
    start_probes(0);
}

static void command_connect(uint32_t total, uint32_t parallel, double probe_ms) {
    static const uint32_t most = 60000;
    if (conns == NULL) conns = must(calloc(most, sizeof *conns)); /* never moves: epoll points into it */
    if (total > most) die("too many connections");
    uint32_t before = conn_count;
    double started = now();
    struct usage before_all = usage();
    last_heard = started;
    start_probes(probe_ms);
    while (ready_count < total) {
        while (conn_count < total && conn_count - ready_count < parallel) {
            conns[conn_count].index = conn_count;
            open_connection(&conns[conn_count++]);
        }
        probe();
        pump_or_die(probe_ms > 0 ? 1 : 100, "logging in");
    }
    struct usage after_all = usage();
    printf("{\"connections\": %" PRIu32 ", \"seconds\": %.6f", total - before, now() - started);
    print_usage(&before_all, &after_all);
    print_probes();
    printf("}\n");
}

static void request_members(uint32_t room, const char *action, uint32_t from, uint32_t to) {
    char fields[4096];
    int size = snprintf(fields, sizeof fields, "\"room\":\"g%" PRIu32 "r%" PRIu32 "\",\"users\":[", generation, room);
    for (uint32_t i = from; i < to; i++)
        size += snprintf(fields + size, sizeof fields - (size_t)size, "%s\"u%" PRIu32 "\"", i > from ? "," : "", room * member_count + i);
    snprintf(fields + size, sizeof fields - (size_t)size, "]");
    pending_requests++;
    send_action(&conns[room * member_count], action, pending_requests, fields);
}

static void command_rooms(uint32_t count, uint32_t members) {
    static const uint32_t at_once = 100, under_way = 8;
    if (count * members > conn_count || members < 2) die("not that many connections");
    generation++;
    room_count = count;
    member_count = members;
    for (uint32_t i = 0; i < count * members; i++) {
        conns[i].room = i / members;
        conns[i].place = i % members;
    }
    for (uint32_t i = count * members; i < conn_count; i++) conns[i].room = UINT32_MAX;
    last_heard = now();
    for (uint32_t room = 0; room < count; room++)
        for (uint32_t from = 1; from < members; from += at_once) {
            uint32_t to = from + at_once < members ? from + at_once : members;
            if (from > 1) /* a room is there before somebody is added to it */
                while (pending_requests > 0) pump_or_die(100, "filling a room");
            while (pending_requests >= under_way) pump_or_die(100, "creating rooms");
            request_members(room, from == 1 ? "create-room" : "add-user", from, to);
        }
    while (pending_requests > 0) pump_or_die(100, "creating rooms");
    settle(0.2);
    printf("{\"rooms\": %" PRIu32 "}\n", count);
}

static void command_run(uint32_t senders, uint32_t window, uint32_t size, double length, double rate, double probe_ms) {
    if (room_count == 0 || senders == 0 || senders > member_count) die("no rooms for that");
    if (size < MARK || size > 4096) die("a message has %d to 4096 bytes", MARK);
    memset(&run, 0, sizeof run);
    run.senders = senders;
    run.window = window;
    run.depth = (window + senders * room_count - 1) / (senders * room_count);
    if (run.depth > MAX_DEPTH) die("at most %d messages of one sender are in flight", MAX_DEPTH);
    run.size = size;
    run.rate = rate;
    start_probes(probe_ms);
    uint32_t members = room_count * member_count;
    run.expected = must(malloc((size_t)members * senders * sizeof *run.expected));
    for (uint32_t i = 0; i < members; i++)
        for (uint32_t place = 0; place < senders; place++)
            run.expected[i * senders + place] = conns[i / member_count * member_count + place].next_number;
    run.on = true;
    struct usage before = usage();
    run.started = last_heard = now();
    run.deadline = run.started + length;
    bool paced = rate > 0 || probe_ms > 0;
    while (run.in_flight > 0 || now() < run.deadline) {
        fill_window();
        probe();
        pump_or_die(paced ? 1 : 100, "waiting for messages");
    }
    double wall = now() - run.started;
    struct usage after = usage();
    settle(0.05); /* a duplicate would come now */
    run.on = false;
    if (run.completed != run.sent || run.delivered != run.sent * (member_count - 1)) die("not every message has arrived");
    printf("{\"messages\": %" PRIu64 ", \"deliveries\": %" PRIu64 ", \"seconds\": %.6f", run.sent, run.delivered, wall);
    print_usage(&before, &after);
    print_distribution("latency", run.latencies, run.latency_count);
    print_probes();
    printf("}\n");
    free(run.expected);
    free(run.latencies);
}

static void command_idle(double length) {
    double started = now();
    struct usage before = usage();
    while (now() - started < length) pump(100);
    struct usage after = usage();
    printf("{\"seconds\": %.6f", now() - started);
    print_usage(&before, &after);
    printf("}\n");
}

static void obey(const char *line) {
    uint32_t a, b, c;
    double length, rate, probe_ms;
    if (sscanf(line, "connect %" SCNu32 " %" SCNu32 " %lf", &a, &b, &probe_ms) == 3) command_connect(a, b, probe_ms);
    else if (sscanf(line, "rooms %" SCNu32 " %" SCNu32, &a, &b) == 2) command_rooms(a, b);
    else if (sscanf(line, "run %" SCNu32 " %" SCNu32 " %" SCNu32 " %lf %lf %lf", &a, &b, &c, &length, &rate, &probe_ms) == 6)
        command_run(a, b, c, length, rate, probe_ms);
    else if (sscanf(line, "idle %lf", &length) == 1) command_idle(length);
    else die("not a command: %s", line);
    fflush(stdout);
}

/* The next number of a list with commas. */
static int next_number(char **list) {
    int number = (int)strtol(*list, list, 10);
    if (**list == ',') ++*list;
    return number;
}

int main(int argc, char **argv) {
    if (argc != 4) die("usage: load socketio|plain PORT[,PORT...] PID[,PID...]");
    plain = strcmp(argv[1], "plain") == 0;
    has_welcome = getenv("LOAD_WELCOME") != NULL; /* the gateway's last word of a log-in; the peers have none */
    for (char *list = argv[2]; *list; ports[port_count++] = next_number(&list))
        if (port_count == MAX_SERVERS) die("too many servers");
    for (char *list = argv[3]; *list; clock_count++)
        if (clock_count == MAX_SERVERS || clock_getcpuclockid(next_number(&list), &clocks[clock_count]) != 0)
            die("no processes, or too many: %s", argv[3]);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    read_buffer = must(malloc(READ_SIZE + 1));
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &event) != 0) die("stdin is not a pipe");
    char line[256];
    size_t size = 0;
    for (;;) {
        stdin_ready = false;
        pump(100);
        if (!stdin_ready) continue;
        ssize_t n = read(0, line + size, sizeof line - 1 - size);
        if (n <= 0) return 0;
        size += (size_t)n;
        line[size] = 0;
        if (line[size - 1] != '\n') continue; /* one command at a time: its line comes whole, or in pieces */
        line[size - 1] = 0;
        size = 0;
        obey(line);
    }
}
