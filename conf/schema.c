/*
 * schema.c - every key of headgate.yaml: one row a key. Parser, defaults, JSON Schema and the man
 * page's reference are all made from this table; a key that no code serves yet has S_LATER.
 */
#include "conf/schema.h"

#define GROUPS(X)                               \
    X(G_NONE, "", NULL)                         \
    X(G_ROOT, "top level", NULL)                \
    X(G_LISTEN, "listen", NULL)                 \
    X(G_PUBLIC, "listen.public", NULL)          \
    X(G_ACME, "acme", "email")                  \
    X(G_EAB, "acme.eab", NULL)                  \
    X(G_TLS, "tls", NULL)                       \
    X(G_CERT, "certificate", NULL)              \
    X(G_HSTS, "hsts", "max_age")                \
    X(G_USER, "user", "file")                   \
    X(G_LOG, "log", "level")                    \
    X(G_ACCESS, "log.access", "format")         \
    X(G_METRICS, "metrics", "listen")           \
    X(G_ADMIN, "admin", "socket")               \
    X(G_LIMITS, "limits", NULL)                 \
    X(G_TIMEOUTS, "timeouts", NULL)             \
    X(G_STREAM, "stream", "service")            \
    X(G_SITE, "site", NULL)                     \
    X(G_BASIC_AUTH, "basic_auth", "users")      \
    X(G_HEADERS, "headers", NULL)               \
    X(G_TO_BACKEND, "headers.to_backend", NULL) \
    X(G_RATE, "rate_limit", "rate")             \
    X(G_GRPC, "grpc", "service")                \
    X(G_SERVICE, "service", "url")              \
    X(G_READY, "ready", NULL)                   \
    X(G_HEALTH, "health", "interval")           \
    X(G_STOP, "stop", "signal")                 \
    X(G_RESTART, "restart", NULL)               \
    X(G_BACKEND_TLS, "backend_tls", "ca")       \
    X(G_ROUTE, "route", NULL)                   \
    X(G_STATIC, "static", NULL)                 \
    X(G_RELEASES, "releases", "from")           \
    X(G_SITE_LIMITS, "limits", NULL)            \
    X(G_SITE_TIMEOUTS, "timeouts", NULL)        \
    X(G_ROUTE_LIMITS, "limits", NULL)           \
    X(G_ROUTE_TIMEOUTS, "timeouts", NULL)

static const struct {
    const char *title, *main_key;
} groups[G_COUNT] = {
#define X(id, title, main_key) [id] = {title, main_key},
    GROUPS(X)
#undef X
};

/* Columns: where, name, type, shape, flags, details (map, names, values, later), default, doc. */
#define K(in_, name_, type_, shape_, flags_, def_, doc_, ...) \
    {.in = in_,                                               \
     .name = name_,                                           \
     .type = type_,                                           \
     .shape = shape_,                                         \
     .flags = flags_,                                         \
     .def = def_,                                             \
     .doc = doc_,                                             \
     __VA_ARGS__},

