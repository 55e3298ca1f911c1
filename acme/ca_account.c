/*
 * ca_account.c - what must be there before a CA can be asked for anything: its directory, our key
 * and our account, on disk and with the CA. What is missing is done step by step; a crash between
 * any two leaves files from which the next start goes on.
 */
#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

#include "acme/ca_parts.h"
#include "acme/jose.h"
#include "acme/pem.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

#define FILE_MAX          (16 * 1024)
#define DIRECTORY_KEEP_MS (86400ull * 1000)
#define PROFILES_MAX      32

static void next_step(struct ca *ca);

const char account_closed_hint[] =
    "the CA has closed this account: remove account.key and account.json of this CA below acme/ in "
    "the state folder, and a new one is made";

/* Borrows fail. `refused`: what it means for all hosts when the CA does not want this step. */
static void give_up(struct ca *ca, const struct acme_fail *fail, enum acme_fail_kind refused)
{
    struct acme_fail mine = *fail;
    if (mine.kind == ACME_REFUSED) {
        mine.kind = refused;
    } else if (mine.kind == ACME_LIMITED) {
        mine.kind = ACME_BUSY;
        ca_heard(ca, &mine);
    }
    ca_prepared(ca, &mine);
}

static void give_up_text(struct ca *ca, enum acme_fail_kind kind, const char *step,
                         const char *text)
{
    struct acme_fail fail;
    acme_fail_set(&fail, kind, step, "%s", text);
    ca_prepared(ca, &fail);
}

/* ---- directory ---- */

static bool directory_fresh(const struct ca *ca)
{
    return ca->directory.arena && loop_time_left(ca->directory.at, DIRECTORY_KEEP_MS) > 0;
}

static void read_meta(struct ca_directory *d, const json_t *meta)
{
    const char *name;
    json_t *value, *profiles = json_object_get(meta, "profiles");
    d->wants_eab = json_is_true(json_object_get(meta, "externalAccountRequired"));
    d->lists_profiles = json_is_object(profiles);
    d->profiles = arena_zarray(d->arena, struct str, PROFILES_MAX);
    json_object_foreach(profiles, name, value)
    {
        if (d->n_profiles < PROFILES_MAX)
            d->profiles[d->n_profiles++] = arena_str(d->arena, str_of(name));
    }
}

/* NULL, or what is wrong with it, in d->arena. */
static const char *read_directory(const struct ca *ca, const json_t *json, struct ca_directory *d)
{
    static const struct {
        const char *name;
        bool needed;
    } members[CA_RESOURCES] = {
        [CA_NEW_NONCE] = {"newNonce", true},    [CA_NEW_ACCOUNT] = {"newAccount", true},
        [CA_NEW_ORDER] = {"newOrder", true},    [CA_REVOKE] = {"revokeCert", false},
        [CA_KEY_CHANGE] = {"keyChange", false}, [CA_RENEWAL_INFO] = {"renewalInfo", false},
    };
    for (unsigned i = 0; i < CA_RESOURCES; i++) {
        const json_t *v = json_object_get(json, members[i].name);
        struct str url = json_str(v);
        if (!v && !members[i].needed)
            continue;
        if (!ca_url_fine(ca, url))
            return arena_fmt(d->arena, "the CA's directory is not usable: %s is %s",
                             members[i].name, v ? "no URL of its own" : "missing")
                .p;
        d->urls[i] = arena_strz(d->arena, url);
    }
    read_meta(d, json_object_get(json, "meta"));
    return NULL;
}

static void on_directory(void *ctx, const struct ca_answer *a)
{
    struct ca *ca = ctx;
    ca->wire = NULL;
    if (a->fail) {
        give_up(ca, a->fail, ACME_BROKEN);
        return;
    }
    struct ca_directory d = {.arena = arena_new(4096), .at = loop_now_ms()};
    const char *err = read_directory(ca, a->json, &d);
    if (err) {
        give_up_text(ca, ACME_BROKEN, "directory", err);
        arena_free(&d.arena);
        return;
    }
    arena_free(&ca->directory.arena);
    ca->directory = d;
    next_step(ca);
}

