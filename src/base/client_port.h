/*
 * client_port.h
 *		The server's end of a client's connection (struct Port), without the
 *		headers of GSSAPI, which a machine that builds extensions need not have.
 *
 * A server with GSSAPI and one without have the same struct Port: it keeps a
 * pointer's place "for extension ABI compatibility", as libpq-be.h says.  Include
 * it before any header that might include that one.
 */
#ifndef SENTIENT_CLIENT_PORT_H
#define SENTIENT_CLIENT_PORT_H

#undef ENABLE_GSS

#include "libpq/auth.h"
#include "libpq/libpq-be.h"

#endif							/* SENTIENT_CLIENT_PORT_H */
