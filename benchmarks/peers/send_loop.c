/* The floor: what the kernel's send() costs, and hardly anything else.
 *
 * A server that knows one room at a time, the newest, and users by the names that the load generator gives them: u0,
 * u1, … It speaks just enough Socket.IO, and handles a message as the real servers do: one frame, made once, is sent to
 * each other member with one send(), and the sender gets an ack. No framework, no store, no check of anything.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 65536 };

static int members[MOST], member_count;
static int users[MOST]; /* file descriptors, by the number in the name */
static char upgraded[MOST]; /* by file descriptor */

static void check(int result, const char *what) {
    if (result >= 0) return;
    perror(what);
    exit(1);
}

static void send_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            struct pollfd wait = {.fd = fd, .events = POLLOUT};
            poll(&wait, 1, -1);
            continue;
        }
        check((int)n, "send");
        data += n;
        size -= (size_t)n;
    }
}

static size_t make_frame(char *frame, const char *payload, size_t size) {
    size_t head = size < 126 ? 2 : 4;
    frame[0] = (char)0x81;
    frame[1] = (char)(size < 126 ? size : 126);
    if (head == 4) {
        frame[2] = (char)(size >> 8);
        frame[3] = (char)size;
    }
    memcpy(frame + head, payload, size);
    return head + size;
}

static void say(int fd, const char *text) {
    char frame[1024];
    send_all(fd, frame, make_frame(frame, text, strlen(text)));
}

/* ``text`` is `42<id>["action",{…}]`. */
static void handle_event(int fd, char *text) {
    static const char key[] = "\"content\":";
    static unsigned position;
    char payload[8192], frame[8200], *event;
    unsigned long id = strtoul(text + 2, &event, 10);
    const char *content = strstr(event, key);
    if (strncmp(event, "[\"send-msg\"", 11) == 0 && content != NULL) {
        int size = snprintf(payload, sizeof payload,
                            "42[\"message\",{\"id\":\"0123456789abcdef\",\"room\":\"g1r0\",\"from\":\"u0\",%.*s,\"ts\":1790000000000},\"abcd-%u\"]",
                            (int)(strlen(content) - 2), content, ++position);
        size_t frame_size = make_frame(frame, payload, (size_t)size);
        for (int i = 0; i < member_count; i++)
            if (members[i] != fd) send_all(members[i], frame, frame_size);
    } else {
        if (strncmp(event, "[\"create-room\"", 14) == 0) {
            member_count = 0;
            members[member_count++] = fd;
        }
        char *name = strstr(event, "\"users\":");
        while (name != NULL && (name = strstr(name, "\"u")) != NULL) {
            name += 2;
            if (*name >= '0' && *name <= '9') members[member_count++] = users[atoi(name)];
        }
    }
    snprintf(payload, sizeof payload, "43%lu[{\"ok\":true,\"id\":\"0123456789abcdef\",\"ts\":1790000000000}]", id);
    say(fd, payload);
}

/* Whole frames, masked with zeros; the generator's requests are small and come in one piece. */
static void handle_data(int fd, char *data, size_t size) {
    for (size_t at = 0; at < size;) {
        size_t length = data[at + 1] & 127, begin = 6;
        if (length == 126) {
            length = (size_t)(uint8_t)data[at + 2] << 8 | (uint8_t)data[at + 3];
            begin = 8;
        }
        if (at + begin + length > size) exit(2);
        char *text = data + at + begin, after = text[length];
        text[length] = 0;
        if (strncmp(text, "40", 2) == 0) {
            users[atoi(text + strlen("40{\"username\":\"u"))] = fd;
            say(fd, "40{\"sid\":\"0123456789abcdef\"}");
        } else if (strncmp(text, "42", 2) == 0) handle_event(fd, text);
        text[length] = after;
        at += begin + length;
    }
}

static void handle_upgrade(int fd) {
    static const char response[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    upgraded[fd] = 1;
    send_all(fd, response, sizeof response - 1);
    say(fd, "0{\"sid\":\"0123456789abcdef\",\"upgrades\":[],\"pingInterval\":25000,\"pingTimeout\":20000,\"maxPayload\":1000000}");
}

int main(void) {
    static char data[1 << 18];
    static const int one = 1;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll_fd = epoll_create1(0);
    check(bind(listening, (struct sockaddr *)&address, sizeof address), "bind");
    check(listen(listening, 1024), "listen");
    check(getsockname(listening, (struct sockaddr *)&address, &length), "getsockname");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listening};
    check(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listening, &event), "epoll_ctl");
    printf("ready http://127.0.0.1:%d/\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        struct epoll_event events[256];
        int count = epoll_wait(epoll_fd, events, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listening) {
                while ((fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
                    check(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
                }
                continue;
            }
            ssize_t n = recv(fd, data, sizeof data - 1, 0);
            if (n == 0) return 0; /* the generator has gone */
            if (n < 0) continue;
            if (upgraded[fd]) handle_data(fd, data, (size_t)n);
            else handle_upgrade(fd);
        }
    }
}