static void ask_directory(struct ca *ca)
{
    ca_enter(ca, CA_DIRECTORY);
    struct wire_spec spec = {.url = ca->spec.directory.p, .step = "directory"};
    ca->wire = wire_start(ca, &spec, on_directory, ca);
}

/* ---- keys on disk ---- */

static const char *key_read(struct arena *a, const char *path, EVP_PKEY **out)
{
    struct str pem;
    char group[32] = "";
    const char *err = file_read(a, path, FILE_MAX, &pem);
    if (err)
        return err;
    EVP_PKEY *k = pem_key(pem);
    pem_wipe(pem);
    if (k && EVP_PKEY_get_group_name(k, group, sizeof group, NULL) == 1 &&
        strcmp(group, "prime256v1") == 0) {
        *out = k;
        return NULL;
    }
    EVP_PKEY_free(k);
    return arena_fmt(a,
                     "%s holds no P-256 key: bring it back from a backup, or remove it, and a new "
                     "account is made",
                     path)
        .p;
}

static const char *key_write(const struct ca *ca, struct arena *a, const char *path, EVP_PKEY *key)
{
    struct str pem = pem_of_key(a, key);
    const char *err = file_mkdirs(a, ca->folder, 0700, (uid_t)-1, (gid_t)-1);
    if (!err)
        err = file_write(a, path, pem, 0600);
    pem_wipe(pem);
    return err;
}

static bool is_there(const char *path)
{
    return access(path, F_OK) == 0 || errno != ENOENT;
}

static void use_key(struct ca *ca, EVP_PKEY **key)
{
    EVP_PKEY_free(ca->key);
    ca->key = *key;
    *key = NULL;
}

/* ---- the account on disk ---- */

static void use_email(struct ca *ca, struct str email)
{
    free(ca->email);
    ca->email = strndup(email.n ? email.p : "", email.n);
    ASSERT(ca->email);
}

static void use_kid(struct ca *ca, struct str kid)
{
    struct out o = out_on(ca->kid, sizeof ca->kid - 1);
    out_str(&o, kid);
    ASSERT(!o.over); /* ca_url_fine looked at it */
    ca->kid[o.n] = '\0';
}

/* Not needed to go on: without it the next start asks the CA which account the key has. */
static void account_write(const struct ca *ca)
{
    if (!*ca->kid)
        return;
    struct arena *a = arena_new(4096);
    json_t *j = json_object();
    json_object_set_new(j, "kid", json_string(ca->kid));
    json_object_set_new(j, "email", json_text(str_of(ca->email)));
    json_object_set_new(j, "directory", json_text(ca->spec.directory));
    json_object_set_new(j, "key", json_string(jose_thumbprint(a, ca->key).p));
    char *text = json_dumps(j, JSON_INDENT(2));
    ASSERT(text);
    const char *err = file_write(a, ca->account_path, str_of(text), 0600);
    if (err)
        log_warn("the ACME account is not noted", "ca", "%s", ca->spec.name.p, "cause", "%s", err);
    free(text);
    json_decref(j);
    arena_free(&a);
}

/* One that is damaged, of another key, or of another CA under this name, is as good as none. */
static void account_read(struct ca *ca, struct arena *a)
{
    struct str text;
    const char *why, *kid, *email, *directory, *key;
    if (!is_there(ca->account_path) || file_read(a, ca->account_path, FILE_MAX, &text))
        return;
    json_t *j = json_read_object(text, 2, &why);
    if (json_unpack(j, "{s:s, s:s, s:s, s:s}", "kid", &kid, "email", &email, "directory",
                    &directory, "key", &key) == 0 &&
        str_eq(str_of(directory), ca->spec.directory) && ca_url_fine(ca, str_of(kid)) &&
        str_eq(str_of(key), jose_thumbprint(a, ca->key))) {
        use_kid(ca, str_of(kid));
        use_email(ca, str_of(email));
    }
    json_decref(j);
}

