// Mock OpenAI upstream: one thread, epoll, HTTP/1.1 keep-alive, every answer the same bytes.
//
//   mock PORT        (0: any free port; the port taken is the first line on stdout)
//
// POST: a JSON completion of about 700 bytes with usage, or, when the body holds "stream":true,
// an event stream of 40 chunks, a usage chunk and [DONE].  gap<N>ms anywhere in the body puts
// N ms between the chunks, wait<N>ms N ms before the first byte.
// POST below /broken: 503 at once, and not counted.
// GET /stats: {"json":J,"streams":S}, the POSTs begun so far.  Any other GET: 404.
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNKS 40
#define MAX_FD 65536

enum mode { READING, WAITING_JSON, STREAMING };

typedef struct {
    int fd;
    char *in; // bytes received and not yet answered
    int in_len, in_cap;
    char *out; // bytes [out_at, out_len) wait for the socket
    int out_len, out_at, out_cap;
    enum mode mode;
    int next;    // next chunk of the stream; -1 before the head
    int gap;     // ms
    double due;  // ms on the monotonic clock
    int heap_at; // -1: not waiting for time
    int wants_out;
} Conn;

static Conn *conns[MAX_FD], *heap[MAX_FD];
static int heap_len, poll_fd;
static char json_answer[4096], sse_head[512];
static int json_len, sse_head_len;
static char *parts[CHUNKS + 3]; // chunks, usage, [DONE], the end of the body
static int part_lens[CHUNKS + 3];
static long long json_count, stream_count;

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void swap(int a, int b) {
    Conn *t = heap[a];
    heap[a] = heap[b];
    heap[b] = t;
    heap[a]->heap_at = a;
    heap[b]->heap_at = b;
}

static void sift_up(int i) {
    for (; i && heap[(i - 1) / 2]->due > heap[i]->due; i = (i - 1) / 2) {
        swap(i, (i - 1) / 2);
    }
}

static void sift_down(int i) {
    for (;;) {
        int left = 2 * i + 1, least = i;
        if (left < heap_len && heap[left]->due < heap[least]->due) {
            least = left;
        }
        if (left + 1 < heap_len && heap[left + 1]->due < heap[least]->due) {
            least = left + 1;
        }
        if (least == i) {
            return;
        }
        swap(i, least);
        i = least;
    }
}

static void wait_until_due(Conn *c) {
    c->heap_at = heap_len;
    heap[heap_len++] = c;
    sift_up(c->heap_at);
}

static void stop_waiting(Conn *c) {
    int i = c->heap_at;
    if (i < 0) {
        return;
    }
    heap_len--;
    if (i != heap_len) {
        heap[i] = heap[heap_len];
        heap[i]->heap_at = i;
        sift_up(i);
        sift_down(heap[i]->heap_at);
    }
    c->heap_at = -1;
}

static void drop(Conn *c) {
    stop_waiting(c);
    close(c->fd);
    conns[c->fd] = NULL;
    free(c->in);
    free(c->out);
    free(c);
}

static void add(Conn *c, const char *bytes, int n) {
    if (c->out_at == c->out_len) {
        c->out_at = c->out_len = 0;
    }
    if (c->out_len + n > c->out_cap) {
        c->out_cap = (c->out_len + n) * 2;
        c->out = realloc(c->out, c->out_cap);
    }
    memcpy(c->out + c->out_len, bytes, n);
    c->out_len += n;
}

static void watch(Conn *c, int wants_out) {
    if (c->wants_out == wants_out) {
        return;
    }
    struct epoll_event e = {EPOLLIN | (wants_out ? EPOLLOUT : 0), {.fd = c->fd}};
    epoll_ctl(poll_fd, EPOLL_CTL_MOD, c->fd, &e);
    c->wants_out = wants_out;
}

static int flush(Conn *c) {
    while (c->out_at < c->out_len) {
        int k = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);
        if (k < 0 && errno == EAGAIN) {
            watch(c, 1);
            return 0;
        }
        if (k < 0) {
            return -1;
        }
        c->out_at += k;
    }
    watch(c, 0);
    return 0;
}

static int process(Conn *c);

static int act(Conn *c) { // the time of a paced answer has come
    if (c->mode == WAITING_JSON) {
        add(c, json_answer, json_len);
        c->mode = READING;
        return flush(c) < 0 ? -1 : process(c);
    }
    if (c->next < 0) {
        add(c, sse_head, sse_head_len);
        c->next = 0;
    }
    add(c, parts[c->next], part_lens[c->next]);
    c->next++;
    if (c->next < CHUNKS) {
        c->due += c->gap;
        wait_until_due(c);
        return flush(c);
    }
    for (; c->next < CHUNKS + 3; c->next++) {
        add(c, parts[c->next], part_lens[c->next]);
    }
    c->mode = READING;
    return flush(c) < 0 ? -1 : process(c);
}

