// lg: load generator for POST, JSON and event streams; one thread, epoll; prints one JSON line.
//
// Open loop (-r RATE): latency counts from the intended time, so a slow server cannot hide its
// queue.  Closed loop (-r 0): every connection sends again as soon as it is answered.
//
//   -P port   -p path   -c connections   -r requests/s   -d seconds   -w seconds of warm-up
//   -n most requests to send   -m model   -s stream   -H "name: value" (repeatable)
//   -B extra prompt bytes   -t text appended to the prompt
//   -x status expected (200)   -R 429 and 503 with Retry-After are refusals, counted apart   -E events expected per stream   -G ms between the events: each is
//   compared with its time, and counted late when more than -L ms behind
//
// Every answer is checked: status; "usage" in a JSON answer; [DONE] and the number of events in a
// stream; "error" in a refusal.  sent_total and answered_total count the warm-up too; latencies,
// ok and rps do not.  The last two events of a stream come with the one before them.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef long long ll;
#define SECOND 1000000000LL
#define MS 1000000LL

typedef struct {
    int fd, connected, busy, out_at;
    char *in;
    int in_len, in_cap;
    ll want, sent, first, first_event; // ns; want: when it should have been sent
    int head_len, length, chunked, status, closes;
    int scanned, events;
} Conn;

typedef struct {
    ll *at;
    int n, cap;
} Series;

static struct {
    int port, conns, stream, refusals, status, events, gap_ms, late_ms, extra;
    double rate, secs, warm;
    ll most;
    char *path, *model, *text, *auth;
    char heads[4096];
} opt = {.port = 9000,
         .conns = 16,
         .status = 200,
         .late_ms = 50,
         .secs = 5,
         .path = "/v1/chat/completions",
         .model = "gpt-4o-mini",
         .text = "",
         .auth = "Authorization: Bearer sk-1234"};

static char *request;
static int request_len, poll_fd, idle_count, connected_count;
static Conn **idle;
static Series latency, service, refusal, first_byte, first_event, lateness;
static ll sent_total, answered_total, ok, bad, refused, served_total, errors, events_total, late, in_flight, peak;
static ll warm_end;

static ll now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static void push(Series *s, ll value) {
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 65536;
        s->at = realloc(s->at, s->cap * sizeof(ll));
    }
    s->at[s->n++] = value;
}

static void watch(Conn *c, unsigned events, int op) {
    struct epoll_event e = {events, {.ptr = c}};
    epoll_ctl(poll_fd, op, c->fd, &e);
}

static void dial(Conn *c) {
    int one = 1;
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(opt.port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    c->connected = c->busy = 0;
    if (c->fd < 0) {
        errors++;
        return;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(c->fd, (void *)&a, sizeof a) < 0 && errno != EINPROGRESS) {
        errors++;
        close(c->fd);
        c->fd = -1;
        return;
    }
    watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_ADD);
}

static void redial(Conn *c) {
    close(c->fd);
    dial(c);
}

// Write what is left of the request; -1 when the connection is of no more use.
static int write_request(Conn *c) {
    int k = send(c->fd, request + c->out_at, request_len - c->out_at, MSG_NOSIGNAL);
    if (k < 0 && errno != EAGAIN) {
        return -1;
    }
    if (k > 0) {
        c->out_at += k;
    }
    if (c->out_at < request_len) {
        watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
    } else {
        sent_total++;
    }
    return 0;
}

static void begin(Conn *c, ll want) {
    c->want = want;
    c->sent = now();
    c->first = c->first_event = 0;
    c->in_len = c->head_len = c->chunked = c->status = c->closes = 0;
    c->scanned = c->events = c->out_at = 0;
    c->length = -1;
    c->busy = 1;
    in_flight++;
    peak = in_flight > peak ? in_flight : peak;
    if (write_request(c) < 0) {
        errors++;
        in_flight--;
        redial(c);
    }
}

