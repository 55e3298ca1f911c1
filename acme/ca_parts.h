/*
 * ca_parts.h - what the parts of the CA share, and nobody else: ca.c (calls and pauses), ca_wire.c
 * (one signed exchange), ca_read.c (an answer), ca_account.c (directory, account and its keys).
 */
#ifndef HG_CA_PARTS_H
#define HG_CA_PARTS_H

#include "acme/ca.h"
#include "base/fetch.h"
#include "base/loop.h"

#define CA_NONCES    8
#define CA_NONCE_MAX 256
#define CA_URL_MAX   2048

/* What the CA as a whole is about; calls run in CA_READY only, all others wait. */
enum ca_state {
    CA_COLD, /* the next call begins with what is missing */
    CA_DIRECTORY,
    CA_ASKING_NEW, /* a key change was interrupted: does the CA know the new key? */
    CA_ASKING,     /* does it know the key that we found? */
    CA_REGISTERING,
    CA_CONTACT, /* the address changed */
    CA_READY,
    CA_ROLLING, /* the account's key is being changed: nothing else may run */
    CA_CLOSED,
};

struct ca {
    struct arena *arena; /* holds this struct and the spec */
    struct ca_spec spec;
    const char *folder, *key_path, *new_key_path, *account_path;
    enum ca_state state;

    struct ca_directory {
        struct arena *arena; /* holds the strings; NULL: not read yet */
        const char *urls[CA_RESOURCES];
        struct str *profiles;
        unsigned n_profiles;
        bool lists_profiles, wants_eab;
        uint64_t at; /* loop ms */
    } directory;

    EVP_PKEY *key, *new_key; /* new_key: stored aside, unknown whether the CA took it */
    char kid[CA_URL_MAX + 1];
    char *email;        /* what the CA knows; NULL: unknown */
    bool asked;         /* the CA does not know our key */
    bool contact_tried; /* once a start */
    struct wire *wire;  /* of the account's steps */

    char nonces[CA_NONCES][CA_NONCE_MAX];
    unsigned n_nonces;
    int64_t paused_until; /* wall clock s */
    unsigned pauses;      /* in a row, without a word how long */
    struct acme_fail problem;

    struct list waiting, running; /* struct ca_call */
    struct turn_task pump;
};

/* ---- ca.c ---- */
void ca_enter(struct ca *ca, enum ca_state state);
/* CA_READY was entered, or the way there failed: what waits is run, or told. */
void ca_prepared(struct ca *ca, const struct acme_fail *fail);
/* Each answer of the CA, good or bad; a pause is written into *fail. */
void ca_heard(struct ca *ca, struct acme_fail *fail);

/* ---- ca_read.c ---- */
/* Strings are the answer's; the caller frees a->json. */
void ca_read(const struct ca *ca, const char *step, const struct fetch_answer *f,
             struct ca_answer *a, struct acme_fail *fail);

/* ---- ca_wire.c: needs the directory for signed ones, no account ---- */
struct wire;
/* All borrowed until wire_start returns, but `key`, which is counted. */
struct wire_spec {
    const char *url;
    EVP_PKEY *key;   /* NULL: GET, unsigned */
    const char *kid; /* NULL: the key itself is sent */
    struct str payload;
    const char *step;
    bool aside; /* its failure says nothing of the CA's other parts */
};
/* Never calls `done` before it returned. */
struct wire *wire_start(struct ca *ca, const struct wire_spec *spec, ca_done *done, void *ctx);
void wire_cancel(struct wire **w); /* fine on NULL */

/* ---- ca_account.c ---- */
extern const char account_closed_hint[];
/* Does what is missing, step by step, then ca_prepared; nothing when it is under way. */
void account_prepare(struct ca *ca);
void account_lost(struct ca *ca); /* the CA does not know it any more */
/* A new key, stored aside, and what the CA is to be told (in a). NULL or a sentence. */
const char *account_roll_begin(struct ca *ca, struct arena *a, struct str *payload) MUST_USE;
/* The CA's answer to it; NULL: it agreed. */
void account_roll_end(struct ca *ca, const struct acme_fail *fail);
void account_fini(struct ca *ca);

#endif