/* Reads what is there; a key that is not is made, and on disk before the CA hears of it. */
static const char *load(struct ca *ca, struct arena *a)
{
    if (!is_there(ca->key_path)) {
        EVP_PKEY *key = jose_key_new();
        const char *err = key_write(ca, a, ca->key_path, key);
        if (err) {
            EVP_PKEY_free(key);
            return err;
        }
        use_key(ca, &key);
        ca->asked = true; /* nobody can know it */
        return NULL;
    }
    EVP_PKEY *key = NULL;
    const char *err = key_read(a, ca->key_path, &key);
    if (err)
        return err;
    use_key(ca, &key);
    account_read(ca, a);
    return NULL;
}

/* ---- the account with the CA ---- */

static json_t *contacts(const struct ca *ca)
{
    json_t *list = json_array();
    if (ca->spec.email.n) {
        char address[512];
        struct out o = out_on(address, sizeof address);
        out_lit(&o, "mailto:");
        out_str(&o, ca->spec.email);
        json_array_append_new(list, json_text(out_done(&o)));
    }
    return list;
}

static struct wire *ask_account(struct ca *ca, const char *url, EVP_PKEY *key, const char *kid,
                                json_t *payload, const char *step, ca_done *done)
{
    char *text = json_dumps(payload, JSON_COMPACT);
    ASSERT(text);
    struct wire_spec spec = {
        .url = url, .key = key, .kid = kid, .payload = str_of(text), .step = step};
    struct wire *w = wire_start(ca, &spec, done, ca);
    free(text);
    json_decref(payload);
    return w;
}

static bool lost(const struct acme_fail *fail)
{
    return fail && strcmp(fail->type, "accountDoesNotExist") == 0;
}

/* The first address that the CA has; "": none. */
static struct str contact_of(const json_t *account)
{
    struct str url =
        str_of(json_string_value(json_array_get(json_object_get(account, "contact"), 0)));
    return str_istarts(url, STR("mailto:")) ? str_sub(url, 7, url.n) : STR("");
}

/* False, and *fail says so: the account of an answer is of no use. */
static bool account_of(struct ca *ca, const struct ca_answer *a, struct acme_fail *fail)
{
    const char *status = json_string_value(json_object_get(a->json, "status"));
    if (!a->location.n) {
        acme_fail_set(fail, ACME_BROKEN, "newAccount",
                      "the CA's answer is not usable: it does not say which account is ours");
        return false;
    }
    if (status && strcmp(status, "valid") != 0) {
        acme_fail_set(fail, ACME_ACCOUNT, "newAccount", "the CA has closed our account (%s)",
                      status);
        fail->hint = account_closed_hint;
        return false;
    }
    struct str email = contact_of(a->json);
    use_kid(ca, a->location);
    /* Made just now: with what we said, also where the CA does not repeat it. */
    use_email(ca, a->status == 201 ? ca->spec.email : email);
    account_write(ca);
    return true;
}

/* ---- asking for an account that there may be ---- */

static void on_asked(void *ctx, const struct ca_answer *a)
{
    struct ca *ca = ctx;
    ca->wire = NULL;
    if (a->fail && !lost(a->fail)) {
        give_up(ca, a->fail, ACME_ACCOUNT);
        return;
    }
    struct acme_fail fail;
    if (!a->fail && !account_of(ca, a, &fail)) {
        ca_prepared(ca, &fail);
        return;
    }
    ca->asked = true;
    next_step(ca);
}