static void read_head(Conn *c, ll t) {
    char *end = strstr(c->in, "\r\n\r\n");
    if (!end) {
        return;
    }
    c->first = c->first ? c->first : t;
    c->head_len = c->scanned = end - c->in + 4;
    c->status = atoi(c->in + 9);
    for (char *p = c->in; p && p < end; p = strstr(p, "\r\n"), p = p ? p + 2 : p) {
        if (!strncasecmp(p, "content-length:", 15)) {
            c->length = atoi(p + 15);
        } else if (!strncasecmp(p, "transfer-encoding: chunked", 26)) {
            c->chunked = 1;
        } else if (!strncasecmp(p, "connection: close", 17)) {
            c->closes = 1;
        }
    }
}

static void count_events(Conn *c, ll t) {
    char *p = c->in + c->scanned;
    for (char *hit; (hit = strstr(p, "data:")); p = hit + 5, c->scanned = p - c->in) {
        if (!c->events++) {
            c->first_event = t;
        }
        if (!opt.gap_ms) {
            continue;
        }
        int last = opt.events - 3, index = c->events - 1;
        ll behind = t - (c->want + (index < last ? index : last) * opt.gap_ms * MS);
        push(&lateness, behind);
        late += behind > opt.late_ms * MS;
    }
    if (c->in_len - 4 > c->scanned) {
        c->scanned = c->in_len - 4;
    }
}

static int is_complete(const Conn *c, int closed) {
    int n = c->in_len - c->head_len;
    if (c->chunked) {
        const char *tail = c->in + c->in_len - 5;
        return n >= 5 && !memcmp(tail, "0\r\n\r\n", 5) && (n == 5 || tail[-1] == '\n');
    }
    return c->length >= 0 ? n >= c->length : closed;
}

static int is_right(const Conn *c) {
    const char *body = c->in + c->head_len;
    if (c->status != opt.status) {
        return 0;
    }
    if (c->status != 200) {
        return strstr(body, "\"error\"") != NULL;
    }
    if (!opt.stream) {
        return strstr(body, "\"usage\"") != NULL;
    }
    return strstr(body, "[DONE]") && (!opt.events || c->events == opt.events);
}

static int is_refusal(const Conn *c) {
    return opt.refusals && (c->status == 429 || c->status == 503) &&
           strcasestr(c->in, "\r\nretry-after:") && strstr(c->in + c->head_len, "\"error\"");
}

static void finish(Conn *c, ll t) {
    in_flight--;
    c->busy = 0;
    answered_total++;
    if (is_refusal(c)) {
        refused++;
        push(&refusal, t - c->sent);
        return;
    }
    served_total += is_right(c);
    events_total += c->events;
    if (!is_right(c)) {
        if (!bad++) {
            fprintf(stderr, "first bad answer (%d events): %.600s\n", c->events, c->in);
        }
        return;
    }
    if (t < warm_end) {
        return;
    }
    ok++;
    push(&latency, t - c->want);
    push(&service, t - c->sent);
    push(&first_byte, c->first - c->want);
    if (c->first_event) {
        push(&first_event, c->first_event - c->want);
    }
}