/* clang-format off */
const struct schema_key schema_keys[] = {
    K(G_ROOT, "include", T_PATH, LIST, S_NONE, "[]",
      "More files, read as if they were part of this one; globs allowed.")
    K(G_ROOT, "state", T_PATH, ONE, 0, "/var/lib/headgate",
      "What headgate keeps: certificates, keys, releases, data of services. Not root: "
      "$STATE_DIRECTORY of a systemd unit, else $XDG_STATE_HOME/headgate.")
    K(G_ROOT, "runtime", T_PATH, ONE, 0, "/run/headgate",
      "Sockets of this run. Not root: $RUNTIME_DIRECTORY of a systemd unit, else "
      "$XDG_RUNTIME_DIR/headgate.")
    K(G_ROOT, "user", T_STRING, ONE, 0, "headgate",
      "Account of the workers and the agent, when started as root.")
    K(G_ROOT, "service_uids", T_UIDS, ONE, 0, "61184-65519",
      "Where the services' own users come from, when started as root.")
    K(G_ROOT, "workers", T_COUNT, ONE, S_AUTO, "auto",
      "Worker processes; auto: one a CPU.", .values = "1-256")
    K(G_ROOT, "listen", T_MAP, ONE, 0, NULL,
      "Where headgate accepts connections.", .map = G_LISTEN)
    K(G_ROOT, "proxy_protocol", T_CIDR, LIST, S_OFF | S_NONE, "off",
      "Load balancers, by network, that must name the client in a PROXY protocol header (version 1 or "
      "2) in front of everything, TLS too, within timeouts.handshake; unix: who comes by a Unix "
      "socket. Anyone else is served as is.")
    K(G_ROOT, "trusted_proxies", T_CIDR, LIST, S_NONE, "[]",
      "Proxies in front of headgate, by network; unix: who comes by a Unix socket. X-Forwarded-For "
      "from them tells the client (from the right, the first address that is none of them), "
      "X-Forwarded-Proto the scheme; -Host and -Port go on to backends. From anyone else these "
      "fields are replaced. They are exempt from limits.per_ip.")
    K(G_ROOT, "acme", T_MAP, ONE, 0, NULL,
      "Certificates from an ACME authority, one for each host that tls.issuer has from there and "
      "that tls.certificates do not cover. Writing it, be it `acme: {}`, agrees to the "
      "authority's terms of service.", .map = G_ACME)
    K(G_ROOT, "tls", T_MAP, ONE, 0, NULL,
      "TLS of all hosts; channels and sites put theirs over it.", .map = G_TLS)
    K(G_ROOT, "users", T_MAP, NAMED, S_LATER, "{}",
      "Password files for basic_auth.", .map = G_USER, .names = N_NAME)
    K(G_ROOT, "log", T_MAP, ONE, 0, NULL,
      "headgate's own log and the access log.", .map = G_LOG)
    K(G_ROOT, "metrics", T_MAP, ONE, S_OFF, NULL,
      "Metrics, /healthz and /readyz of headgate itself.", .map = G_METRICS)
    K(G_ROOT, "admin", T_MAP, ONE, 0, NULL,
      "The socket that `headgate status` and its like talk to.", .map = G_ADMIN)
    K(G_ROOT, "limits", T_MAP, ONE, 0, NULL,
      "What one client or request may take; 0: unlimited.", .map = G_LIMITS)
    K(G_ROOT, "timeouts", T_MAP, ONE, 0, NULL,
      "How long headgate waits; 0: for ever.", .map = G_TIMEOUTS)
    K(G_ROOT, "streams", T_MAP, NAMED, 0, "{}",
      "Raw TCP by address, such as \":4222\": whatever a connection says goes to a service, TLS ended here.", .map = G_STREAM, .names = N_ANY)
    K(G_ROOT, "channel_defaults", T_MAP, ONE, 0, NULL,
      "What the channels share: merged into each of them.", .map = G_SITE)
    K(G_ROOT, "channels", T_MAP, NAMED, 0, "{}",
      "Release channels by name.", .map = G_SITE, .names = N_NAME)
    K(G_ROOT, "sites", T_MAP, NAMED, 0, "{}",
      "Further sites by name: as channels, without channel_defaults.",
      .map = G_SITE, .names = N_NAME)

    K(G_LISTEN, "http", T_LISTEN, ONE_OR_LIST, S_OFF, ":80",
      "Plain HTTP: an address, a list, or off. `:80` is every address, IPv4 and IPv6. fd:NAME: the "
      "sockets that systemd passes under this name.")
    K(G_LISTEN, "https", T_LISTEN, ONE_OR_LIST, S_OFF, ":443",
      "HTTPS: likewise.")
    K(G_LISTEN, "public", T_MAP, ONE, 0, NULL,
      "Ports written into redirects, where they differ from those listened on.", .map = G_PUBLIC)

    K(G_PUBLIC, "http", T_PORT, ONE, 0, "80",
      "Port of HTTP as clients see it.")
    K(G_PUBLIC, "https", T_PORT, ONE, 0, "443",
      "Port of HTTPS as clients see it.")

    K(G_ACME, "email", T_STRING, ONE, S_NONE, "\"\"",
      "Contact of the account: where the authority writes when something is wrong.")
    K(G_ACME, "ca", T_STRING, ONE_OR_LIST, 0, "letsencrypt",
      "letsencrypt, letsencrypt-staging, zerossl (needs eab) or the https:// URL of a directory; a "
      "list is tried in order.")
    K(G_ACME, "ca_root", T_PATH, ONE, S_NONE, "\"\"",
      "PEM that the HTTPS of an authority given by URL chains to (step-ca, Pebble). Default: the "
      "system's authorities.")
    K(G_ACME, "staging", T_STRING, ONE, S_AUTO | S_OFF, "auto",
      "Where a try that follows a failure goes first, so that mistakes cost nothing of the rate "
      "limits; auto: Let's Encrypt's staging for letsencrypt, nothing for others; off; or the "
      "https:// URL of a directory.")
    K(G_ACME, "limits", T_ENUM, ONE, 0, "auto",
      "Whose published rate limits are kept before they are hit: auto: Let's Encrypt's for "
      "letsencrypt; letsencrypt: for all of `ca`; off.", .values = "auto|letsencrypt|off")
    K(G_ACME, "challenge", T_ENUM, ONE_OR_LIST, 0, "[tls-alpn-01, http-01]",
      "How names are proven, in this order: tls-alpn-01 on port 443, http-01 on port 80, dns-01 by "
      "dns_hook (the only one for names such as *.example.org).",
      .values = "tls-alpn-01|http-01|dns-01")
    K(G_ACME, "dns_hook", T_PATH, ONE, S_NONE, "\"\"",
      "Program that writes TXT records, called with: present|cleanup NAME VALUE. It ends with 0 "
      "when the record can be seen, after 5 minutes at most; it runs as `user`, with PATH, HOME "
      "and LANG in its environment.")
    K(G_ACME, "key", T_ENUM, ONE, 0, "p256",
      "Kind of the certificates' keys.", .values = "p256|p384|rsa2048")
    K(G_ACME, "eab", T_MAP, ONE, 0, NULL,
      "External account binding: what the authority gave you to be known by.", .map = G_EAB)
    K(G_ACME, "profile", T_STRING, ONE, S_NONE, "\"\"",
      "Certificate profile of the authority, e.g. shortlived. Left out where it has none of this "
      "name.")
    K(G_ACME, "chain", T_STRING, ONE, S_NONE, "\"\"",
      "Where the authority offers several chains: the common name of the root that is wanted at the "
      "top, e.g. ISRG Root X1. Default: the first one.")
    K(G_ACME, "renew", T_DURATION, ONE, S_AUTO, "auto",
      "How long before the end to renew; auto: when the authority says (ARI), else at a third of "
      "the lifetime left.")

    K(G_EAB, "kid", T_STRING, ONE, S_NONE, "\"\"",
      "Key identifier.")
    K(G_EAB, "hmac", T_STRING, ONE, S_NONE | S_SECRET, "\"\"",
      "HMAC key, base64url.")

    K(G_TLS, "issuer", T_ENUM, ONE, 0, "auto",
      "Who signs. auto: the local CA for localhost, *.localhost, *.local, *.internal, *.lan, "
      "*.home.arpa, single labels and IP addresses; acme for the rest, see `acme`. passthrough, for a channel or site: TLS is not "
      "ended here, connections that ask for its host (SNI) go to the service of its only route as they are.",
      .values = "auto|acme|local|passthrough")
    K(G_TLS, "min_version", T_ENUM, ONE, 0, "\"1.2\"",
      "Oldest TLS version taken.", .values = "1.2|1.3")
    K(G_TLS, "certificates", T_MAP, LIST, S_NONE, "[]",
      "Given certificates; they win over the issuer, chosen by name.", .map = G_CERT)
    K(G_TLS, "hsts", T_MAP, ONE, S_OFF, "off",
      "Strict-Transport-Security.", .map = G_HSTS)
    K(G_TLS, "unknown_sni", T_ENUM, ONE, 0, "reject",
      "Names that no site claims: refuse the handshake, or show the local CA's certificate.",
      .values = "reject|local")

    K(G_CERT, "cert", T_PATH, ONE, 0, NULL,
      "PEM file with the chain, leaf first; one * allowed.")
    K(G_CERT, "key", T_PATH, ONE, 0, NULL,
      "PEM file with the key; * stands for what it stood for in cert. Default: the file of cert.")

    K(G_HSTS, "max_age", T_DURATION, ONE, 0, "365d",
      "How long browsers insist on HTTPS.")
    K(G_HSTS, "subdomains", T_BOOL, ONE, 0, "off",
      "Names below the host too.")
    K(G_HSTS, "preload", T_BOOL, ONE, 0, "off",
      "Consent to the browsers' built-in lists.")

    K(G_USER, "file", T_PATH, ONE, 0, NULL,
      "htpasswd file with bcrypt, argon2id or sha512-crypt.")

    K(G_LOG, "level", T_ENUM, ONE, 0, "info",
      "Least severe events that are logged.", .values = "debug|info|warn|error")
    K(G_LOG, "access", T_MAP, ONE, S_OFF, NULL,
      "One line a request.", .map = G_ACCESS)

    K(G_ACCESS, "format", T_ENUM, ONE, S_OFF, "json",
      "Form of the lines.", .values = "json|combined")
    K(G_ACCESS, "to", T_STRING, ONE, 0, "stdout",
      "stdout, stderr or a file; it is opened again when it was moved.")
    K(G_ACCESS, "query", T_BOOL, ONE, 0, "off",
      "Write the query string too.")
    K(G_ACCESS, "exclude", T_STRING, LIST, S_NONE, "[]",
      "Paths that are not logged: exact, or with / at the end a prefix.")

    K(G_METRICS, "listen", T_LISTEN, ONE, S_OFF, "\"127.0.0.1:9145\"",
      "Where GET /metrics, /healthz and /readyz are answered, over plain HTTP: an address, or off.")

    K(G_ADMIN, "socket", T_PATH, ONE, 0, "$runtime/admin.sock",
      "Path of the socket.")
    K(G_ADMIN, "mode", T_MODE, ONE, 0, "\"0660\"",
      "Its mode, octal.")
    K(G_ADMIN, "group", T_STRING, ONE, 0, "headgate",
      "Its group; the default is passed over where there is no such group.")

    K(G_LIMITS, "connections", T_COUNT, ONE, 0, "20000",
      "Client connections at a time, shared out evenly among the workers.")
    K(G_LIMITS, "per_ip", T_COUNT, ONE, 0, "200",
      "Client connections at a time from one address (of IPv6: one /64), over all workers; more are "
      "reset at once. Behind a proxy_protocol header the address that it names counts. "
      "trusted_proxies and Unix sockets are exempt.")
    K(G_LIMITS, "header", T_SIZE, ONE, 0, "32KiB",
      "Request line and header fields together.", .values = "256-1048576")
    K(G_LIMITS, "uri", T_SIZE, ONE, 0, "16KiB",
      "The request's target.", .values = "64-1048576")
    K(G_LIMITS, "headers", T_COUNT, ONE, 0, "100",
      "Number of header fields.", .values = "8-4096")
    K(G_LIMITS, "body", T_SIZE, ONE, 0, "0",
      "Request body; bodies are streamed, so 0 (unlimited) costs no memory.")
    K(G_LIMITS, "streams", T_COUNT, ONE, 0, "128",
      "HTTP/2 streams at a time on one connection.", .values = "1-10000")

    K(G_SITE_LIMITS, "body", T_SIZE, ONE, 0, NULL,
      "Request body.")
    K(G_SITE_LIMITS, "streams", T_COUNT, ONE, 0, NULL,
      "HTTP/2 streams at a time on one connection that was opened for a name of this site.",
      .values = "1-10000")

    K(G_ROUTE_LIMITS, "body", T_SIZE, ONE, 0, NULL,
      "Request body.")

    K(G_TIMEOUTS, "handshake", T_DURATION, ONE, 0, "10s",
      "TLS handshake; and before it a PROXY protocol header.")
    K(G_TIMEOUTS, "header", T_DURATION, ONE, 0, "10s",
      "From a request's first byte to the end of its header.")
    K(G_TIMEOUTS, "idle", T_DURATION, ONE, 0, "75s",
      "A kept connection without a request.")
    K(G_TIMEOUTS, "body_gap", T_DURATION, ONE, 0, "30s",
      "Longest silence inside of a request body.")
    K(G_TIMEOUTS, "write_gap", T_DURATION, ONE, 0, "30s",
      "Longest time in which a client takes nothing of an answer.")
    K(G_TIMEOUTS, "connect", T_DURATION, ONE, 0, "5s",
      "Connecting to a backend.")
    K(G_TIMEOUTS, "response", T_DURATION, ONE, 0, "0",
      "From a whole request to the first byte of the backend's answer.")
    K(G_TIMEOUTS, "min_rate", T_BYTE_RATE, ONE, 0, "500B/s",
      "Slowest client that is put up with: one that sends its request body more than body_gap "
      "behind this rate, or takes its answer more than write_gap behind it, is cut. Only the time "
      "in which nothing but the client is waited for counts; streams of one HTTP/2 connection "
      "share it. Not for gRPC, WebSocket and event streams.")
    K(G_TIMEOUTS, "drain", T_DURATION, ONE, 0, "5m",
      "How long requests under way may go on when something is replaced. Streams (gRPC, "
      "WebSocket, events) are ended in the first half of it, within 10 s, each at a moment of its "
      "own.")
    K(G_TIMEOUTS, "shutdown", T_DURATION, ONE, 0, "30s",
      "How long requests under way may go on when headgate stops; streams as with drain.")

    K(G_SITE_TIMEOUTS, "body_gap", T_DURATION, ONE, 0, NULL,
      "Longest silence inside of a request body.")
    K(G_SITE_TIMEOUTS, "write_gap", T_DURATION, ONE, 0, NULL,
      "Longest time in which a client takes nothing of an answer.")
    K(G_SITE_TIMEOUTS, "connect", T_DURATION, ONE, 0, NULL,
      "Connecting to a backend.")
    K(G_SITE_TIMEOUTS, "response", T_DURATION, ONE, 0, NULL,
      "First byte of the backend's answer.")
    K(G_SITE_TIMEOUTS, "min_rate", T_BYTE_RATE, ONE, 0, NULL,
      "Slowest client that is put up with.")
    K(G_SITE_TIMEOUTS, "drain", T_DURATION, ONE, 0, NULL,
      "How long requests under way may go on when an instance of its services is replaced.")

    K(G_ROUTE_TIMEOUTS, "body_gap", T_DURATION, ONE, 0, NULL,
      "Longest silence inside of a request body.")
    K(G_ROUTE_TIMEOUTS, "write_gap", T_DURATION, ONE, 0, NULL,
      "Longest time in which a client takes nothing of an answer.")
    K(G_ROUTE_TIMEOUTS, "connect", T_DURATION, ONE, 0, NULL,
      "Connecting to a backend.")
    K(G_ROUTE_TIMEOUTS, "response", T_DURATION, ONE, 0, NULL,
      "First byte of the backend's answer.")
    K(G_ROUTE_TIMEOUTS, "min_rate", T_BYTE_RATE, ONE, 0, NULL,
      "Slowest client that is put up with.")

    K(G_STREAM, "service", T_STRING, ONE, 0, NULL,
      "CHANNEL/SERVICE: who gets the connections. Each goes to one instance, chosen by the service's balance, and "
      "waits for a ready one as requests do.")
    K(G_STREAM, "port", T_STRING, ONE, S_NONE, "\"\"",
      "Name of one of the service's ports; without: where it listens itself.")
    K(G_STREAM, "tls", T_BOOL, ONE, 0, "on",
      "End TLS here: the client begins with it (NATS: tls first), and the certificate is that of the host it names, "
      "as for https.")
    K(G_STREAM, "host", T_HOST, ONE, S_NONE, "\"\"",
      "Whose certificate a client gets that names no host; a host or alias of a site. Without: the host of the "
      "service's channel.")
    K(G_STREAM, "alpn", T_STRING, ONE_OR_LIST, S_NONE, "[]",
      "Protocols that are chosen by ALPN, best first, such as mqtt: a client that offers none of them is refused, one "
      "that offers nothing is not. Without: what clients offer is passed over.")
    K(G_STREAM, "proxy_protocol", T_ENUM, ONE, S_OFF, "off",
      "Tell the service who the client is: a header of the PROXY protocol in front of its bytes, in text (v1) or "
      "binary (v2).", .values = "v1|v2")
    K(G_STREAM, "idle", T_DURATION, ONE, 0, "1h",
      "A connection on which nothing moved for so long, either way, is closed; 0: never. Peers that are gone without "
      "a word are found by TCP keepalive, within two minutes.")

    K(G_SITE, "host", T_HOST, ONE, 0, NULL,
      "The name it answers for; \"*.example.org\", or \"*\" for what no other site claims.")
    K(G_SITE, "aliases", T_HOST, LIST, S_NONE, "[]",
      "Further names answered alike.")
    K(G_SITE, "redirect_from", T_HOST, LIST, S_NONE, "[]",
      "Names answered with 308 to host.")
    K(G_SITE, "https", T_ENUM, ONE, 0, "redirect",
      "Requests by plain HTTP: redirected, served too, or refused.", .values = "redirect|both|only")
    K(G_SITE, "robots", T_ENUM, ONE, S_OFF | S_AUTO, "auto",
      "auto: noindex where releases.channel is neither stable nor absent.",
      .values = "index|noindex")
    K(G_SITE, "basic_auth", T_MAP, ONE, S_OFF | S_LATER, "off",
      "Login with a password.", .map = G_BASIC_AUTH)
    K(G_SITE, "headers", T_MAP, ONE, 0, NULL,
      "Header fields set and removed.", .map = G_HEADERS)
    K(G_SITE, "rate_limit", T_MAP, ONE, S_OFF, "off",
      "How often one address (of IPv6: one /64) may ask, over all workers; more is answered with 429 "
      "and Retry-After, to gRPC with RESOURCE_EXHAUSTED.", .map = G_RATE)
    K(G_SITE, "compress", T_ENUM, LIST, S_OFF, "[br, zstd, gzip]",
      "Compression of answers, in order of preference.", .values = "br|zstd|gzip")
    K(G_SITE, "errors", T_PATH, NAMED, 0, "{}",
      "Pages by status: 404, 5xx.", .names = N_STATUS)
    K(G_SITE, "grpc", T_MAP, ONE, S_OFF, NULL,
      "The service that gRPC calls go to, told by their content type before the routes.", .map = G_GRPC)
    K(G_SITE, "tls", T_MAP, ONE, 0, NULL,
      "TLS of this site, over the global one.", .map = G_TLS)
    K(G_SITE, "services", T_MAP, NAMED, 0, "{}",
      "Backends by name.", .map = G_SERVICE, .names = N_NAME)
    K(G_SITE, "routes", T_MAP, NAMED, S_WHOLE, "{}",
      "Paths: with / at the end a prefix, else exact; the longest wins.",
      .map = G_ROUTE, .names = N_ROUTE)
    K(G_SITE, "static", T_MAP, ONE, 0, NULL,
      "How presets serve files.", .map = G_STATIC)
    K(G_SITE, "releases", T_MAP, ONE, S_OFF | S_LATER, NULL,
      "Where releases come from.", .map = G_RELEASES)
    K(G_SITE, "limits", T_MAP, ONE, 0, NULL,
      "Over the global limits.", .map = G_SITE_LIMITS)
    K(G_SITE, "timeouts", T_MAP, ONE, 0, NULL,
      "Over the global timeouts.", .map = G_SITE_TIMEOUTS)

    K(G_BASIC_AUTH, "users", T_STRING, ONE, 0, NULL,
      "Name from the global users.")
    K(G_BASIC_AUTH, "realm", T_STRING, ONE, 0, "$channel",
      "What the login window says.")
    K(G_BASIC_AUTH, "session", T_DURATION, ONE, 0, "30d",
      "How long a login holds.")
    K(G_BASIC_AUTH, "except", T_STRING, LIST, S_NONE, "[]",
      "Paths that need no login.")
    K(G_BASIC_AUTH, "also", T_STRING, ONE, S_NONE, "X-Headgate-Authorization",
      "Field where native apps put the login.")

    K(G_HEADERS, "set", T_STRING, NAMED, S_NONE, "{}",
      "Fields set on the answer.", .names = N_HEADER)
    K(G_HEADERS, "remove", T_STRING, LIST, S_NONE, "[]",
      "Fields removed from the answer.")
    K(G_HEADERS, "to_backend", T_MAP, ONE, 0, NULL,
      "The same for the request to the backend.", .map = G_TO_BACKEND)

    K(G_TO_BACKEND, "set", T_STRING, NAMED, S_NONE, "{}",
      "Fields set.", .names = N_HEADER)
    K(G_TO_BACKEND, "remove", T_STRING, LIST, S_NONE, "[]",
      "Fields removed.")

    K(G_RATE, "rate", T_RATE, ONE, 0, NULL,
      "Requests in a time, in the long run: 50/s, 100/m, 1000/h.")
    K(G_RATE, "burst", T_COUNT, ONE, 0, "100",
      "Requests let through at once, after a pause.", .values = "1-1000000")

    K(G_GRPC, "service", T_STRING, ONE, S_NONE, "\"\"",
      "Service that gRPC goes to.")
    K(G_GRPC, "packages", T_STRING, NAMED, S_NONE, "{}",
      "Services by package: the longest prefix wins.", .names = N_ANY)
    K(G_GRPC, "web", T_BOOL, ONE, 0, "on",
      "Translate gRPC-Web.")
    K(G_GRPC, "cors", T_STRING, ONE_OR_LIST, S_NONE, "[]",
      "Origins of other sites that may call; \"*\": any.")
    K(G_GRPC, "max_message", T_SIZE, ONE, 0, "4MiB",
      "Largest message of a request; 0: no limit.")

    K(G_SERVICE, "run", T_STRING, LIST, S_WHOLE | S_LATE, NULL,
      "Program and arguments; headgate starts and watches it.")
    K(G_SERVICE, "url", T_URL, ONE_OR_LIST, S_WHOLE, NULL,
      "http://127.0.0.1:9001, h2c://, https://name, unix:/run/x.sock, tcp://127.0.0.1:4222 (not HTTP: for streams), or a list: a "
      "backend that runs by itself; names are resolved again and again.")
    K(G_SERVICE, "protocol", T_ENUM, ONE, 0, "http1",
      "What the backend speaks: HTTP/1.1, or HTTP/2 without asking first (h2c; grpc is the same for "
      "gRPC servers).", .values = "http1|h2c|grpc")
    K(G_SERVICE, "listen", T_SERVICE_LISTEN, ONE, S_RUN, "tcp",
      "What $listen is: tcp (127.0.0.1:PORT), unix (unix:/path), fd (a listening socket is handed "
      "over, LISTEN_FDS=1; ready by http or notify says more than tcp then), or a fixed "
      "127.0.0.1:5556.", .values = "tcp|unix|fd")
    K(G_SERVICE, "ports", T_PORT, NAMED, S_RUN | S_AUTO, "{}",
      "Further ports of 127.0.0.1, as $port:NAME: auto, or a number.", .names = N_NAME)
    K(G_SERVICE, "env", T_STRING, NAMED, S_RUN | S_LATE | S_NONE, "{}",
      "Environment of the program.", .names = N_ENV)
    K(G_SERVICE, "env_file", T_PATH, ONE, S_RUN | S_NONE, "\"\"",
      "File of NAME=value lines; env goes over it.")
    K(G_SERVICE, "cwd", T_PATH, ONE, S_RUN, "$data",
      "Working folder.")
    K(G_SERVICE, "user", T_STRING, ONE, S_RUN | S_AUTO, "auto",
      "Account, when started as root; auto: one of its own from service_uids.")
    K(G_SERVICE, "instances", T_COUNT, ONE, S_RUN, "1",
      "Processes at a time.", .values = "1-64")
    K(G_SERVICE, "balance", T_ENUM, ONE, 0, "least",
      "Which instance gets a request: the one with the fewest under way, or each in turn.", .values = "least|round")
    K(G_SERVICE, "ready", T_MAP, ONE, S_WHOLE, NULL,
      "How headgate learns that an instance is ready; default { grpc: \"\" } with protocol: grpc (over "
      "TLS { tcp: on }), else { tcp: on }.", .map = G_READY)
    K(G_SERVICE, "health", T_MAP, ONE, 0, NULL,
      "How it looks after that; a service with url is looked at where this or ready is written.", .map = G_HEALTH)
    K(G_SERVICE, "start_timeout", T_DURATION, ONE, S_RUN, "30s",
      "An instance that is not ready by then is stopped and started anew.")
    K(G_SERVICE, "stop", T_MAP, ONE, S_RUN, NULL,
      "How an instance is ended.", .map = G_STOP)
    K(G_SERVICE, "restart", T_MAP, ONE, S_RUN, NULL,
      "Pauses between starts of a program that dies: doubled from min to max.", .map = G_RESTART)
    K(G_SERVICE, "strategy", T_ENUM, ONE, S_RUN, "overlap",
      "overlap: the new instance is ready before the old one stops. handover: requests wait, streams "
      "are ended, the old one stops, the new one starts; for a service that owns its data.",
      .values = "overlap|handover")
    K(G_SERVICE, "wait_ready", T_DURATION, ONE, S_AUTO, "auto",
      "How long a request waits for a ready instance before 503; auto: 10s, with strategy: handover "
      "stop.timeout and start_timeout together.")
    K(G_SERVICE, "host_header", T_STRING, ONE, 0, "client",
      "Host field sent: client, backend, or a name.")
    K(G_SERVICE, "backend_tls", T_MAP, ONE, 0, NULL,
      "TLS to backends with https://; chain and name are always checked.", .map = G_BACKEND_TLS)
    K(G_SERVICE, "memory", T_SIZE, ONE, S_RUN, "0",
      "Memory that an instance may use, all its processes together, before the kernel kills it; needs a "
      "delegated cgroup, as the shipped units have it; else status says that there is no limit.")
    K(G_SERVICE, "open_files", T_COUNT, ONE, S_RUN, "0",
      "Descriptors that a process of it may open; 0: as many as headgate may.",
      .values = "0-1073741816")

    K(G_READY, "http", T_STRING, ONE, 0, NULL,
      "Path that answers 2xx or 3xx.")
    K(G_READY, "port", T_STRING, ONE, 0, NULL,
      "Name of the port that is asked.")
    K(G_READY, "grpc", T_STRING, ONE, S_NONE, NULL,
      "grpc.health.v1.Health/Check of this name says SERVING; \"\" asks for the whole server. One that "
      "answers UNIMPLEMENTED, since it has no health service, is taken as ready, and the log says so.")
    K(G_READY, "tcp", T_BOOL, ONE, 0, NULL,
      "It accepts a connection.")
    K(G_READY, "notify", T_BOOL, ONE, 0, NULL,
      "It says READY=1 to NOTIFY_SOCKET; STOPPING=1 and STATUS= are understood too.")

    K(G_HEALTH, "interval", T_DURATION, ONE, 0, "5s",
      "Time between two looks.")
    K(G_HEALTH, "timeout", T_DURATION, ONE, 0, "1s",
      "Time for an answer.")
    K(G_HEALTH, "failures", T_COUNT, ONE, 0, "3",
      "So many in a row and it gets no new requests.", .values = "1-1000")

    K(G_STOP, "signal", T_ENUM, ONE, 0, "TERM",
      "Signal sent to all processes of the instance.", .values = "TERM|INT|HUP|QUIT|USR1|USR2|KILL")
    K(G_STOP, "timeout", T_DURATION, ONE, 0, "30s",
      "What is left then is killed.")

    K(G_RESTART, "min", T_DURATION, ONE, 0, "250ms",
      "First pause.")
    K(G_RESTART, "max", T_DURATION, ONE, 0, "60s",
      "Longest pause.")

    K(G_BACKEND_TLS, "ca", T_STRING, ONE, 0, "system",
      "Whom to trust: system, or a PEM file.")
    K(G_BACKEND_TLS, "name", T_STRING, ONE, S_NONE, "\"\"",
      "Name the certificate must have; without: the one in url.")
    K(G_BACKEND_TLS, "cert", T_PATH, ONE, S_NONE, "\"\"",
      "Client certificate.")
    K(G_BACKEND_TLS, "key", T_PATH, ONE, S_NONE, "\"\"",
      "Its key.")

    K(G_ROUTE, "proxy", T_STRING, ONE, S_HANDLER, NULL,
      "Passes requests to this service.")
    K(G_ROUTE, "files", T_PATH, ONE, S_HANDLER, NULL,
      "Serves the files of this folder.")
    K(G_ROUTE, "redirect", T_TARGET, ONE, S_HANDLER, NULL,
      "Redirects to this path or URL; what follows the prefix is appended when both end in /.")
    K(G_ROUTE, "respond", T_STRING, ONE, S_HANDLER | S_NONE, NULL,
      "Answers with this text.")
    K(G_ROUTE, "flutter", T_PATH, ONE, S_HANDLER | S_LATER, NULL,
      "Serves a Flutter Web build.")
    K(G_ROUTE, "hugo", T_PATH, ONE, S_HANDLER | S_LATER, NULL,
      "Serves a Hugo site.")
    K(G_ROUTE, "strip_prefix", T_BOOL, ONE, 0, "off",
      "proxy: the backend sees the path without the route's prefix.")
    K(G_ROUTE, "proxy_protocol", T_ENUM, ONE, S_OFF, "off",
      "proxy, with tls.issuer passthrough: tell the service who the client is, by a header of the PROXY protocol in "
      "text (v1) or binary (v2).", .values = "v1|v2")
    K(G_ROUTE, "websocket", T_BOOL, ONE, 0, "on",
      "proxy: let WebSocket through, to the backend always as HTTP/1.1; off: it is refused with 403.")
    K(G_ROUTE, "index", T_STRING, ONE, S_OFF | S_NONE, "index.html",
      "files: served for a folder.")
    K(G_ROUTE, "listing", T_BOOL, ONE, 0, "off",
      "files: list a folder without index.")
    K(G_ROUTE, "fallback", T_STRING, ONE, S_NONE, "\"\"",
      "files: served for what does not exist.")
    K(G_ROUTE, "status", T_STATUS, ONE, 0, NULL,
      "redirect: 301, 302, 303, 307 or 308 (default); respond: 200 to 599, default 200.")
    K(G_ROUTE, "pin", T_BOOL, ONE, S_LATER, "on",
      "flutter: a page loaded once gets all its files from one release.")
    K(G_ROUTE, "isolation", T_BOOL, ONE, S_LATER, "off",
      "flutter: cross-origin isolation, for WebAssembly threads.")
    K(G_ROUTE, "base_href", T_STRING, ONE, S_AUTO | S_LATER, "auto",
      "flutter: base of the page's links.")
    K(G_ROUTE, "headers", T_MAP, ONE, 0, NULL,
      "Over the site's.", .map = G_HEADERS)
    K(G_ROUTE, "limits", T_MAP, ONE, 0, NULL,
      "Over the site's.", .map = G_ROUTE_LIMITS)
    K(G_ROUTE, "timeouts", T_MAP, ONE, 0, NULL,
      "Over the site's.", .map = G_ROUTE_TIMEOUTS)
    K(G_ROUTE, "rate_limit", T_MAP, ONE, S_OFF, NULL,
      "In the place of the site's, counted apart from it.", .map = G_RATE)
    K(G_ROUTE, "basic_auth", T_MAP, ONE, S_OFF | S_LATER, NULL,
      "Over the site's.", .map = G_BASIC_AUTH)
    K(G_ROUTE, "robots", T_ENUM, ONE, S_OFF | S_AUTO, NULL,
      "Over the site's.", .values = "index|noindex")

    K(G_STATIC, "keep_releases", T_COUNT, ONE, S_LATER, "5",
      "Releases whose files are still served.")
    K(G_STATIC, "keep_for", T_DURATION, ONE, S_LATER, "7d",
      "For how long.")
    K(G_STATIC, "dotfiles", T_ENUM, ONE, 0, "deny",
      "Files that begin with a dot; /.well-known/ is always served.", .values = "deny|allow")

    K(G_RELEASES, "from", T_STRING, ONE, 0, NULL,
      "Binary server: https://, http:// (loopback only) or a folder.")
    K(G_RELEASES, "project", T_STRING, ONE, 0, NULL,
      "Polls FROM/PROJECT/CHANNEL/.")
    K(G_RELEASES, "channel", T_STRING, ONE, 0, "$channel",
      "Channel there; sites: stable.")
    K(G_RELEASES, "artifacts", T_STRING, NAMED, S_NONE, "{}",
      "NAME under $release and its GoReleaser project name.", .names = N_NAME)
    K(G_RELEASES, "key", T_STRING, ONE_OR_LIST, S_NONE, "\"\"",
      "minisign public key, or a list (rotation); empty only for a folder.")
    K(G_RELEASES, "login", T_STRING, ONE, S_NONE | S_SECRET, "\"\"",
      "USER:$secret:NAME, for a private binary server.")
    K(G_RELEASES, "every", T_DURATION, ONE, 0, "1m",
      "Time between two looks.")
    K(G_RELEASES, "auto", T_BOOL, ONE, 0, "on",
      "off: wait for `headgate deploy`.")
    K(G_RELEASES, "soak", T_DURATION, ONE, 0, "10m",
      "Watch a new release this long; roll back by itself.")
};
/* clang-format on */
const unsigned schema_n_keys = ARRAY_LEN(schema_keys);