static int burst(Conn *c) { // one send per chunk, as a model server would
    add(c, sse_head, sse_head_len);
    if (flush(c) < 0) {
        return -1;
    }
    for (int i = 0; i < CHUNKS + 3; i++) {
        add(c, parts[i], part_lens[i]);
        int rest_follows = i >= CHUNKS - 1 && i < CHUNKS + 2;
        if (!rest_follows && flush(c) < 0) {
            return -1;
        }
    }
    return 0;
}

static int number_after(const char *text, int n, const char *word) {
    const char *p = memmem(text, n, word, strlen(word));
    return p ? atoi(p + strlen(word)) : 0;
}

static int asks_stream(const char *body, int n) {
    const char *p = memmem(body, n, "\"stream\"", 8);
    if (!p) {
        return 0;
    }
    for (p += 8; p < body + n && (*p == ' ' || *p == ':'); p++) {
    }
    return p < body + n && *p == 't';
}

static int answer_post(Conn *c, int stream, int gap, int wait) {
    c->due = now_ms() + wait;
    if (!stream) {
        json_count++;
        if (wait) {
            c->mode = WAITING_JSON;
            wait_until_due(c);
        } else {
            add(c, json_answer, json_len);
        }
        return 0;
    }
    stream_count++;
    if (!gap && !wait) {
        return burst(c);
    }
    c->mode = STREAMING;
    c->next = -1;
    c->gap = gap ? gap : 1;
    if (!wait) {
        return act(c);
    }
    wait_until_due(c);
    return 0;
}

static void refuse(Conn *c) {
    static const char body[] = "{\"error\":{\"message\":\"broken\",\"type\":\"server_error\"}}";
    char head[256];
    int h = snprintf(head, sizeof head,
                     "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
                     "Content-Length: %d\r\n\r\n",
                     (int)sizeof body - 1);
    add(c, head, h);
    add(c, body, sizeof body - 1);
}

static void answer_get(Conn *c, int stats) {
    char body[128], head[256];
    int n = stats ? snprintf(body, sizeof body, "{\"json\":%lld,\"streams\":%lld}", json_count,
                             stream_count)
                  : snprintf(body, sizeof body, "{\"error\":{\"message\":\"not here\"}}");
    int h = snprintf(head, sizeof head,
                     "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
                     stats ? "200 OK" : "404 Not Found", n);
    add(c, head, h);
    add(c, body, n);
}

// The offset behind a chunked body that begins at `at`, or -1 while it is incomplete.
static int chunked_end(const Conn *c, int at) {
    const char *p = c->in + at, *end = c->in + c->in_len;
    while (p < end) {
        const char *line = memmem(p, end - p, "\r\n", 2);
        if (!line) {
            return -1;
        }
        long size = strtol(p, NULL, 16);
        if (size == 0) {
            const char *last = memmem(line, end - line, "\r\n\r\n", 4);
            return last ? (int)(last + 4 - c->in) : -1;
        }
        p = line + 2 + size + 2;
    }
    return -1;
}

