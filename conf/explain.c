/*
 * explain.c - the one list of codes: what each diagnostic means, with an example of wrong and
 * right. `headgate explain CODE` prints from it; a test sees to it that each code has a case.
 */
#include "conf/explain.h"
#include "conf/conf.h"

struct entry {
    const char *code, *title, *text, *wrong, *right;
};

/* clang-format off */
static const struct entry entries[] = {
    {"E001", "a file cannot be read",
     "The file named does not exist, is no regular file, is larger than 1 MiB, or may not "
     "be read by the account that headgate runs under. The message says which, with the "
     "mode and the owner where rights are missing.",
     "include: [sites.yaml]        # there is only site.yaml",
     "include: [site.yaml]"},
    {"E002", "not YAML",
     "The text breaks YAML's own grammar: a bracket or quote that is not closed, a missing "
     "`:`, a line whose indentation fits nothing above. The place shown is where it was "
     "noticed; the cause may stand a line above.",
     "listen: { http: \":80\"",
     "listen: { http: \":80\" }"},
    {"E003", "an unknown key",
     "No key of this name exists at this place. Words of other servers are known, and the "
     "hint names headgate's own.",
     "stable: { server_name: www.example.org }",
     "stable: { host: www.example.org }"},
    {"E004", "not available in this version",
     "The key or the value is part of headgate's language, but no code serves it yet. It is "
     "refused rather than ignored, so that nothing is thought to be on that is not. Leave "
     "it away until a version that has it.",
     "compress: [br, gzip]",
     "# nothing"},
    {"E005", "a value of the wrong shape",
     "A map, a list, or a single value stands where one of the others is needed, or nothing "
     "at all.",
     "run: ./server --listen $listen",
     "run: [./server, --listen, $listen]"},
    {"E010", "a tab as indentation",
     "YAML indents by spaces. Tabs look different in every editor and are refused before "
     "the first word of a line.",
     "channels:\n<TAB>stable: …",
     "channels:\n  stable: …"},
    {"E011", "a key given twice",
     "The same key stands twice in one map. YAML parsers differ in which one they take; "
     "headgate takes neither.",
     "stable: { host: a.example.org, host: b.example.org }",
     "stable: { host: a.example.org, aliases: [b.example.org] }"},
    {"E012", "an anchor",
     "Anchors (`&name`) make a file say something else than what stands there. What "
     "channels share goes into channel_defaults. A text that begins with & needs quotes.",
     "services: &all { api: http://127.0.0.1:9001 }",
     "channel_defaults: { services: { api: http://127.0.0.1:9001 } }"},
    {"E013", "an alias",
     "Aliases (`*name`) refer to anchors, which do not exist here. A text that begins with "
     "* needs quotes.",
     "host: *wild",
     "host: \"*.example.org\""},
    {"E014", "a merge key",
     "`<<` merges maps in some YAML parsers. What channels share goes into channel_defaults.",
     "beta: { <<: *base, host: beta.example.org }",
     "channel_defaults: { https: only }\nchannels: { beta: { host: beta.example.org } }"},
    {"E015", "a tag or directive",
     "Tags (`!!str`) and directives (`%YAML`, `%TAG`) change how values are read. Here the "
     "key says what type a value has.",
     "min_version: !!str 1.2",
     "min_version: \"1.2\""},
    {"E016", "several documents",
     "One file holds one document. Use `include` for several files.",
     "listen: { http: \":80\" }\n---\nchannels: {}",
     "listen: { http: \":80\" }\nchannels: {}"},
    {"E017", "a NUL character",
     "A NUL is in no text file: the file is damaged, or saved in another encoding such as "
     "UTF-16.",
     "(bytes that are no text)",
     "(the file saved as UTF-8)"},
    {"E018", "bytes that are no text",
     "The file is not UTF-8, or holds control characters.",
     "(a file saved as Latin-1)",
     "(the file saved as UTF-8)"},
    {"E019", "a key without a value in { }",
     "In { } a comma ends the value. `{ a: x=(), b }` is two keys to YAML, and the second "
     "one has no value.",
     "set: { Permissions-Policy: camera=(), microphone=() }",
     "set: { Permissions-Policy: \"camera=(), microphone=()\" }"},
    {"E020", "a value that needs quotes",
     "YAML reads `*`, `[`, `:`, `%`, `@` and a backtick at the beginning of a value, and `: "
     "` inside of it, as signs of its own. The message shows the line mended.",
     "host: *.example.org",
     "host: \"*.example.org\""},
    {"E021", "nested too deep",
     "No key of headgate.yaml stands deeper than 7 levels; 24 is where reading ends.",
     "a: { b: { c: { … } } }",
     "a: …"},
    {"E022", "too much",
     "A file has more than 20000 keys and values, a value has more than 100 placeholders or "
     "becomes longer than 256 KiB, or more than 1000 files are included.",
     "include: [\"*\"]",
     "include: [conf.d/*.yaml]"},
    {"E023", "nothing in the file",
     "The file is empty, or is not a map of keys at its top.",
     "- channels",
     "channels: {}"},
    {"E024", "a key that is no word",
     "Maps and lists cannot be keys, and a key is not empty.",
     "[a, b]: c",
     "\"[a, b]\": c"},
    {"E030", "a unit is missing",
     "Durations, sizes and rates are written with their unit, so that nobody has to guess "
     "between seconds and milliseconds. 0 needs none.",
     "start_timeout: 30",
     "start_timeout: 30s"},
    {"E031", "a number that does not fit",
     "It is no number, out of range, or not among the numbers that make sense there.",
     "workers: 0.5",
     "workers: 2"},
    {"E032", "neither on nor off",
     "on, true, yes and off, false, no are understood.",
     "strip_prefix: maybe",
     "strip_prefix: on"},
    {"E033", "an unknown word",
     "The key takes one of a few words; the hint lists them.",
     "https: always",
     "https: only"},
    {"E034", "a wrong address",
     "Listening addresses are \":443\" (all of the machine's, IPv4 and IPv6), "
     "\"127.0.0.1:8080\" or \"[::1]:8080\". Names are not looked up. A network is an address and "
     "the length of its prefix, such as 10.0.0.0/8 or 2001:db8::/32; without a length it is the "
     "address alone. unix stands for whoever comes by a Unix socket.",
     "listen: { http: localhost:80 }",
     "listen: { http: \"127.0.0.1:80\" }"},
    {"E035", "a wrong host name",
     "A host is a DNS name in ASCII (names in other scripts in their xn-- form), an IP "
     "address, \"*.example.org\" or \"*\".",
     "host: https://www.example.org/",
     "host: www.example.org"},
    {"E036", "a wrong URL of a backend",
     "A backend is http://HOST:PORT, h2c://HOST:PORT, https://HOST:PORT, unix:/path, or tcp://HOST:PORT where it "
     "does not speak HTTP; without path, user name and password.",
     "url: 127.0.0.1:9001",
     "url: http://127.0.0.1:9001"},
    {"E037", "a wrong path or target",
     "Routes and paths begin with / and are written decoded and normalised. Redirects lead "
     "to a path or to an http:// or https:// URL.",
     "routes: { api/: { proxy: api } }",
     "routes: { /api/: { proxy: api } }"},
    {"E038", "a wrong name",
     "Channels, sites and services are named by lower-case letters, digits, - and _, "
     "because folders are named after them. Environment variables and header fields follow "
     "their own rules.",
     "channels: { Beta 2: { … } }",
     "channels: { beta-2: { … } }"},
    {"E040", "an unknown placeholder",
     "$name stands for something in every value. These exist: $project $channel $host "
     "$service $state $runtime $data $release $version $listen $port $port:NAME $instance "
     "$env:NAME $file:/path $secret:NAME. `$$` is a dollar sign, and ${name} is written "
     "where a letter follows.",
     "run: [server, --addr, $listn]",
     "run: [server, --addr, $listen]"},
    {"E041", "an environment variable is missing",
     "$env:NAME was not set when headgate started. A reload sees the environment of the "
     "running headgate.",
     "env: { DB: $env:DATABASE }",
     "# systemd: Environment=DATABASE=…"},
    {"E042", "a file behind a value cannot be read",
     "$file:/path or env_file names a file that cannot be read. $file takes up to 64 KiB of "
     "text and drops one last newline.",
     "env: { KEY: $file:/etc/app/kye }",
     "env: { KEY: $file:/etc/app/key }"},
    {"E043", "a secret is missing",
     "$secret:NAME is a systemd credential: the file NAME in $CREDENTIALS_DIRECTORY.",
     "env: { TOKEN: $secret:token }",
     "# systemd: LoadCredential=token:/etc/app/token"},
    {"E044", "a placeholder without a meaning here",
     "$listen, $port and $instance are known when an instance starts: in `run` and `env` "
     "only. $service and $data belong to a service, $channel and $host to a channel or a site.",
     "state: /var/lib/$channel",
     "state: /var/lib/headgate"},
    {"E045", "a wrong line in an env_file",
     "Lines are NAME=value, optionally with the value in quotes and `export` in front; # "
     "begins a comment. The line is not shown, as it may hold a secret.",
     "DATABASE postgres://…",
     "DATABASE=postgres://…"},
    {"E050", "a name given in two files",
     "Included files are read as if they stood in the main file: names and keys of the top "
     "level exist once.",
     "channels: { beta: … }       # in both files",
     "channels: { beta: … }       # in one of them"},
    {"E051", "a channel and a site of one name",
     "Channels and sites share one name space: data folders and services are named after them.",
     "channels: { web: … }\nsites: { web: … }",
     "channels: { web: … }\nsites: { docs: … }"},
    {"E052", "a route needs exactly one handler",
     "Each route does one thing: proxy, files, redirect or respond.",
     "/api/: { proxy: api, files: /srv/api }",
     "/api/: { proxy: api }"},
    {"E053", "a service is run or reached",
     "A service has either `run` (headgate starts it) or `url` (it runs by itself).",
     "api: { run: [server, $listen], url: http://127.0.0.1:9001 }",
     "api: { run: [server, $listen] }"},
    {"E054", "no such service",
     "proxy names a service of the same channel or site, or another one as CHANNEL/SERVICE; a "
     "stream always names CHANNEL/SERVICE.",
     "services: { api: … }\nroutes: { /: { proxy: app } }",
     "services: { api: … }\nroutes: { /: { proxy: api } }"},
    {"E055", "a host claimed twice",
     "A host name leads to one place: among all host, aliases and redirect_from it stands once.",
     "stable: { host: www.example.org }\nbeta: { host: www.example.org }",
     "stable: { host: www.example.org }\nbeta: { host: beta.example.org }"},
    {"E056", "no host",
     "A channel or site is chosen by its host. \"*\" takes what no other one claims.",
     "stable: { routes: … }",
     "stable: { host: www.example.org, routes: … }"},
    {"E057", "no routes",
     "A channel or site without routes would answer everything with 404.",
     "stable: { host: www.example.org }",
     "stable: { host: www.example.org, routes: { /: { files: /srv/www } } }"},
    {"E058", "the program does not learn where to listen",
     "headgate chooses an address for each instance and passes it by $listen "
     "(127.0.0.1:PORT or unix:/path) or $port. A program with a fixed address says so in "
     "`listen`.",
     "api: { run: [server] }",
     "api: { run: [server, --listen, $listen] }\nold: { run: [server], listen: 127.0.0.1:5556 }"},
    {"E059", "no certificate for a host",
     "Names of the internet get theirs from an ACME authority (Let's Encrypt) as soon as `acme` is "
     "written, which also agrees to its terms of service. Else give one, or let the local CA sign "
     "(browsers must trust it).",
     "stable: { host: www.example.org }",
     "acme: { email: you@example.org }\nstable: { host: www.example.org }"},
    {"E060", "a folder cannot be served",
     "It does not exist, is no folder, or the account of the workers may not read it.",
     "/: { files: /root/www }",
     "/: { files: /srv/www }"},
    {"E061", "a program cannot be run",
     "It does not exist, is not executable, or is not found in PATH (names without a "
     "slash). Relative paths start at the folder of the file that they stand in.",
     "run: [servr, $listen]",
     "run: [./server, $listen]"},
    {"E062", "a certificate cannot be used",
     "The file cannot be read, is not PEM, or key and certificate do not belong together.",
     "{ cert: www.crt, key: old.key }",
     "{ cert: www.crt, key: www.key }"},
    {"E063", "no such account",
     "The user or group named does not exist on this machine, or is root where root is not "
     "wanted.",
     "user: headgat",
     "user: headgate"},
    {"E064", "a wrong include",
     "A file is included once, and only by the main file.",
     "include: [a.yaml, a.yaml]",
     "include: [a.yaml]"},
    {"E065", "something needed is missing",
     "A key without which the others make no sense.",
     "certificates: [{ key: www.key }]",
     "certificates: [{ cert: www.crt, key: www.key }]"},
    {"E066", "an address given twice",
     "Each address is listened on once, for HTTP, for HTTPS or for a stream; each backend is listed once.",
     "listen: { http: \":8443\", https: \":8443\" }",
     "listen: { http: \":8080\", https: \":8443\" }"},
    {"E067", "nothing listens there",
     "Neither http nor https is listened on, or a site insists on https without an address "
     "for it.",
     "listen: { https: off }\nsites: { a: { https: only, … } }",
     "listen: { https: off }\nsites: { a: { https: both, … } }"},
    {"E068", "a key that does nothing, or contradicts",
     "The key has no effect beside the others. It is refused, because somebody expects "
     "something of it.",
     "api: { url: http://127.0.0.1:9001, cwd: /srv }",
     "api: { url: http://127.0.0.1:9001 }"},
    {"E069", "the host \"*\" has no certificate",
     "Names that nobody knows beforehand have no certificate of their own: \"*\" needs "
     "tls.certificates (the first one is shown) or the local CA.",
     "all: { host: \"*\", … }",
     "all: { host: \"*\", tls: { issuer: local }, … }"},
    {"E070", "nothing to serve",
     "The file has neither channels nor sites.",
     "listen: { http: \":80\" }",
     "sites: { web: { host: www.example.org, routes: { /: { files: /srv/www } } } }"},
    {"E071", "a header field that cannot be set",
     "Fields that frame a message or belong to one connection are written by headgate. Values "
     "are one line without control characters (RFC 9110 5.5), and bounded.",
     "headers: { set: { Content-Length: \"0\" } }",
     "headers: { set: { X-Frame-Options: DENY } }"},
    {"E072", "a rate_limit that cannot be kept",
     "rate is how often one address may ask in the long run, burst how many of these it may ask at "
     "once after a pause. What is used up comes back at the rate, within 30 days at most.",
     "rate_limit: { burst: 10 }",
     "rate_limit: { rate: 5/s, burst: 10 }"},
    {"E073", "an ACME authority that cannot be used",
     "acme.ca is a name that is known, or the https:// URL of a directory without user, query and "
     "fragment. `eab` is what the authority gives to be known by: both parts, hmac in base64url. "
     "The e-mail address is one, without mailto:.",
     "acme: { ca: http://ca.internal/directory }",
     "acme: { ca: https://ca.internal/directory, ca_root: /etc/headgate/ca.pem }"},
    {"E074", "a name that cannot be proven",
     "The authority looks at the host by one of acme.challenge: tls-alpn-01 needs an https "
     "address, http-01 an http address, dns-01 a dns_hook that writes the record. Names such as "
     "*.example.org are proven by dns-01 only, IP addresses not at all.",
     "listen: { http: off }\nacme: { challenge: [http-01] }",
     "listen: { http: off }\nacme: { challenge: [tls-alpn-01] }"},
    {"W001", "`off` removes nothing",
     "NAME: off takes out what a channel inherits from channel_defaults. Nothing of this "
     "name is inherited.",
     "sites: { web: { services: { api: off } } }",
     "sites: { web: { services: {} } }"},
    {"W003", "a backend that nothing leads to",
     "The service has a `url`, and neither a route nor a stream would ever lead there.",
     "services: { api: http://127.0.0.1:9001 }\nroutes: { /: { files: /srv/www } }",
     "services: { api: http://127.0.0.1:9001 }\nroutes: { /: { proxy: api } }"},
    {"W004", "a pattern without a file",
     "No file fits the pattern of include or tls.certificates.",
     "include: [conf.d/*.yml]",
     "include: [conf.d/*.yaml]"},
    {"W005", "a certificate's time",
     "A given certificate has expired, is not valid yet, or has less than a week left.",
     "(a certificate of last year)",
     "(a renewed one)"},
    {"W006", "an address that cannot be listened on now",
     "Another program listens on an address of `listen`, or the address is not this machine's. "
     "`headgate check` tries them, unless a server of this configuration runs.",
     "listen: { https: \"192.0.2.1:443\" }",
     "listen: { https: \":443\" }"},
    {"W007", "a part of acme that is never used",
     "A challenge without an address that it could come to, a dns_hook without dns-01, or a host "
     "that no authority named in acme.ca signs for.",
     "acme: { dns_hook: /etc/headgate/dns }",
     "acme: { challenge: [dns-01], dns_hook: /etc/headgate/dns }"},
    {"W008", "a host that a CA would not find",
     "`headgate check --online` looks up the name and tries the ports, as a certificate authority "
     "will: A and, where there is one, AAAA must lead to this machine. From here it can look wrong "
     "and be right (NAT, split DNS); the order is made all the same.",
     "beta.example.org.  AAAA  2001:db8::1    ; of the old machine",
     "beta.example.org.  AAAA  2001:db8::7"},
    {"W009", "a rate limit that is used up",
     "The authority signs only so much in a time, and headgate keeps to it: an order for this host "
     "waits until the moment that is named. Certificates at hand stay in service.",
     "(5 certificates for one host within 7 days)",
     "(patience, or another `ca` behind the first)"},
};
/* clang-format on */

