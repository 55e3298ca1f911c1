/*
 * agent_certs.c - a certificate as a sealed memfd: its key passes through no file and no message.
 * Who makes certificates is acme/'s.
 */
#include "proxy/agent_certs.h"

#include <unistd.h>

#include "base/file.h"
#include "proxy/tls.h"

const char *agent_cert_send(struct msg_peer *master, struct str host, struct str pem,
                            int64_t not_after, enum agent_issuer issuer)
{
    const char *err;
    struct tls_cert *cert = tls_cert_parse(pem, pem, &err);
    if (!cert)
        return err;
    struct msg_cert m = {.not_after = (uint64_t)not_after, .issuer = issuer};
    memcpy(m.digest, tls_cert_digest(cert), sizeof(m.digest));
    tls_cert_unref(&cert);
    int fd = file_memfd("headgate-cert", pem);
    if (fd < 0)
        return err_of_errno(errno);
    msg_send(master, MSG_CERT, &m, host, fd);
    close(fd);
    return NULL;
}