/* After an interrupted key change: the key that the CA knows is ours. */
static void on_asked_new(void *ctx, const struct ca_answer *a)
{
    struct ca *ca = ctx;
    ca->wire = NULL;
    if (a->fail && !lost(a->fail)) {
        give_up(ca, a->fail, ACME_ACCOUNT);
        return;
    }
    account_roll_end(ca, a->fail);
    next_step(ca);
}

static void ask_whether(struct ca *ca, EVP_PKEY *key, ca_done *done)
{
    json_t *payload = json_pack("{s:b}", "onlyReturnExisting", 1);
    ca->wire = ask_account(ca, ca_url(ca, CA_NEW_ACCOUNT), key, NULL, payload, "newAccount", done);
}

/* ---- making one, changing it ---- */

static void on_registered(void *ctx, const struct ca_answer *a)
{
    struct ca *ca = ctx;
    ca->wire = NULL;
    if (a->fail) {
        give_up(ca, a->fail, ACME_ACCOUNT);
        return;
    }
    struct acme_fail fail;
    if (!account_of(ca, a, &fail)) {
        ca_prepared(ca, &fail);
        return;
    }
    log_info("ACME account", "ca", "%s", ca->spec.name.p, "account", "%s", ca->kid, "made", "%s",
             a->status == 201 ? "now" : "before");
    next_step(ca);
}

/* RFC 8555 7.3.4. NULL, or why there is none. */
static const char *add_eab(struct ca *ca, struct arena *a, json_t *payload)
{
    struct str hmac;
    if (!ca->spec.eab_kid.n)
        return "the CA wants an account that was made with it before (external account binding)";
    if (!jose_unb64(a, ca->spec.eab_hmac, &hmac))
        return "the HMAC in acme.eab is not base64url";
    struct str eab = jose_eab(a, ca->key, ca->spec.eab_kid.p, hmac, ca_url(ca, CA_NEW_ACCOUNT));
    pem_wipe(hmac);
    json_object_set_new(payload, "externalAccountBinding", json_loadb(eab.p, eab.n, 0, NULL));
    return NULL;
}

static void register_account(struct ca *ca)
{
    struct arena *a = arena_new(4096);
    json_t *payload = json_pack("{s:b, s:o}", "termsOfServiceAgreed", 1, "contact", contacts(ca));
    const char *err = ca->directory.wants_eab ? add_eab(ca, a, payload) : NULL;
    if (err) {
        struct acme_fail fail;
        acme_fail_set(&fail, ACME_ACCOUNT, "newAccount", "%s", err);
        fail.hint = acme_hint("externalAccountRequired", NULL);
        json_decref(payload);
        ca_prepared(ca, &fail);
    } else {
        ca_enter(ca, CA_REGISTERING);
        ca->wire = ask_account(ca, ca_url(ca, CA_NEW_ACCOUNT), ca->key, NULL, payload, "newAccount",
                               on_registered);
    }
    arena_free(&a);
}

static void on_contact(void *ctx, const struct ca_answer *a)
{
    struct ca *ca = ctx;
    ca->wire = NULL;
    if (lost(a->fail)) {
        account_lost(ca);
        ca->contact_tried = true; /* or a CA that never knows it would be asked without end */
    } else if (a->fail && (a->fail->kind == ACME_BUSY || a->fail->kind == ACME_NETWORK)) {
        give_up(ca, a->fail, ACME_ACCOUNT);
        return;
    } else if (a->fail) {
        /* The account works as it is: certificates do not wait for an address. */
        log_warn("the CA does not take the e-mail address", "ca", "%s", ca->spec.name.p, "cause",
                 "%s", a->fail->text);
    } else {
        use_email(ca, ca->spec.email);
        account_write(ca);
    }
    next_step(ca);
}

static void update_contact(struct ca *ca)
{
    ca_enter(ca, CA_CONTACT);
    ca->contact_tried = true;
    json_t *payload = json_pack("{s:o}", "contact", contacts(ca));
    ca->wire = ask_account(ca, ca->kid, ca->key, ca->kid, payload, "account", on_contact);
}