const char *explain_code(unsigned n)
{
    return n < ARRAY_LEN(entries) ? entries[n].code : NULL;
}

const char *explain_title(unsigned n)
{
    return n < ARRAY_LEN(entries) ? entries[n].title : NULL;
}

/* Words at most `width` columns a line. */
static void write_wrapped(FILE *f, const char *text, size_t width)
{
    struct str rest = str_of(text), word;
    size_t col = 0;
    while (str_split(&rest, ' ', &word)) {
        if (col && col + 1 + word.n > width) {
            fputc('\n', f);
            col = 0;
        }
        if (col)
            fputc(' ', f);
        col += word.n + (col > 0);
        fwrite(word.p, 1, word.n, f);
    }
    fputc('\n', f);
}

static void write_example(FILE *f, const char *label, const char *text)
{
    struct str rest = str_of(text), line;
    fprintf(f, "\n%s:\n", label);
    while (str_split(&rest, '\n', &line))
        fprintf(f, "    " STR_FMT "\n", STR_ARG(line));
}

int conf_explain(const char *code, FILE *f)
{
    for (unsigned i = 0; i < ARRAY_LEN(entries); i++) {
        const struct entry *e = &entries[i];
        if (!str_ieq(str_of(e->code), str_of(code)))
            continue;
        fprintf(f, "%s: %s\n\n", e->code, e->title);
        write_wrapped(f, e->text, 80);
        write_example(f, "wrong", e->wrong);
        write_example(f, "right", e->right);
        return 0;
    }
    unsigned errors = 0;
    while (errors < ARRAY_LEN(entries) && entries[errors].code[0] == 'E')
        errors++;
    fprintf(stderr, "headgate: there is no code %s; codes are %s to %s and %s to %s\n", code,
            entries[0].code, entries[errors - 1].code, entries[errors].code,
            entries[ARRAY_LEN(entries) - 1].code);
    return 1;
}