// The offset behind the request at the front of the input, or 0 while it is incomplete.
static int request_end(Conn *c, int head_len) {
    int length = 0, chunked = 0, expects = 0;
    for (char *p = c->in, *end = c->in + head_len; p < end;) {
        char *line = memmem(p, end - p, "\r\n", 2);
        if (!line) {
            break;
        }
        if (!strncasecmp(p, "content-length:", 15)) {
            length = atoi(p + 15);
        } else if (!strncasecmp(p, "transfer-encoding:", 18)) {
            chunked = 1;
        } else if (!strncasecmp(p, "expect:", 7)) {
            expects = 1;
        }
        p = line + 2;
    }
    if (chunked) {
        int end = chunked_end(c, head_len);
        return end < 0 ? 0 : end;
    }
    if (c->in_len - head_len >= length) {
        return head_len + length;
    }
    if (expects && c->in_len == head_len) {
        add(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    }
    return 0;
}

static int process(Conn *c) {
    while (c->mode == READING && c->in_len > 0) {
        char *blank = memmem(c->in, c->in_len, "\r\n\r\n", 4);
        if (!blank) {
            break;
        }
        int head_len = blank - c->in + 4, end = request_end(c, head_len);
        if (!end) {
            break;
        }
        char *body = c->in + head_len;
        int n = end - head_len, get = !strncmp(c->in, "GET ", 4);
        int stats = get && !strncmp(c->in, "GET /stats", 10);
        int broken = !strncmp(c->in, "POST /broken/", 13);
        int stream = !get && asks_stream(body, n);
        int gap = get ? 0 : number_after(body, n, "gap");
        int wait = get ? 0 : number_after(body, n, "wait");
        memmove(c->in, c->in + end, c->in_len - end);
        c->in_len -= end;
        if (get) {
            answer_get(c, stats);
        } else if (broken) {
            refuse(c);
        } else if (answer_post(c, stream, gap, wait) < 0) {
            return -1;
        }
    }
    return flush(c);
}

static void set_part(int i, const char *data) {
    char event[1200], framed[1400];
    int n = snprintf(event, sizeof event, "data: %s\n\n", data);
    part_lens[i] = snprintf(framed, sizeof framed, "%x\r\n%s\r\n", n, event);
    parts[i] = strdup(framed);
}

#define CHUNK_HEAD                                                                                 \
    "{\"id\":\"chatcmpl-mock0000000000000000000001\",\"object\":\"chat.completion.chunk\","        \
    "\"created\":1760000000,\"model\":\"gpt-4o-mini\",\"service_tier\":\"default\","               \
    "\"system_fingerprint\":\"fp_mock\","

static const char *json_body =
    "{\"id\":\"chatcmpl-mock0000000000000000000001\",\"object\":\"chat.completion\","
    "\"created\":1760000000,\"model\":\"gpt-4o-mini\",\"choices\":[{\"index\":0,\"message\":{"
    "\"role\":\"assistant\",\"content\":\"This is a fixed answer of the mock upstream. It is about "
    "as long as a short real answer, so that parsing, copying and accounting have something to "
    "do; nothing in it depends on the question that was asked, and every byte is the same each "
    "time.\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
    "\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":48,\"total_tokens\":67,"
    "\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},"
    "\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0}},"
    "\"service_tier\":\"default\",\"system_fingerprint\":\"fp_mock\"}";

static void make_answers(void) {
    json_len = snprintf(json_answer, sizeof json_answer,
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                        "Content-Length: %d\r\nx-request-id: req_mock\r\n\r\n%s",
                        (int)strlen(json_body), json_body);
    sse_head_len = snprintf(sse_head, sizeof sse_head,
                            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                            "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n"
                            "x-request-id: req_mock\r\n\r\n");
    char data[900];
    for (int i = 0; i < CHUNKS; i++) {
        snprintf(data, sizeof data,
                 CHUNK_HEAD "\"choices\":[{\"index\":0,\"delta\":{%s\"content\":\" word%02d\"},"
                            "\"logprobs\":null,\"finish_reason\":%s}],\"usage\":null}",
                 i == 0 ? "\"role\":\"assistant\"," : "", i, i == CHUNKS - 1 ? "\"stop\"" : "null");
        set_part(i, data);
    }
    set_part(CHUNKS, CHUNK_HEAD "\"choices\":[],\"usage\":{\"prompt_tokens\":19,"
                                "\"completion_tokens\":40,\"total_tokens\":59}}");
    set_part(CHUNKS + 1, "[DONE]");
    parts[CHUNKS + 2] = "0\r\n\r\n";
    part_lens[CHUNKS + 2] = 5;
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    if (bind(fd, (void *)&a, sizeof a) || listen(fd, 4096) ||
        getsockname(fd, (void *)&a, &len)) {
        perror("mock");
        exit(1);
    }
    printf("%d\n", ntohs(a.sin_port));
    fflush(stdout);
    return fd;
}

static void accept_all(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= MAX_FD) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        Conn *c = calloc(1, sizeof *c);
        c->fd = fd;
        c->heap_at = -1;
        c->in = malloc(c->in_cap = 4096);
        c->out = malloc(c->out_cap = 2048);
        conns[fd] = c;
        struct epoll_event e = {EPOLLIN, {.fd = fd}};
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &e);
    }
}

static int receive(Conn *c) { // -1: the peer has gone
    for (;;) {
        if (c->in_len + 4096 > c->in_cap) {
            c->in_cap = c->in_cap * 2 + 4096;
            c->in = realloc(c->in, c->in_cap);
        }
        int room = c->in_cap - c->in_len;
        int k = recv(c->fd, c->in + c->in_len, room, 0);
        if (k == 0 || (k < 0 && errno != EAGAIN)) {
            return -1;
        }
        if (k < 0) {
            return 0;
        }
        c->in_len += k;
        if (k < room) {
            return 0;
        }
    }
}

static void handle(Conn *c, unsigned events) {
    if ((events & EPOLLOUT) && flush(c) < 0) {
        drop(c);
        return;
    }
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
        return;
    }
    if (receive(c) < 0 || (c->mode == READING && process(c) < 0)) {
        drop(c);
    }
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    make_answers();
    int listener = listen_on(argc > 1 ? atoi(argv[1]) : 0);
    poll_fd = epoll_create1(0);
    struct epoll_event e = {EPOLLIN, {.fd = listener}}, events[256];
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        double left = heap_len ? heap[0]->due - now_ms() : -2;
        int n = epoll_wait(poll_fd, events, 256, !heap_len ? -1 : left <= 0 ? 0 : (int)left + 1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener) {
                accept_all(listener);
            } else if (conns[events[i].data.fd]) {
                handle(conns[events[i].data.fd], events[i].events);
            }
        }
        while (heap_len && heap[0]->due <= now_ms()) {
            Conn *c = heap[0];
            stop_waiting(c);
            if (act(c) < 0) {
                drop(c);
            }
        }
    }
}