const struct schema_key *schema_find(enum schema_group in, struct str name)
{
    for (unsigned i = 0; i < schema_n_keys; i++)
        if (schema_keys[i].in == in && str_eq(str_of(schema_keys[i].name), name))
            return &schema_keys[i];
    return NULL;
}

const char *schema_main_key(enum schema_group map)
{
    return groups[map].main_key;
}

const char *schema_group_title(enum schema_group map)
{
    return groups[map].title;
}

const char *schema_type_words(const struct schema_key *k)
{
    static const char *const words[] = {
        [T_STRING] = "text",
        [T_BOOL] = "on or off",
        [T_COUNT] = "a number",
        [T_PORT] = "a port",
        [T_SIZE] = "a size such as 10MiB",
        [T_DURATION] = "a duration such as 30s",
        [T_BYTE_RATE] = "bytes a second such as 500B/s",
        [T_RATE] = "a rate such as 50/s",
        [T_ENUM] = "a word",
        [T_PATH] = "a path",
        [T_ADDR] = "an address such as \":443\" or \"127.0.0.1:8080\"",
        [T_LISTEN] = "an address such as \":443\", \"127.0.0.1:8080\", unix:/path or fd:NAME",
        [T_HOST] = "a host name",
        [T_NAME] = "a name",
        [T_URL] = "a URL such as http://127.0.0.1:9001 or unix:/run/x.sock",
        [T_MODE] = "an octal mode such as \"0660\"",
        [T_UIDS] = "a range of user ids such as 61184-65519",
        [T_STATUS] = "an HTTP status",
        [T_TARGET] = "a path or a URL",
        [T_CIDR] = "a network such as 10.0.0.0/8, or unix",
        [T_SERVICE_LISTEN] = "tcp, unix, fd, or a fixed 127.0.0.1:PORT",
        [T_MAP] = "a map",
    };
    return words[k->type];
}

bool schema_has_word(const char *words, struct str word)
{
    struct str rest = str_of(words), piece;
    while (rest.n && str_split(&rest, '|', &piece))
        if (str_eq(piece, word))
            return true;
    return false;
}