void account_lost(struct ca *ca)
{
    log_warn("the CA does not know our account any more: it is made anew", "ca", "%s",
             ca->spec.name.p, "account", "%s", ca->kid);
    ca->kid[0] = '\0';
    ca->asked = true;
    ca->contact_tried = false;
    if (ca->state == CA_READY)
        ca_enter(ca, CA_COLD);
}

/* ---- a new key ---- */

const char *account_roll_begin(struct ca *ca, struct arena *a, struct str *payload)
{
    EVP_PKEY *key = jose_key_new();
    const char *err = key_write(ca, a, ca->new_key_path, key);
    if (err) {
        EVP_PKEY_free(key);
        return err;
    }
    ca->new_key = key;
    struct str jwk = jose_jwk(a, ca->key);
    json_t *inner = json_object();
    json_object_set_new(inner, "account", json_string(ca->kid));
    json_object_set_new(inner, "oldKey", json_loadb(jwk.p, jwk.n, 0, NULL));
    char *text = json_dumps(inner, JSON_COMPACT);
    ASSERT(text);
    struct jose_head head = {.url = ca_url(ca, CA_KEY_CHANGE)};
    *payload = jose_sign(a, key, &head, str_of(text));
    free(text);
    json_decref(inner);
    return NULL;
}

void account_roll_end(struct ca *ca, const struct acme_fail *fail)
{
    struct arena *a = arena_new(4096);
    bool told = fail && fail->status >= 400 && fail->status < 500;
    const char *err = NULL;
    if (!fail)
        err = key_write(ca, a, ca->key_path, ca->new_key);
    if (err) {
        /* The CA took it, and it lies aside: used now, put in place by the next start. */
        log_warn("the new account key is not in place", "ca", "%s", ca->spec.name.p, "cause", "%s",
                 err);
    } else if (!fail || told) {
        unlink(ca->new_key_path);
    }
    if (!fail) {
        use_key(ca, &ca->new_key);
        account_write(ca);
    } else if (told) {
        EVP_PKEY_free(ca->new_key);
        ca->new_key = NULL;
    }
    arena_free(&a);
}

/* ---- step by step ---- */

static const char *load_all(struct ca *ca, struct arena *a)
{
    const char *err = ca->key ? NULL : load(ca, a);
    if (err || ca->new_key || !is_there(ca->new_key_path))
        return err;
    return key_read(a, ca->new_key_path, &ca->new_key);
}

static void next_step(struct ca *ca)
{
    bool moved = ca->email && !str_eq(str_of(ca->email), ca->spec.email);
    if (!directory_fresh(ca)) {
        ask_directory(ca);
    } else if (ca->new_key) {
        ca_enter(ca, CA_ASKING_NEW);
        ask_whether(ca, ca->new_key, on_asked_new);
    } else if (!*ca->kid && !ca->asked) {
        ca_enter(ca, CA_ASKING);
        ask_whether(ca, ca->key, on_asked);
    } else if (!*ca->kid) {
        register_account(ca);
    } else if (moved && !ca->contact_tried) {
        update_contact(ca);
    } else {
        ca_prepared(ca, NULL);
    }
}

void account_prepare(struct ca *ca)
{
    if (ca->state != CA_COLD && (ca->state != CA_READY || directory_fresh(ca)))
        return;
    struct arena *a = arena_new(4096);
    const char *err = load_all(ca, a);
    if (err)
        give_up_text(ca, ACME_LOCAL, "account", err);
    else
        next_step(ca);
    arena_free(&a);
}

void account_fini(struct ca *ca)
{
    wire_cancel(&ca->wire);
    EVP_PKEY_free(ca->key);
    EVP_PKEY_free(ca->new_key);
    ca->key = ca->new_key = NULL;
    free(ca->email);
    ca->email = NULL;
    arena_free(&ca->directory.arena);
}