static int receive(Conn *c) { // 1: the peer has closed
    for (;;) {
        if (c->in_len + 16384 > c->in_cap) {
            c->in_cap *= 2;
            c->in = realloc(c->in, c->in_cap);
        }
        int room = c->in_cap - c->in_len - 1, k = recv(c->fd, c->in + c->in_len, room, 0);
        if (k == 0 || (k < 0 && errno != EAGAIN)) {
            return 1;
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

static void leave_idle(Conn *c) {
    for (int i = 0; i < idle_count; i++) {
        if (idle[i] == c) {
            // In order: the last one was used a moment ago, those below the server may just be closing.
            memmove(&idle[i], &idle[i + 1], (--idle_count - i) * sizeof *idle);
            return;
        }
    }
}

static void connected(Conn *c) {
    int failure = 0;
    socklen_t len = sizeof failure;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &failure, &len);
    if (failure) {
        errors++;
        close(c->fd);
        return;
    }
    c->connected = 1;
    connected_count++;
    watch(c, EPOLLIN, EPOLL_CTL_MOD);
    idle[idle_count++] = c;
}

static void handle(Conn *c, unsigned events) {
    if (!c->connected) {
        connected(c);
        return;
    }
    if (c->busy && (events & EPOLLOUT) && c->out_at < request_len) {
        watch(c, EPOLLIN, EPOLL_CTL_MOD);
        if (write_request(c) < 0) {
            errors++;
            in_flight--;
            redial(c);
            return;
        }
    }
    int closed = receive(c);
    if (c->busy && c->in_len) {
        ll t = now();
        c->in[c->in_len] = 0;
        if (!c->head_len) {
            read_head(c, t);
        }
        if (c->head_len && opt.stream) {
            count_events(c, t);
        }
        if (c->head_len && is_complete(c, closed)) {
            finish(c, t);
            if (c->closes || closed) {
                redial(c);
            } else {
                idle[idle_count++] = c;
            }
            return;
        }
    }
    if (closed) {
        if (c->busy) {
            errors++;
            in_flight--;
        } else {
            leave_idle(c);
        }
        redial(c);
    }
}

static ll send_due(ll t, ll next, ll step, ll end) {
    while (idle_count && t < end && (!opt.most || sent_total < opt.most)) {
        if (step && (next > t || next >= end)) {
            break;
        }
        begin(idle[--idle_count], step ? next : now());
        next += step;
    }
    return next;
}

static void run(ll begin_at, ll end) {
    ll step = opt.rate > 0 ? (ll)(SECOND / opt.rate) : 0, next = begin_at, hard = end + 10 * SECOND;
    struct epoll_event events[512];
    for (;;) {
        ll t = now();
        int enough = opt.most && sent_total >= opt.most;
        if (t >= begin_at) {
            next = send_due(t, next, step, end);
        }
        if ((t >= end || enough) && in_flight == 0) {
            return;
        }
        if (t > hard) {
            errors += in_flight;
            return;
        }
        ll until = t >= end ? hard : t < begin_at ? begin_at : step && idle_count ? next : end;
        ll wait = until > t ? until - t : 0;
        struct timespec ts = {wait / SECOND, wait % SECOND};
        int n = epoll_pwait2(poll_fd, events, 512, &ts, NULL);
        for (int i = 0; i < n; i++) {
            handle(events[i].data.ptr, events[i].events);
        }
    }
}

static void make_request(void) {
    char *body = malloc(opt.extra + strlen(opt.text) + 2048);
    int n = sprintf(body,
                    "{\"model\":\"%s\",%s\"messages\":[{\"role\":\"system\",\"content\":"
                    "\"You are a terse helper.\"},{\"role\":\"user\",\"content\":"
                    "\"Say in one sentence why the sky is blue. %s",
                    opt.model,
                    opt.stream ? "\"stream\":true,\"stream_options\":{\"include_usage\":true},"
                               : "",
                    opt.text);
    for (int i = 0; i < opt.extra; i++) {
        body[n++] = "lorem ipsum "[i % 12];
    }
    n += sprintf(body + n, "\"}],\"temperature\":0.7}");
    request = malloc(n + 8192);
    request_len = sprintf(request,
                          "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
                          "Content-Type: application/json\r\n%s\r\nUser-Agent: lg\r\n"
                          "Accept: */*\r\n%sContent-Length: %d\r\n\r\n",
                          opt.path, opt.port, opt.auth, opt.heads, n);
    memcpy(request + request_len, body, n);
    request_len += n;
    free(body);
}

static int compare(const void *a, const void *b) {
    ll x = *(const ll *)a, y = *(const ll *)b;
    return x < y ? -1 : x > y;
}

static double quantile(const Series *s, double p) {
    int i = (int)(p * s->n);
    return s->n ? s->at[i < s->n ? i : s->n - 1] / 1e3 : 0;
}

static void print_series(const char *name, Series *s) {
    double sum = 0;
    qsort(s->at, s->n, sizeof(ll), compare);
    for (int i = 0; i < s->n; i++) {
        sum += s->at[i];
    }
    printf(",\"%s_us\":{\"mean\":%.1f,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,"
           "\"max\":%.1f,\"steps\":[", /* a thousand: of several runs they can be put together */
           name, s->n ? sum / s->n / 1e3 : 0, quantile(s, .5), quantile(s, .9), quantile(s, .99),
           quantile(s, .999), quantile(s, 1));
    for (int i = 0, size = s->n / 1000 + 1; i < s->n; i += size) {
        int last = i + size < s->n ? i + size : s->n;
        printf("%s[%.1f,%d]", i ? "," : "", s->at[last - 1] / 1e3, last - i);
    }
    printf("]}");
}

static void read_options(int argc, char **argv) {
    int o;
    while ((o = getopt(argc, argv, "P:p:c:r:d:w:n:m:sRH:B:t:x:E:G:L:")) > 0) {
        switch (o) {
        case 'P': opt.port = atoi(optarg); break;
        case 'p': opt.path = optarg; break;
        case 'c': opt.conns = atoi(optarg); break;
        case 'r': opt.rate = atof(optarg); break;
        case 'd': opt.secs = atof(optarg); break;
        case 'w': opt.warm = atof(optarg); break;
        case 'n': opt.most = atoll(optarg); break;
        case 'm': opt.model = optarg; break;
        case 's': opt.stream = 1; break;
        case 'R': opt.refusals = 1; break;
        case 'B': opt.extra = atoi(optarg); break;
        case 't': opt.text = optarg; break;
        case 'x': opt.status = atoi(optarg); break;
        case 'E': opt.events = atoi(optarg); break;
        case 'G': opt.gap_ms = atoi(optarg); break;
        case 'L': opt.late_ms = atoi(optarg); break;
        case 'H':
            if (!strncasecmp(optarg, "authorization:", 14)) {
                opt.auth = optarg;
            } else if (strlen(opt.heads) + strlen(optarg) + 3 < sizeof opt.heads) {
                strcat(strcat(opt.heads, optarg), "\r\n");
            }
            break;
        default: exit(2);
        }
    }
}

int main(int argc, char **argv) {
    struct rlimit files;
    read_options(argc, argv);
    prctl(PR_SET_TIMERSLACK, 1);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    make_request();
    poll_fd = epoll_create1(0);
    Conn *conns = calloc(opt.conns, sizeof(Conn));
    idle = malloc(sizeof(Conn *) * opt.conns);
    for (int i = 0; i < opt.conns; i++) {
        conns[i].in = malloc(conns[i].in_cap = 65536);
        dial(&conns[i]);
    }
    ll begin_at = now() + 50 * MS;
    warm_end = begin_at + (ll)(opt.warm * SECOND);
    run(begin_at, warm_end + (ll)(opt.secs * SECOND));
    double took = (now() - warm_end) / 1e9;
    printf("{\"port\":%d,\"conns\":%d,\"connected\":%d,\"rate\":%.0f,\"stream\":%d,\"secs\":%.3f,"
           "\"sent_total\":%lld,\"answered_total\":%lld,\"ok\":%lld,\"bad\":%lld,\"err\":%lld,"
           "\"rps\":%.1f,\"peak\":%lld,\"events\":%lld,\"late\":%lld",
           opt.port, opt.conns, connected_count, opt.rate, opt.stream, took, sent_total,
           answered_total, ok, bad, errors, took > 0 ? ok / took : 0, peak, events_total, late);
    print_series("lat", &latency);
    print_series("svc", &service);
    print_series("ttfb", &first_byte);
    if (opt.refusals) {
        printf(",\"refused\":%lld,\"served_total\":%lld", refused, served_total);
        print_series("refusal", &refusal);
    }
    if (opt.stream) {
        print_series("ttft", &first_event);
    }
    if (opt.gap_ms) {
        print_series("lateness", &lateness);
    }
    printf("}\n");
    return 0;
}
